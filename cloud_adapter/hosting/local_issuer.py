"""Runs a ``TokenIssuer`` in a thread of this process, for a server on the same machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn

from cloud_adapter.hosting.dev_server import in_thread
from cloud_adapter.sockets import listen
from cloud_adapter.token_issuer import TokenIssuer
from cloud_adapter.uvicorn_config import server_config

LOCAL = "127.0.0.1"


@contextlib.contextmanager
def running_issuer() -> Iterator[TokenIssuer]:
    """Yields an issuer with a new key, which only programs on this machine can reach while the body runs."""
    with listen(LOCAL, 0) as listener:
        issuer = TokenIssuer(f"http://{LOCAL}:{listener.getsockname()[1]}")
        config = server_config(issuer.app())
        with in_thread(uvicorn.Server(config), listener):
            yield issuer
