"""Prepares a process on Cloud Run for its first request, while its ``main.py`` is imported.

Cloud Run sends requests once the server listens, which is after the import. What is prepared here delays no request,
and waiting for the network overlaps with imports.

Theory of operation. functions-framework imports ``main.py`` and then forks the process that serves. gRPC channels and
threads do not survive a fork, so no channel is opened here, and a thread hands over only what it has finished.
All imports are made by the main thread, because a lock of the import system that another thread holds would stay
locked after the fork. Preparing never fails: the first request does by itself what is missing, and gets the error of
its own attempt.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING, Final

from cloud_adapter.hosting.garbage import collect_rarely
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

WAIT_SECONDS_MAX: Final = 2.0
"""How long the start may wait for the network, counted from its beginning."""

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)

MODULES: Final = (
    "cloud_adapter.hosting.cloud",
    "cloud_adapter.http.api",
    "cloud_adapter.http.auth",
    "cloud_adapter.http.worker",
    "cloud_adapter.queues.cloud_tasks_client",
    "cloud_adapter.stores.firestore.store",
)
"""What the first requests need, with Google's clients."""

_logger = logging.getLogger("gorchestrate.hosting")


class WarmUp:
    """What was prepared.

    Attributes:
        credentials: the application default credentials, with an access token; None: they could not be found in time,
            or an emulator is used.
    """

    def __init__(self) -> None:
        self.credentials: Credentials | None = None

    def run(self, fetches: Iterable[Callable[[], object]], modules: Iterable[str] = MODULES) -> None:
        """Imports the modules, and makes the calls and finds the credentials in the meantime. From then on, garbage is
        collected rarely.

        Args:
            fetches: wait for the network. Each is called in a thread of its own, and must not import anything.
        """
        until = time.monotonic() + WAIT_SECONDS_MAX
        calls = [*fetches]
        if FIRESTORE_EMULATOR_VARIABLE not in os.environ and _imported("google.auth.transport.requests"):
            _imported("google.auth.compute_engine")
            calls.append(self._find_credentials)
        threads = [Thread(target=_quietly, args=(call,), name="warm-up", daemon=True) for call in calls]
        for thread in threads:
            thread.start()
        for module in modules:
            _imported(module)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        collect_rarely()  # before the fork: a collection would copy the memory that the processes share

    def _find_credentials(self) -> None:
        import google.auth
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default(scopes=SCOPES)
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
        self.credentials = credentials


def _imported(module: str) -> bool:
    return _quietly(lambda: importlib.import_module(module))


def _quietly(call: Callable[[], object]) -> bool:
    """Makes a call, and returns whether it succeeded. Its error is only a hint: the first request gets its own."""
    try:
        call()
    except Exception as error:
        _logger.info("not prepared before the first request: %s: %s", type(error).__name__, error)
        return False
    return True
