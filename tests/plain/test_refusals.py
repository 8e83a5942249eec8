"""What ``run`` cannot contain is refused at import, with the line and the fix."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workflow_core
from workflow_core import DefinitionError, Execution, handle_event, resume

HEAD = """
from __future__ import annotations
import asyncio, contextlib, functools, random
from typing import Any
from datetime import timedelta
from pydantic import BaseModel, SecretStr
from workflow_core import *

def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    async def outer(self: Any) -> None:
        await function(self)
    return outer

class Other(Workflow, name="other"):
    n: int = 0
    async def run(self) -> None:
        await sleep(timedelta(1))

class Rule(BaseModel):
    def __call__(self) -> bool:
        return True

class Flow(Workflow, name="flow"):
    a: int = 1
    rule: Rule = Rule()
    rows: list[dict[str, Any]] = []

    @event
    def decide(self, n: int) -> None:
        self.a = n

    @event
    def retry(self) -> None: ...

    @step
    async def work(self, n: int = 0) -> int:
        return n

    @step
    def nothing(self) -> None: ...

    @activity
    async def check(self, n: int) -> int:
        return n

    @step
    def secret(self) -> SecretStr:
        return SecretStr("x")

    def helper(self) -> int:
        return 1

    def happened(self, name: str) -> bool:
        return True

    def condition(self) -> Any:
        return lambda: True

    async def part(self, n: int) -> int:
        return await self.work(n)

    @wrapped
    async def decorated(self) -> None:
        await self.work()

    async def endless(self) -> None:
        await self.endless()

    @step
    async def step_of_none() -> None: ...

    @activity
    async def activity_of_none() -> None: ...

    @event
    def event_of_none() -> None: ...

    async def part_of_none() -> None: ...

