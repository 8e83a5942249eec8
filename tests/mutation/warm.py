"""A process that has collected the tests once, and forks a child for each trial: ``python -m tests.mutation.warm``.

To import the product and all tests takes much longer than the few tests that find most mutants. The child makes the
change in the imported modules, see ``patching``.

Requests and replies are lines of JSON, see ``Request`` and ``Reply``. It runs in a copy of the project.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal, NoReturn, cast

import pytest
from _pytest.tmpdir import TempPathFactory

from tests.mutation.coverage_map import SUITES, emulated
from tests.mutation.patching import functions_below, patched

OPTIONS = ("-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", "--timeout", "30", "--no-header")
"""The options of pytest in all trials."""

SECONDS_MAX = 600.0
"""How long a trial may take."""

READY = "ready"
"""The first line of the replies: the modules are imported, so the files may be changed."""

TEST_SECONDS_MAX = 90.0
"""How long a test may take that ``--timeout`` did not end, because the changed code catches every error."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """A trial.

    Attributes:
        path: the file that the mutant changes, relative to the copy. The copy has the change already.
        original: the file's text without the change.
        tests: the ids of the tests to run until one fails.
        seeds: how many seeds of the simulation to run instead of tests.
        last: end after this test.
    """

    path: str
    original: str
    tests: tuple[str, ...]
    seeds: int
    last: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a trial.

    Attributes:
        end: ``unable`` means that the change cannot be made in imported modules.
        by: the test that has failed, or what the simulation has said.
        error: the error of that test.
    """

    end: Literal["passed", "failed", "unable", "hung"]
    by: str = ""
    error: str = ""


class Server:
    """The plugin that serves requests instead of running the tests."""

    def __init__(self, requests: IO[str], replies: IO[str]) -> None:
        self.requests = requests
        self.replies = replies
        self.failed: Callable[[Reply], object] | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serves requests until there are no more."""
        places = {item.nodeid: place for place, item in enumerate(session.items)}
        live = functions_below(Path.cwd())
        gc.collect()
        gc.freeze()
        print(READY, file=self.replies, flush=True)
        for line in self.requests:
            request = Request(**json.loads(line))

            def run(request: Request = request) -> Reply:
                file = Path(request.path).absolute()
                if not patched(file, request.original.encode(), file.read_bytes(), live):
                    return Reply("unable")
                if request.seeds:
                    return _simulate(request.seeds)
                # The tests of a file stay in their order: some depend on what those before them have left behind.
                files = list(dict.fromkeys(test.partition("::")[0] for test in request.tests))
                tests = [test for test in request.tests if test in places]
                tests.sort(key=lambda test: (files.index(test.partition("::")[0]), places[test]))
                if request.last in tests:
                    del tests[tests.index(request.last) + 1 :]
                return self._run([session.items[places[test]] for test in tests])

            print(json.dumps(asdict(_in_child(run))), file=self.replies, flush=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Ends the trial at the first test that fails."""
        if report.failed and self.failed is not None:
            self.failed(Reply("failed", report.nodeid, report.longreprtext[-3000:]))

    def _run(self, items: list[pytest.Item]) -> Reply:
        def failed(reply: Reply) -> NoReturn:
            raise _Failed(reply)

        self.failed = failed
        os.environ |= emulated(item.nodeid for item in items)
        with TemporaryDirectory() as folder:
            try:
                for item, following in zip(items, [*items[1:], None], strict=True):
                    factory = cast("TempPathFactory", item.config._tmp_path_factory)  # type: ignore[attr-defined]
                    factory._basetemp = Path(folder)
                    faulthandler.dump_traceback_later(TEST_SECONDS_MAX, exit=True)
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            except _Failed as failure:
                return failure.reply
            finally:
                faulthandler.cancel_dump_traceback_later()
        return Reply("passed")


class _Failed(BaseException):
    def __init__(self, reply: Reply) -> None:
        self.reply = reply


def _simulate(seeds: int) -> Reply:
    from tests.simulation.failures import first_failure, prepare

    prepare(None)
    failure = first_failure(range(seeds))
    return Reply("passed") if failure is None else Reply("failed", f"seed {failure.scenario.seed}: {failure.error}")


def _in_child(run: Callable[[], Reply]) -> Reply:
    """Runs something in a child, which is killed with all that it has started."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _serve_once(run, writing)
    os.close(writing)
    until = time.monotonic() + SECONDS_MAX
    ended = 0
    while not ended and time.monotonic() < until:
        ended, _ = os.waitpid(child, os.WNOHANG)
        time.sleep(0 if ended else _POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        text = pipe.read() if ended else ""
    if not ended:
        return Reply("hung")
    return Reply(**json.loads(text)) if text else Reply("failed", "the process of the tests has died")


def _serve_once(run: Callable[[], Reply], writing: int) -> NoReturn:
    os.setsid()
    try:
        reply = run()
    except BaseException as error:  # such as an error of pytest itself
        reply = Reply("failed", repr(error)[:500])
    os.write(writing, json.dumps(asdict(reply)).encode())
    os._exit(0)


def main() -> int:
    """Serves requests from the standard input."""
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return pytest.main([*OPTIONS, "-s", *SUITES], plugins=[Server(requests, replies)])


if __name__ == "__main__":
    sys.exit(main())
