"""The sockets and ports that servers listen on."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

from cloud_adapter.errors import SettingsError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        SettingsError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then asyncio sets TCP_NODELAY, without which each response takes 40 ms.
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except (OSError, OverflowError, ValueError) as error:  # the port is taken, or none; the name cannot be one
            why = getattr(error, "strerror", None) or error
            raise SettingsError(f"cannot listen on {host}:{port}: {why}; choose another --port or --host") from None
        stack.pop_all()
        return listener


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 for programs that are about to start.

    They lie below those that systems give to outgoing connections: one of these could take a port before a program that
    starts slowly does.

    Raises:
        SettingsError: there are not so many.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        if len(found) == count:
            return found
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    raise SettingsError("there are too few free ports between 20000 and 32000 on 127.0.0.1: end what listens there")
