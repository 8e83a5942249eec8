"""Runs a program with the library and with asyncio, and compares: ``python -m tests.plain.compared --seeds 5000``."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.plain.programs import source
from workflow_core import DefinitionError, Execution, Status
from workflow_core.machine.machine import Machine
from workflow_core.machine.stored_values import unfit_values
from workflow_core.program.cases import EventCase, SelectOp

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS_MAX = 600
CPU_SECONDS_MAX = 20.0
"""For one program, in both forms, with its import."""

CHUNK = 100


def modules(seeds: range, folder: Path) -> tuple[Any, Any]:
    """Returns the programs of some seeds, for asyncio and for the library."""
    return tuple(_module(seeds, folder, words) for words in ("asyncio_words", "library_words"))


def _module(seeds: range, folder: Path, words: str) -> Any:
    path = folder / f"{words}_{seeds.start}.py"
    path.write_text(source(seeds, f"tests.plain.{words}"))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def script_of(seed: int) -> list[int]:
    """The choices at selects."""
    chooser = random.Random(seed)
    return [chooser.randrange(6) for _ in range(200)]


def with_asyncio(cls: Any, seed: int) -> dict[str, Any]:
    """Runs a program with asyncio. Returns its fields and its error."""
    instance = cls(script_of(seed))
    error = None
    try:
        asyncio.run(instance.run())
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"a": instance.a, "b": instance.b, "items": instance.items, "log": instance.log, "error": error}


def with_library(cls: Any, seed: int) -> dict[str, Any]:
    """Runs a program with the library, and loads the instance anew from its stored form after each transition. The code
    must be able to use whatever it has stored."""
    script = script_of(seed)
    workflow, execution = cls(), Execution.start("x", cls)
    error: str | None = None
    for _ in range(STEPS_MAX):
        stored = workflow.dump_fields(), execution.to_json()
        workflow, execution = cls.load_fields(stored[0]), Execution.from_json(stored[1])
        machine = Machine(workflow, execution, NOW, True)
        assert [*unfit_values(machine.program, execution)] == []  # new code that differs elsewhere must go on
        try:
            if not _move(machine, script):
                break
        except _Failed as failed:
            error = str(failed)
            break
    else:
        raise AssertionError("it does not end")
    if execution.status is Status.FAILED and error is None:
        assert execution.error is not None
        error = execution.error.text
    fields = workflow
    return {"a": fields.a, "b": fields.b, "items": fields.items, "log": fields.log, "error": error}


class _Failed(Exception):
    pass


def _move(machine: Machine, script: list[int]) -> bool:
    work = machine.next_work()
    if work is None:
        return _happen(machine, script)
    try:
        result = machine.call(work)
        if hasattr(result, "__await__"):
            result = asyncio.run(_awaited(result))
        machine.handle_result(work, result)
    except Exception as raised:
        _finish(partial(machine.give_up, work, raised))
        return True
    _finish(partial(machine.done, work, result))
    return True


def _finish(report: Callable[[], None]) -> None:
    """Reports how work has ended. What the code behind it raises, and nobody catches, is the error of the program."""
    try:
        report()
    except Exception as error:
        raise _Failed(f"{type(error).__name__}: {error}") from None


async def _awaited(result: Any) -> Any:
    return await result


def _happen(machine: Machine, script: list[int]) -> bool:
    for thread in machine.execution.threads if machine.execution.live else ():
        instruction = machine.program.at(thread.step)
        if isinstance(instruction, SelectOp):
            cases = list(instruction.cases.values())
            case = cases[script.pop(0) % len(cases)]
            found = machine.accept(case.event)
            takes = isinstance(case, EventCase) and case.takes_input
            value = cases.index(case) + 5 if takes else None
            try:
                machine.handle(found, value)
                machine.handled(found)
            except Exception as error:
                raise _Failed(f"{type(error).__name__}: {error}") from error
            return True
    return False


class DoesNotEnd(BaseException):
    """A program has used up its time. No ``except`` of a program catches it."""


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes more time of this process than a program ever needs: the next program must get its turn.

    Raises:
        DoesNotEnd: it does.
    """

    def end(number: int, frame: Any) -> None:
        raise DoesNotEnd

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def differences(first: int, seeds: int) -> list[str]:
    """Returns what differs, for each program that gives something else."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + seeds):
            try:
                with limited():
                    found += _difference(seed, Path(folder))
            except (DoesNotEnd, DefinitionError) as error:
                found.append(f"{seed}: {type(error).__name__}: {error}")
    return found


def _difference(seed: int, folder: Path) -> list[str]:
    plain, library = modules(range(seed, seed + 1), folder)
    cls = f"W{seed}"
    expected = with_asyncio(getattr(plain, cls), seed)
    given = with_library(getattr(library, cls), seed)
    if hasattr(getattr(plain, cls), "has_branches"):  # the order of branches is not the same
        expected["log"].sort()
        given["log"].sort()
    return [] if expected == given else [f"{seed}:\n  asyncio {expected}\n  library {given}"]


def _differences(chunk: tuple[int, int]) -> list[str]:
    return differences(*chunk)


def main() -> None:
    """Compares some programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print the first program")
    options = parser.parse_args()
    if options.show:
        print(source(range(options.first, options.first + 1), "tests.plain.library_words"))
    starts = range(options.first, options.first + options.seeds, CHUNK)
    chunks = [(start, min(CHUNK, options.first + options.seeds - start)) for start in starts]
    count = 0
    # Classes are never freed, so each process makes only some.
    with multiprocessing.Pool(options.jobs, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(_differences, chunks):
            count += len(found)
            for difference in found:
                print(difference, flush=True)
    print(f"{options.seeds} programs, {count} differences")
    sys.exit(bool(count))


if __name__ == "__main__":
    main()
