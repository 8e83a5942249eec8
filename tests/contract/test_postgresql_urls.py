"""The URLs of PostgreSQL databases: which are read, and what messages show of them."""

from __future__ import annotations

import pytest

from cloud_adapter.cli.stores import shown_store
from cloud_adapter.errors import SettingsError
from cloud_adapter.postgresql.connections import read_url
from cloud_adapter.settings import Settings


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://localhost/x", "begins with postgresql://"),
        ("postgresql://localhost:x/y", "A port is a number"),
        ("postgresql://localhost/x?connections=0", "connections=0"),
        ("postgresql://localhost/x?connections=many", "connections=many"),
        ("postgresql://localhost/x?prepared_statements=maybe", "prepared_statements=maybe"),
    ],
)
def test_a_wrong_url_is_rejected(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_url(url)


@pytest.mark.parametrize(
    "password", ["geheim#1", "geheim/1", "geheim?1", "geheim@1", "geheim[1", "12#geheim", "12/x@geheim"]
)
def test_a_password_that_is_not_encoded_is_rejected_and_not_shown(password: str) -> None:
    url = f"postgresql://ann:{password}@db.example/orders"
    with pytest.raises(SettingsError, match="%23 for '#'") as caught:
        read_url(url)
    for text in (str(caught.value), Settings(db=url).database_place, shown_store(url)):
        assert "geheim" not in text
        assert "12" not in text


def test_a_url_with_several_hosts_is_read() -> None:
    url = "postgresql://ann:secret@one.example:5432,[::1]:6432/orders?target_session_attrs=primary"
    assert read_url(url)[:2] == ("postgresql://one.example:5432,[::1]:6432/orders", url)


def test_a_database_whose_name_has_an_at_sign_is_read_and_not_shown() -> None:
    url = "postgresql://ann:secret@db.example/d@b"  # the password may be 'secret@db.example/d', and the host b
    assert read_url(url)[:2] == ("postgresql://...", url)
    assert (Settings(db=url).database_place, shown_store(url)) == ("postgresql://...", "postgresql://...")
    with pytest.raises(SettingsError, match=r"the name of the database as their codes: %40 for '@'"):
        read_url("postgresql://db.example/d@b")


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ("db.example:", "db.example:5432"),
        ("[::1]", "[::1]:5432"),
        ("one,two:6432", "one:5432,two:6432"),
        ("one,[::1]:6432", "one:5432,[::1]:6432"),
    ],
)
def test_hosts_are_shown_with_their_ports(hosts: str, shown: str) -> None:
    assert read_url(f"postgresql://ann@{hosts}/orders")[0] == f"postgresql://{shown}/orders"


def test_a_url_is_read() -> None:
    place, dsn, options = read_url(
        "postgresql://ann:s%40crt@db.example:6432/orders?connections=3&prepared_statements=off&sslmode=require"
    )
    assert place == "postgresql://db.example:6432/orders"
    assert dsn == "postgresql://ann:s%40crt@db.example:6432/orders?sslmode=require"
    assert options == {"max_size": 3, "statement_cache_size": 0}
    assert read_url("postgres://ann@/orders?host=%2Fcloudsql%2Fp%3Ar%3Ai")[0] == "postgresql:///cloudsql/p:r:i/orders"
    assert read_url("postgresql:///orders")[0] == "postgresql://localhost:5432/orders"
    assert read_url("postgresql://[::1]:6432/orders")[0] == "postgresql://[::1]:6432/orders"
    assert read_url("postgresql://db.example/x?user=a@p.iam")[0] == "postgresql://db.example:5432/x"
