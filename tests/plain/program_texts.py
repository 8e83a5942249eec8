"""What all random programs share: the imports, and the fields and methods of their classes."""

from __future__ import annotations

HEAD = """
from __future__ import annotations
from typing import Any
from {words} import Workflow, Base, select, gather, parallel, sleep, until, timedelta
from {words} import step, activity, event, section

class Odd(ValueError):
    pass
"""

CLASS = """
class W{seed}(Base, name="w{seed}"):
    a: int = 1
    b: int = 2
    items: list[int] = [3, 1, 2]
    log: list[str] = []

    @event
    def first(self, n: int) -> int:
        self.a += n
        self.log.append(f"first {{n}}")
        return self.a

    @event
    def second(self) -> None:
        self.log.append("second")

    @step
    async def work(self, what: str, n: int) -> int:
        self.log.append(f"work {{what}} {{n}}")
        if n % 7 == 5:
            raise Odd(f"odd {{n}}")
        self.b += n
        return n + 1

    @step
    def note(self, n: int) -> str:
        self.log.append(f"note {{n}}")
        if n % 11 == 7:
            raise KeyError(f"key {{n}}")
        return f"<{{n}}>"

    @activity
    async def double(self, n: int, by: int = 2) -> int:
        if n % 13 == 11:
            raise ValueError(f"value {{n}}")
        return n * by % 1000

    def twice(self, n: int) -> int:
        return n * 2 % 100

    @section
    async def shared(self, n: int) -> int:
        before = self.b
        for k in range(n % 3):
            before += await self.work("shared", k)
            if before % 5 == 4:
                return before
        self.log.append(f"shared {{before}}")
        return before % 20
"""