"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Any]:
    """Returns the class ``Flow`` with a body of ``run``."""

    def made(body: str) -> Any:
        number = len(list(tmp_path.iterdir()))
        path = tmp_path / f"flow_{tmp_path.name}_{number}.py"
        lines = "".join(f"        {line}\n" for line in body.strip("\n").split("\n"))
        path.write_text(f"{HEAD}    async def run(self) -> None:\n{lines}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Flow

    return made


FIRST = HEAD.count("\n") + 2

REFUSED = {
    "a resource": ("with open('/dev/null') as file:\n    await self.work()", 0, "'with' around an await"),
    "a context": ("async with contextlib.AsyncExitStack():\n    await self.work()", 0, "only supported for branches"),
    "a comprehension": ("x = [await self.work(n) for n in range(3)]", 0, "an await in a comprehension"),
    "async for": ("async for x in self.rows:\n    pass", 0, "'async for' cannot be saved"),
    "a generator": ("yield 1", 0, "it is a generator"),
    "global": ("global G\nG = 1\nawait self.work()", 0, "'global' changes a variable"),
    "del": ("x = 1\nawait self.work()\ndel x", 2, "'del' of a local variable"),
    "except*": ("try:\n    await self.work()\nexcept* ValueError:\n    pass", 0, "'except*'"),
    "another await": ("import asyncio\nawait asyncio.sleep(1)", 1, "run cannot await"),
    "a sync method": ("await self.helper()", 0, "is not async"),
    "an event": ("await self.decide(1)", 0, "is an event"),
    "no event": ("await select(self.work)", 0, "is not an event"),
    "an unknown method": ("await self.wrok()", 0, "has no method 'wrok'"),
    "an unknown event": ("await select(self.decied)", 0, "Flow has no method 'decied'"),
    "a name twice": ("await self.work(1)\nawait self.work(2)", 1, "the name 'work' is taken by line"),
    "a loop twice": (
        "for x in range(2):\n    await self.work(x)\nfor x in range(2):\n    await self.check(x)",
        2,
        "the name 'for x' is taken",
    ),
    "recursion": ("await self.endless()", None, "calls itself"),
    "too many arguments": ("await self.work(1, 2)", 0, "too many positional arguments"),
    "starred arguments": ("await self.work(*[1])", 0, "has * or ** arguments"),
    "perhaps unassigned": (
        "if self.a:\n    x = 1\nawait self.work()\nawait self.check(x)",
        3,
        "'x' may not be assigned",
    ),
    "unassigned in a handler": (
        "try:\n    x = await self.work()\nexcept ValueError:\n    pass\nawait self.check(x)",
        4,
        "'x' may not be assigned",
    ),
    "a chain": ("x = 0 < await self.work() < 3", 0, "a chain of comparisons"),
    "no await": ("x = sleep(timedelta(1)) and await self.work()", 0, "sleep is not awaited"),
    "a step without await": ("self.work(1)", 0, "self.work is not awaited"),
    "gather of asyncio": (
        "await asyncio.gather(self.work(1), self.check(2))",
        0,
        "self.work cannot be passed to asyncio.gather",
    ),
    "a task of asyncio": ("asyncio.create_task(self.part(1))", 0, "self.part cannot be passed to asyncio.create_task"),
    "a time limit of asyncio": (
        "await asyncio.wait_for(select(self.decide), timeout=3)",
        0,
        "select cannot be passed to asyncio.wait_for",
    ),
    "an await in a function": (
        "async def inner() -> None:\n    await self.work()\nawait inner()",
        0,
        "an await in a function inside",
    ),
    "a condition that is a value": ("await until(self.a > 1)", 0, "self.a > 1 would be computed once"),
    "a condition that is a field": ("await until(self.a)", 0, "self.a would be computed once"),
    "a condition of values": ("await until(self.a > 1 or self.a)", 0, "self.a > 1 or self.a would be computed once"),
    "a secret": ("x = await self.secret()\nawait self.work()\nprint(x)", None, "it has a secret"),
    "an event with the name of an operation": (
        "await select(self.retry)",
        0,
        "the event 'retry' has the name of an operation on instances",
    ),
    "a value of a step": ("return await self.work()", 0, "run returns 'await self.work()', which nothing keeps"),
    "a value": ("if self.a:\n    return 1\nawait self.work()", 1, "run returns '1', which nothing keeps"),
    "a group": (
        "try:\n    await self.work()\nexcept ExceptionGroup as group:\n    pass",
        2,
        "'group' would be no ExceptionGroup",
    ),
    "a timeout without a time": (
        "async with timeout():\n    await self.work()",
        0,
        "timeout takes a duration or a time",
    ),
    "the value of a timeout": (
        "async with timeout(timedelta(1)) as late:\n    await self.work()",
        0,
        "timeout takes a duration or a time",
    ),
    "a sleep of a number": ("await sleep(60)", 0, "its delay is 60"),
    "a select with the timeout of a number": ("await select(self.decide, timeout=60)", 0, "its delay is 60"),
    "an until with the timeout of a text": ("await until(lambda: self.a, timeout='1h')", 0, "its delay is '1h'"),
    "a deadline of a number": ("async with timeout(60):\n    await self.work()", 0, "its delay is 60"),
    "a timeout that is awaited": ("await timeout(timedelta(1))", 0, "timeout cannot be awaited"),
    "unknown error class": ("try:\n    await self.work()\nexcept self.a:\n    pass", 2, "not known at import"),
    "parallel with a limit": (
        "async with parallel(limit=2) as branch:\n    branch.start(self.work())",
        0,
        "it has a limit, but no loop",
    ),
    "parallel with more": (
        "async with parallel() as branch:\n    if self.a:\n        branch.start(self.work())",
        1,
        "only branch.start(...) can stand",
    ),
    "gather of nothing": ("await gather()", 0, "it gathers nothing"),
    "an unknown field of a child": ("await child(Other, m=1)", 0, "'other' has no field 'm'. Available: 'n'"),
    "child without a class": ("await child('other')", 0, "child takes a workflow class"),
    "until without a condition": ("await until()", 0, "until takes one condition"),
    "a lambda with a parameter": ("await until(lambda w: w.a)", 0, "its lambda has parameters"),
    "an awaiting condition": ("await until(lambda: (await self.work()))", None, None),
    "an import that lives on": ("import json\nawait self.work()\njson.dumps(1)", 0, "the module 'json'"),
    "a function for a step": ("await self.work(lambda: 1)", 0, "it is the argument 'n' of 'work'"),
    "a function that lives on": ("f = lambda: 1\nawait self.work()\nf()", 0, "a function cannot be stored"),
    "an alias that is changed": (
        "row = self.rows[0]\nawait self.work()\nrow['x'] = 1",
        2,
        "would change a copy",
    ),
    "a target": ("self.rows[await self.work()] = {}", 0, "an await in the target of an assignment"),
    "the message of an assert": ("assert self.a, await self.work()", 0, "an await in the message of an assert"),
    "a format": ("x = f'{self.a:{await self.work()}}'", 0, "an await in this place"),
    "a field as a loop variable": ("for self.a in [1]:\n    await self.work()", 0, "its loop assigns self.a"),
    "the name of an error": (
        "try:\n    await self.work()\nexcept ValueError as e:\n    e = str(e)\n    await self.check(1)",
        2,
        "the except assigns 'e'",
    ),
    "a decorated section": ("await self.decorated()", 0, "self.decorated has a decorator"),
    "a section twice": ("await self.part(1)\ngo(self.part(2))", 1, "the name 'part' is taken"),
    "a changed operand": (
        "self.rows[self.a].setdefault('x', await self.work())",
        0,
        "an object that is computed before the await",
    ),
    "a step without self": ("await self.step_of_none()", None, "it has no parameter"),
    "an activity without self": ("await self.activity_of_none()", None, "it has no parameter"),
    "an event without self": ("got = await select(self.event_of_none)\nprint(got)", None, "it has no parameter"),
    "a section without self": ("await self.part_of_none()", None, "it has no parameter"),
    "local with another name": ("x = local('y', default=0)\nawait self.check(x)", 0, "local is used in another way"),
}


@pytest.mark.parametrize("what", [what for what, (_, _, text) in REFUSED.items() if text])
def test_refused(make: Callable[[str], Any], what: str) -> None:
    body, line, text = REFUSED[what]
    with pytest.raises(DefinitionError) as caught:
        make(body)
    assert text is not None and text in caught.value.reason
    assert caught.value.fix
    if line is not None:
        assert f"line {FIRST + line}, in Flow.run" in caught.value.statement
        assert ".py" in caught.value.statement


@pytest.mark.parametrize(
    "body", ["return", "return None", "return await self.nothing()", "return await until(lambda: True)"]
)
def test_a_return_of_nothing_is_not_refused(make: Callable[[str], Any], body: str) -> None:
    assert make(body).__workflow_name__ == "flow"


@pytest.mark.parametrize(
    "body",
    [
        "if self.happened('paid'):\n    await self.work()",
        "if self.rule.happened(self.work):\n    await self.work()",
        "await until(self.condition)",
        "await until(self.condition())",
        "await until(self.condition() or self.rule)",
        "await until(self.rule)",
        "await until(lambda: self.a, timeout=None)",
        "await select(self.decide, timeout=None)",
    ],
)
def test_what_may_be_right_is_not_refused(make: Callable[[str], Any], body: str) -> None:
    assert make(body).__workflow_name__ == "flow"


@pytest.mark.parametrize(("value", "shown"), [("self.helper()", "1"), ("self.rows", "[]")])
def test_a_condition_that_is_a_value_when_it_runs(make: Callable[[str], Any], value: str, shown: str) -> None:
    flow = make(f"await until({value})")
    text = f"until takes a function, such as lambda: self.paid, and not {shown}"
    with pytest.raises(TypeError, match=re.escape(text)):
        resume(flow(), Execution.start("1", flow))


@pytest.mark.parametrize("asked", ["'decide'", "self.work"])
def test_what_is_no_event_has_not_happened(make: Callable[[str], Any], asked: str) -> None:
    flow = make(f"got = await select(self.decide)\nif got.happened({asked}):\n    await self.nothing()")
    order, execution = flow(), Execution.start("1", flow)
    resume(order, execution)
    with pytest.raises(TypeError, match=r"is not an event: pass the method with @event, got\.happened\(self\.method\)"):
        handle_event(order, execution, "decide", "1")


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        ("await self.wrok()", "Define it, or write 'work'."),
        ("await select(self.decied)", "Define it, or write 'decide'."),
        ("await self.nowhere_near()", "Define it."),
    ],
)
def test_a_misspelt_method(make: Callable[[str], Any], body: str, fix: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make(body)
    assert caught.value.fix == fix


OPTIONS = {
    "@step(retries=3)": "@step: it has no option 'retries'. Available: retry, timeout, renamed_from",
    "@activity(retries=3)": "@activity: it has no option 'retries'. Available: retry, timeout, heartbeat, renamed_from",
    "@section(timeout=3)": "@section: it has no option 'timeout'. Available: renamed_from",
    "@step(staticmethod(print))": "@step: it decorates <staticmethod(<built-in function print>)>. Decorate a method",
    "@event(roles='cook')": "@event: it has no option 'roles'. Available: role, buffered, max_bytes, verify",
}


@pytest.mark.parametrize("decorator", OPTIONS)
def test_an_unknown_option_of_a_decorator(decorator: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(OPTIONS[decorator])):
        eval(decorator.removeprefix("@"), vars(workflow_core).copy())


def test_without_a_source() -> None:
    scope: dict[str, Any] = {"__name__": "nowhere"}
    text = "from workflow_core import *\nclass Flow(Workflow, name='flow'):\n    async def run(self): pass\n"
    with pytest.raises(DefinitionError, match=r"its source cannot be read.*Define the workflow in a \.py file"):
        exec(compile(text, "<console>", "exec"), scope)


@pytest.mark.parametrize("call", ["await select(self.decide, {})", "await sleep(timedelta(1), {})"])
def test_a_call_is_renamed_with_named(make: Callable[[str], Any], call: str) -> None:
    word = call.split()[1].partition("(")[0]
    hint = rf'{word} takes no renamed_from. Give the call its former name: {word}\(...\).named\("former name"\)'
    with pytest.raises(DefinitionError, match=hint):
        make(call.format("renamed_from='old'"))


def test_a_deadline_is_renamed_with_named(make: Callable[[str], Any]) -> None:
    with pytest.raises(DefinitionError, match=r'former name: timeout\(...\).named\("former name"\)'):
        make("async with timeout(timedelta(1), renamed_from='old'):\n    await self.work()")
