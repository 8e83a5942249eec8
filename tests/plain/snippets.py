"""Short programs: the body of ``run`` in a class with some fields and methods, run by the library and by plain asyncio.

The library loads the instance anew after each transition, so whatever a program needs must have been stored.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.plain.compared import with_asyncio, with_library

HEAD = """
from __future__ import annotations
import asyncio, dataclasses, enum, logging, traceback, contextlib, functools, sys
from collections import Counter, defaultdict, deque, OrderedDict
from datetime import datetime, date, UTC
from decimal import Decimal
from typing import Any, NamedTuple, Literal
from uuid import UUID
from pydantic import BaseModel, SecretStr, Field
from {words} import Workflow, Base, select, gather, parallel, sleep, until, timedelta
from {words} import activity, event, local, section, step

class Odd(ValueError):
    pass
class Pay(Exception):
    def __init__(self, code, reason, *, extra=None):
        super().__init__(code, reason)
        self.code = code; self.reason = reason
class KwOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {{code}}")
        self.code = code
class Msg(Exception):
    def __init__(self, code):
        super().__init__("text of", code)
        self.code = code
    def __str__(self): return f"M{{self.code}}"
class Prefixed(Exception):
    def __init__(self, text):
        super().__init__(f"prefixed {{text}}")
class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"
class Row(BaseModel):
    id: int = 0
    sent: bool = False
    tags: list[str] = []
class Sub(Row):
    more: int = 1
@dataclasses.dataclass
class Point:
    x: int = 0
    y: int = 0
    def __add__(self, other): return Point(self.x + other.x, self.y + other.y)
@dataclasses.dataclass(frozen=True)
class Fixed:
    n: int = 0
    def __add__(self, other): return Fixed(self.n + other.n)
class NT(NamedTuple):
    a: int
    b: str
G = 1
"""

CLASS = """
class W0(Base, name="w0"):
    a: int = 1
    b: int = 2
    items: list[int] = [3, 1, 2]
    log: list[str] = []
    rows: list[Row] = [Row(id=1), Row(id=2), Row(id=3)]
    amount: Decimal = Decimal("1.50")
    name: str = "n"
    counts: dict[str, int] = {"a": 1}
    opt: int | None = None
    limited: int = Field(default=5, gt=3)
    @event
    def first(self, n: int) -> int:
        self.a += n
        self.log.append(f"first {n}")
        return self.a
    @event
    def second(self) -> None:
        self.log.append("second")
    @event
    def third(self, n: int) -> Row:
        row = Row(id=n)
        self.log.append(f"third {row}")
        return row
    @step
    async def work(self, what: str = "", n: int = 0) -> int:
        self.log.append(f"work {what} {n}")
        if n % 7 == 5:
            raise Odd(f"odd {n}")
        self.b += n
        return n + 1
    @step
    def fail(self, kind: str = "pay") -> int:
        self.log.append("fail " + kind)
        if kind == "pay": raise Pay(3, "no money")
        if kind == "kw": raise KwOnly(code=4)
        if kind == "msg": raise Msg(5)
        if kind == "group": raise ExceptionGroup("g", [Odd("1"), ValueError("2")])
        if kind == "os": raise FileNotFoundError(2, "gone", "f")
        if kind == "key": raise KeyError("k")
        if kind == "uni": b"\\xff".decode("utf8")
        if kind == "cause":
            try: raise KeyError("inner")
            except KeyError as e: raise Odd("outer") from e
        if kind == "causes":
            inner = Odd("middle")
            inner.__cause__ = Odd("inner")
            raise Odd("outer") from inner
        if kind == "prefixed": raise Prefixed("text")
        return 1
    @step
    def note(self, n: Any = None) -> str:
        self.log.append(f"note {n!r}")
        return f"<{n!r}>"
    @step
    def untyped(self, n=None):
        return n
    @step
    def fetch(self) -> list[Row]:
        return [Row(id=7), Row(id=8)]
    @activity
    async def double(self, n: int, by: int = 2) -> int:
        if n % 13 == 11:
            raise ValueError(f"value {n}")
        return n * by % 1000
    def twice(self, n: int) -> int:
        return n * 2 % 100
    def say(self, *what: Any) -> None:
        self.log.append(" ".join(map(repr, what)))
"""


def read(name: str) -> dict[str, tuple[str, str]]:
    """Returns the programs of a file, by their titles: the body of ``run``, and more methods."""
    found = {}
    for block in (Path(__file__).parent / name).read_text().split("### ")[1:]:
        title, _, text = block.partition("\n")
        body, _, extra = text.partition("\n---\n")
        found[title] = (body, extra)
    return found


def outcome(words: str, body: str, extra: str = "", seed: int = 0) -> dict[str, Any]:
    """Runs a program. Returns its fields and its error.

    Args:
        words: the module with the words, ``asyncio_words`` or ``library_words``.
        body: the body of ``run``.
        extra: more methods.
    """
    run = with_asyncio if words == "asyncio_words" else with_library
    return run(program(words, body, extra), seed)


def program(words: str, body: str, extra: str = "") -> Any:
    """Returns the class of a program."""
    text = HEAD.format(words=f"tests.plain.{words}") + CLASS + _indented("async def run(self) -> None:", 1)
    text += _indented(body, 2) + _indented(extra, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"snippet_{abs(hash((words, body, extra)))}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.W0


def _indented(text: str, depth: int) -> str:
    return "".join("    " * depth + line + "\n" for line in text.strip("\n").split("\n"))


def assert_same(body: str, extra: str = "", seed: int = 0) -> None:
    """Checks that the library gives what asyncio gives."""
    assert outcome("library_words", body, extra, seed) == outcome("asyncio_words", body, extra, seed)
