"""Tracebacks, debuggers and coverage show the user's file and lines, and variables by their names."""

from __future__ import annotations

import bdb
import linecache
import sys
import traceback
from types import FrameType
from typing import Any

import pytest

from workflow_core import Execution, Status, Workflow, parallel, resume, step


class Traced(Workflow, name="traced"):
    divisor: int = 1
    log: list[str] = []

    @step
    def work(self, n: int = 0) -> int:
        return n + 1

    async def inner(self, n: int) -> int:
        x = await self.work(n)
        return x // self.divisor  # divides

    async def run(self) -> None:
        first = 1
        try:  # guards
            second = await self.work(first).named("second")
        finally:
            self.log.append("finally")
        while True:  # loops
            third = first + second
            self.log.append(str(third))  # stops here
            if third:
                break
            await self.work().named("never")
        for n in [1]:
            await self.work(n).named("in a loop")
        if first == 1:
            await self.inner(3)
        match first:
            case 1:
                await self.work().named("in a case")  # in a case
            case _:
                pass
        async with parallel() as branch:
            branch.start(self.work(3).named("branch"))
        assert first


def line(text: str) -> int:
    """The line of this file with a comment."""
    return next(n for n, found in enumerate(linecache.getlines(__file__), 1) if found.rstrip().endswith(f"# {text}"))


def drive(**fields: Any) -> tuple[Traced, Execution]:
    workflow, execution = Traced(**fields), Execution.start("x", Traced)
    resume(workflow, execution)
    return workflow, execution


def test_a_traceback_ends_with_the_line_of_the_user() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        drive(divisor=0)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[-1].filename, frames[-1].lineno, frames[-1].name) == (__file__, line("divides"), "inner")
    assert frames[-1].line == "return x // self.divisor  # divides"
    assert caught.value.__notes__ == [f"raised in line {line('divides')} of workflow 'traced'"]


class Debugger(bdb.Bdb):
    def __init__(self) -> None:
        super().__init__()
        self.stops: list[tuple[int, str, dict[str, Any]]] = []

    def user_line(self, frame: FrameType) -> None:
        if frame.f_code.co_filename == __file__ and frame.f_code.co_name in ("run", "inner"):
            self.stops.append((frame.f_lineno, frame.f_code.co_name, dict(frame.f_locals)))
        self.set_continue()


def test_a_debugger_stops_at_lines_and_sees_locals() -> None:
    debugger = Debugger()
    for text in ("stops here", "divides", "guards"):
        assert debugger.set_break(__file__, line(text)) is None
    debugger.runcall(drive)
    lines = {number: (name, variables) for number, name, variables in debugger.stops}
    assert set(lines) == {line("stops here"), line("divides"), line("guards")}
    name, variables = lines[line("stops here")]
    assert name == "run"
    assert (variables["first"], variables["second"], variables["third"]) == (1, 2, 3)
    assert isinstance(variables["self"], Traced)
    name, variables = lines[line("divides")]
    assert name == "inner"
    assert variables["x"] == 4


def test_coverage_counts_the_lines() -> None:
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename == __file__ and event == "line":
            seen.add(frame.f_lineno)
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        _, execution = drive()
    finally:
        sys.settrace(outer)
    assert execution.status is Status.FINISHED
    source = linecache.getlines(__file__)
    first = next(n for n, text in enumerate(source, 1) if "async def run" in text)
    last = next(n for n, text in enumerate(source, 1) if text.strip() == "assert first")
    never = ('await self.work().named("never")', "case _", "pass", "else:", "finally:")
    missed = [n for n in range(first + 1, last + 1) if n not in seen]
    assert [source[n - 1].strip() for n in missed if not source[n - 1].strip().startswith(never)] == []
