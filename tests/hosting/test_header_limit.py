"""The development server limits the size of headers. In the cloud, the load balancer in front of it does."""

from __future__ import annotations

import socket
from pathlib import Path

from pizza import PizzaOrder

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen


def test_headers_that_do_not_end_are_refused(tmp_path: Path) -> None:
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    with (
        running([PizzaOrder], Settings(db=tmp_path / "headers.db"), listener),
        socket.create_connection(address, timeout=10) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 100_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
