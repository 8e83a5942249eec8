"""Trailers of a chunked body are no headers of its request, also if httptools is installed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pizza import PizzaOrder

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen

KEY = new_key()
REQUEST = "{method} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailer}\r\n\r\n"


def statuses(address: tuple[str, int], *requests: str) -> list[int]:
    found = []
    for request in requests:
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(request.encode())
            found.append(int(connection.recv(100).split()[1]))
    return found


def test_a_credential_in_a_trailer_is_none(tmp_path: Path) -> None:
    listener = listen("127.0.0.1", 0)
    authentication = Authentication((ApiKey(StoredKey("till", key_hash(KEY), ["till"])),))
    settings = Settings(db=tmp_path / "trailers.db", remote_clients=True)
    address = listener.getsockname()
    with running([PizzaOrder], settings, listener, authentication=authentication):
        header = REQUEST.format(method="GET /wf/pizza", trailer="X: 1").replace(
            "Host", f"Authorization: Bearer {KEY}\r\nHost"
        )
        trailer = REQUEST.format(method="GET /wf/pizza", trailer=f"Authorization: Bearer {KEY}")
        assert statuses(address, header, trailer) == [403, 401]  # the holder of the key may not list orders


def test_an_address_in_a_trailer_has_no_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    with running([PizzaOrder], Settings(db=tmp_path / "trailers.db", rate_limit="2/h"), listener):
        monkeypatch.setenv("K_SERVICE", "api")  # there, X-Forwarded-For has the address
        requests = [
            REQUEST.format(method="GET /wf/pizza", trailer=f"X-Forwarded-For: 192.0.2.{last}") for last in range(3)
        ]
        assert statuses(address, *requests) == [200, 200, 429]
