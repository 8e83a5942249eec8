"""The thread that uses a connection. This module does not depend on SQLite.

``ThreadPoolExecutor`` and asyncio each make a future, with locks of its own, for every call. Together they take longer
than a small commit. Writes, which are frequent, therefore use ``OneThread.put``, which makes none. All other calls use
``submit``, as of any other executor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar
from weakref import finalize

P = ParamSpec("P")
T = TypeVar("T")

_Calls = SimpleQueue[Callable[[], object] | None]


class OneThread(Executor):
    """Makes calls one after another in a thread of its own. The thread does not keep the process from ending.

    Args:
        name: the name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: _Calls = SimpleQueue()
        self._thread = threading.Thread(target=_make_all, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        finalize(self, self._calls.put, None)

    def put(self, call: Callable[[], object]) -> None:
        """Makes a call, which must not raise. Calls after ``shutdown`` are not made."""
        self._calls.put(call)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See ``Executor.submit``."""
        future: Future[T] = Future()
        self.put(partial(_fulfil, future, partial(function, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the thread after all earlier calls; ``cancel_futures`` is ignored."""
        self._calls.put(None)
        if wait:
            self._thread.join()


def _make_all(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # so that what it refers to can be freed while the thread waits


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
        del future  # breaks the cycle of the future, its error, and this frame in the error's traceback
    else:
        future.set_result(result)
