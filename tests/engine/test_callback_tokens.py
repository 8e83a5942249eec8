"""The tokens of callback URLs: valid for one target, until they expire, with every key of the ring."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cloud_adapter.callbacks import PARAMETER, Callbacks, Keys
from cloud_adapter.errors import InvalidCredential, SettingsError
from gorchestrate.testing.clock import ManualClock
from workflow_core import Callback

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 40
TARGET = Callback("shop", "order/1", "Paid?", None, "main@3", "nonce")
ADDRESS: tuple[Any, ...] = ("shop", "order/1", "Paid?", None, "main@3")


def signed(clock: ManualClock, *keys: bytes, target: Callback = TARGET) -> str:
    """A token for the target."""
    url = Callbacks(Keys(keys), "https://a.b/c", clock).url(target, timedelta(minutes=1))
    assert url.startswith("https://a.b/c/wf/shop/order%2F1/Paid%3F?wait_id=main%403&callback=v1.")
    return parse_qs(urlsplit(url).query)[PARAMETER][0]


def read(clock: ManualClock, token: str, *keys: bytes, address: tuple[Any, ...] = ADDRESS) -> Callback:
    return Callbacks(Keys(keys), "", clock).read(token, *address)


def test_it_is_valid_until_it_expires() -> None:
    clock = ManualClock()
    token = signed(clock, OLD)
    found = read(clock, token, OLD)
    assert replace(found, expires_at=None) == TARGET
    assert found.expires_at is not None
    assert timedelta(seconds=59) < found.expires_at - clock.now() <= timedelta(minutes=1)
    clock.jump(60)
    with pytest.raises(InvalidCredential, match="expired at"):
        read(clock, token, OLD)


def test_keys_are_rotated() -> None:
    clock = ManualClock()
    token = signed(clock, OLD)
    assert read(clock, token, NEW, OLD)
    assert read(clock, signed(clock, NEW, OLD), NEW)
    for keys in ((), (NEW,), (OTHER, NEW)):
        with pytest.raises(InvalidCredential, match="not valid"):
            read(clock, token, *keys)


@pytest.mark.parametrize(
    "address",
    [
        ("shop2", *ADDRESS[1:]),
        ("shop", "order/2", *ADDRESS[2:]),
        (*ADDRESS[:2], "Paid", *ADDRESS[3:]),
        (*ADDRESS[:3], "main", "main@3"),
        (*ADDRESS[:3], "main@3", None),
        (*ADDRESS[:4], "main@4"),
        (*ADDRESS[:4], None),
        ("shop", "order/1", "Paid?", "", "main@3"),
        ("shop/order", "1", *ADDRESS[2:]),
    ],
)
def test_it_is_for_one_target(address: tuple[Any, ...]) -> None:
    clock = ManualClock()
    with pytest.raises(InvalidCredential, match="not valid"):
        read(clock, signed(clock, OLD), OLD, address=address)


def test_no_change_of_it_is_accepted() -> None:
    clock = ManualClock()
    token = signed(clock, OLD)
    version, key, expiry, nonce, mac = token.split(".")
    later = str(int(expiry) + 1)
    changed = [
        token[:-1],
        token + "=",
        token + "A",
        token.upper(),
        f" {token}",
        f"{token}\N{FULLWIDTH DIGIT ONE}",
        "\udcff",
        "",
        "....",
        *(
            ".".join(parts)
            for parts in [
                (version, key, later, nonce, mac),
                (version, key, f"0{expiry}", nonce, mac),
                (version, key, "\N{FULLWIDTH DIGIT ONE}" + expiry[1:], nonce, mac),
                (version, key, expiry, "", mac),
                (version, key, expiry, "other", mac),
                (version, "", expiry, nonce, mac),
                ("v2", key, expiry, nonce, mac),
                (version, key, expiry, nonce, ""),
                (version, key, expiry, nonce, signed(clock, OTHER).split(".")[4]),
                (version, key, expiry, mac),
                (version, key, expiry, nonce, mac, ""),
            ]
        ),
        *(token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token))),
    ]
    for text in changed:
        with pytest.raises(InvalidCredential, match="not valid"):
            read(clock, text, OLD)


@pytest.mark.parametrize(("keys", "url", "missing"), [((), "https://a.b", "CALLBACK_KEYS"), ((OLD,), "", "PUBLIC_URL")])
def test_what_is_not_set_is_named(keys: tuple[bytes, ...], url: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"needs .*GORCHESTRATE_{missing}"):
        Callbacks(Keys(keys), url, ManualClock()).url(TARGET, timedelta(days=1))
