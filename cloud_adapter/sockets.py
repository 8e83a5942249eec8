"""The sockets and ports that servers listen on."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

from cloud_adapter.errors import SettingsError


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Port 0 selects a free port.

    Raises:
        SettingsError: listening there is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is passed explicitly: asyncio sets TCP_NODELAY only then, and without it each response takes 40 ms.
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except (OSError, OverflowError, ValueError) as error:  # port in use, invalid port, invalid host name
            why = getattr(error, "strerror", None) or error
            raise SettingsError(f"cannot listen on {host}:{port}: {why}. Choose another --port or --host") from None
        stack.pop_all()
        return listener


def free_ports(count: int) -> list[int]:
    """Returns free ports of 127.0.0.1 for programs that are about to start.

    The ports are below the range for outgoing connections: otherwise, such a connection could take a port before a slow
    program listens on it.

    Raises:
        SettingsError: fewer ports are free.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):  # nosec B311 # no secret
        if len(found) == count:
            return found
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    raise SettingsError("too few free ports between 20000 and 32000 on 127.0.0.1: stop programs that listen there")
