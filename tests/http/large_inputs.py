"""A workflow whose events take every kind of large input. Run by ``gorchestrate dev``; holds no test."""

from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from workflow_core import On, S, Select, While, Workflow


class A(BaseModel):
    kind: Literal["a"]
    value: int


class B(BaseModel):
    kind: Literal["b"]
    values: list[int]


class Item(BaseModel):
    name: str = ""
    qty: int = 0


class Tree(BaseModel):
    children: list["Tree"] = []
    name: str = ""


Alternatives = A | B | Item | Decimal | list[int] | dict[str, int] | bool


class Box(BaseModel):
    items: list[Item] = []
    numbers: list[int] = []
    decimals: list[Decimal] = []
    reals: list[float] = []
    ids: set[int] = set()
    words: frozenset[str] = frozenset()
    counts: dict[int, Item] = {}
    secrets: list[SecretStr] = []
    alternatives: list[Alternatives] = []
    anything: Any = None
    tree: Tree = Tree()
    text: str = ""


class Large(Workflow, name="large"):
    create_fields = ("box",)

    box: Box = Box()

    def check(self, box: Box) -> int:
        return len(box.items)

    def keep(self, box: Box) -> Box:
        self.box = box
        return box

    def union(self, items: list[Alternatives]) -> int:
        return len(items)

    def is_open(self) -> bool:
        return True

    definition = S(
        While(
            "open",
            is_open,
            Select(
                "waits",
                On("Check", check, max_bytes=1_000_000),
                On("Keep", keep, max_bytes=1_000_000),
                On("Union", union),
                On("Small", check, max_bytes=1_000),
            ),
        )
    )
