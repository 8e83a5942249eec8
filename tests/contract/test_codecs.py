"""The Codec port: what each codec promises. Cloud KMS is replaced at the interface of its client."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from google.api_core import exceptions as api_exceptions
from google.auth import exceptions as auth_exceptions

from cloud_adapter.codecs import kms
from cloud_adapter.codecs.chain import Chain
from cloud_adapter.codecs.fernet import FernetCodec, new_key
from cloud_adapter.codecs.kms import LIFETIME, PURPOSE, UNWRAPPED_MAX, KmsCodec
from cloud_adapter.errors import SecretsUnreadable, Unavailable
from cloud_adapter.ports import Codec
from gorchestrate.testing.clock import ManualClock

exceptions: Any = api_exceptions
auth: Any = auth_exceptions
KEY_NAME = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
CONTEXT = '["vault", "id-1", "login"]'
TEXTS = (b"", b"hunter2", "päss\x00wörd".encode(), bytes(range(256)), b"x" * 100_000)


@dataclass
class FakeKms:
    """Cloud KMS, as its client shows it.

    Attributes:
        keys: the keys that it has.
        calls: how many calls it got, by their names.
        seen: the requests.
        error: raised by every call, if it is set.
    """

    keys: Mapping[str, Fernet] = field(default_factory=lambda: {KEY_NAME: Fernet(Fernet.generate_key())})
    calls: Counter[str] = field(default_factory=Counter)
    seen: list[Any] = field(default_factory=list)
    error: Exception | None = None
    closed: bool = False

    async def encrypt(self, *, request: dict[str, Any], **limits: Any) -> Any:
        key = await self._called("encrypt", request, "plaintext")
        return SimpleNamespace(ciphertext=key.encrypt(request["additional_authenticated_data"] + request["plaintext"]))

    async def decrypt(self, *, request: dict[str, Any], **limits: Any) -> Any:
        key = await self._called("decrypt", request, "ciphertext")
        try:
            text = key.decrypt(request["ciphertext"])
        except InvalidToken:
            raise exceptions.InvalidArgument("decryption failed: 'name' is another key") from None
        assert text.startswith(request["additional_authenticated_data"])
        return SimpleNamespace(plaintext=text.removeprefix(request["additional_authenticated_data"]))

    async def _called(self, name: str, request: dict[str, Any], content: str) -> Fernet:
        assert request.keys() == {"name", content, "additional_authenticated_data"}
        assert request["additional_authenticated_data"] == PURPOSE
        self.calls[name] += 1
        self.seen.append(request)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if request["name"] not in self.keys:
            raise exceptions.NotFound("no such key")
        return self.keys[request["name"]]

    @property
    def transport(self) -> Any:
        async def close() -> None:
            self.closed = True

        return SimpleNamespace(close=close)


def kms_codec(client: FakeKms | None = None, clock: ManualClock | None = None) -> KmsCodec:
    return KmsCodec(KEY_NAME, clock or ManualClock(), client or FakeKms())


MAKES: Mapping[str, Callable[[], Codec]] = {
    "fernet": lambda: FernetCodec([new_key(), new_key()]),
    "kms": kms_codec,
    "chain": lambda: Chain({"kms": kms_codec(), "fernet": FernetCodec([new_key()])}),
}
each_codec = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


@each_codec
@pytest.mark.anyio
async def test_what_comes_back_is_what_was_encrypted(make: Callable[[], Codec]) -> None:
    codec = make()
    for text in TEXTS:
        sealed = await codec.encrypt(text, CONTEXT)
        assert sealed.isascii()
        assert sealed.isprintable()
        assert not {'"', "\\"} & set(sealed), "it does not grow as a JSON text"
        assert await codec.decrypt(sealed, CONTEXT) == text
    assert await codec.encrypt(b"same", CONTEXT) != await codec.encrypt(b"same", CONTEXT)
    await codec.close()


@each_codec
@pytest.mark.anyio
async def test_what_was_moved_or_changed_is_refused(make: Callable[[], Codec]) -> None:
    codec, rng = make(), random.Random(1)
    sealed = await codec.encrypt(b"hunter2", CONTEXT)
    with pytest.raises(SecretsUnreadable, match="moved here"):
        await codec.decrypt(sealed, CONTEXT.replace("id-1", "id-2"))
    for place in rng.sample(range(len(sealed) - 4), 20):  # the last characters may have bits without meaning
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(SecretsUnreadable):
            await codec.decrypt(sealed[:place] + other + sealed[place + 1 :], CONTEXT)
    for damaged in ("", "x", sealed[:10], sealed[:-8], "ä" + sealed):
        with pytest.raises(SecretsUnreadable):
            await codec.decrypt(damaged, CONTEXT)


@each_codec
@pytest.mark.anyio
async def test_another_key_does_not_fit(make: Callable[[], Codec]) -> None:
    with pytest.raises(SecretsUnreadable, match=r"GORCHESTRATE_(SECRET_KEYS|KMS_KEY)"):
        await make().decrypt(await make().encrypt(b"hunter2", CONTEXT), CONTEXT)


# --- a key ring ------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_first_key_encrypts_and_each_one_decrypts() -> None:
    old, new = new_key(), new_key()
    sealed = await FernetCodec([old]).encrypt(b"a", CONTEXT)
    assert await FernetCodec([new, old]).decrypt(sealed, CONTEXT) == b"a"
    renewed = await FernetCodec([new, old]).encrypt(b"a", CONTEXT)
    assert await FernetCodec([new]).decrypt(renewed, CONTEXT) == b"a"


# --- from one codec to another ---------------------------------------------------------------


@pytest.mark.anyio
async def test_a_text_is_decrypted_by_the_codec_that_encrypted_it() -> None:
    ring, client = FernetCodec([new_key()]), FakeKms()
    sealed = await Chain({"fernet": ring}).encrypt(b"a", CONTEXT)
    both = Chain({"kms": kms_codec(client), "fernet": ring})
    assert await both.decrypt(sealed, CONTEXT) == b"a"
    renewed = await both.encrypt(b"b", CONTEXT)
    assert await Chain({"kms": kms_codec(client)}).decrypt(renewed, CONTEXT) == b"b"
    with pytest.raises(SecretsUnreadable, match="set GORCHESTRATE_SECRET_KEYS as it was"):
        await Chain({"kms": kms_codec(client)}).decrypt(sealed, CONTEXT)
    with pytest.raises(SecretsUnreadable, match="set GORCHESTRATE_KMS_KEY as it was"):
        await Chain({"fernet": ring}).decrypt(renewed, CONTEXT)
    await both.close()
    assert client.closed


# --- Cloud KMS -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_kms_is_called_once_for_many_texts_and_never_sees_one() -> None:
    client = FakeKms()
    writer, reader = kms_codec(client), kms_codec(client)
    sealed = await asyncio.gather(*(writer.encrypt(b"hunter2", str(n)) for n in range(50)))
    for n, text in enumerate(sealed):
        assert await writer.decrypt(text, str(n)) == await reader.decrypt(text, str(n)) == b"hunter2"
    assert client.calls == {"encrypt": 1, "decrypt": 1}
    assert "hunter2" not in str(client.seen)


@pytest.mark.anyio
async def test_a_data_key_is_used_for_a_limited_time() -> None:
    client, clock = FakeKms(), ManualClock()
    codec = kms_codec(client, clock)
    first = await codec.encrypt(b"a", CONTEXT)
    clock.jump((LIFETIME - timedelta(seconds=1)).total_seconds())
    await codec.encrypt(b"a", CONTEXT)
    assert client.calls == {"encrypt": 1}
    clock.jump(1)
    second = await codec.encrypt(b"b", CONTEXT)
    assert client.calls == {"encrypt": 2}
    assert [await codec.decrypt(text, CONTEXT) for text in (first, second)] == [b"a", b"b"]
    assert client.calls == {"encrypt": 2}, "its own keys are remembered"


@pytest.mark.anyio
async def test_the_data_keys_that_are_remembered_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert UNWRAPPED_MAX > 100
    monkeypatch.setattr(kms, "UNWRAPPED_MAX", 2)
    client = FakeKms()
    sealed = [await kms_codec(client).encrypt(b"a", CONTEXT) for _ in range(3)]
    reader = kms_codec(client)
    for number in (0, 1, 0, 2, 0, 1):  # the one that was used last stays
        assert await reader.decrypt(sealed[number], CONTEXT) == b"a"
    assert client.calls["decrypt"] == 4


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (exceptions.ServiceUnavailable("503"), "Cloud KMS failed: ServiceUnavailable: 503"),
        (exceptions.DeadlineExceeded("slow"), "DeadlineExceeded"),
        (exceptions.PermissionDenied("403"), "roles/cloudkms.cryptoKeyEncrypterDecrypter"),
        (exceptions.NotFound("404"), "check GORCHESTRATE_KMS_KEY"),
        (exceptions.FailedPrecondition("disabled"), "enable the version"),
        (auth.GoogleAuthError("no credentials"), "gcloud auth"),
        (OSError("no network"), "no network"),
    ],
)
@pytest.mark.anyio
async def test_while_kms_does_not_answer_nothing_is_lost(error: Exception, fix: str) -> None:
    client = FakeKms()
    sealed = await kms_codec(client).encrypt(b"a", CONTEXT)
    codec, client.error = kms_codec(client), error
    with pytest.raises(Unavailable, match=fix):
        await codec.encrypt(b"a", CONTEXT)
    with pytest.raises(Unavailable, match=fix):
        await codec.decrypt(sealed, CONTEXT)
    client.error = None
    assert await codec.decrypt(sealed, CONTEXT) == b"a"
    assert await codec.decrypt(await codec.encrypt(b"b", CONTEXT), CONTEXT) == b"b"


@pytest.mark.anyio
async def test_without_a_call_there_is_no_connection_to_close() -> None:
    await KmsCodec(KEY_NAME, ManualClock()).close()
