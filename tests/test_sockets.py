"""The sockets of the development server."""

from __future__ import annotations

import socket

import pytest

from cloud_adapter.errors import SettingsError
from cloud_adapter.sockets import listen


def test_asyncio_can_see_that_it_is_tcp() -> None:
    # Without that it does not set TCP_NODELAY on connections, and every response takes 40 ms.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[1] > 0


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*another --port"):
            listen("127.0.0.1", port)
