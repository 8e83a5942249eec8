"""Functions and bases of workflows that another module uses; its types have the same names as types there."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

from workflow_core import On, S, Select, Workflow

T = TypeVar("T")


class Item(BaseModel):
    elsewhere: int


def add(w: Workflow, item: Item) -> Item:
    return item


def check(item: Item) -> Item:
    return item


class Mixin:
    def from_mixin(self, item: Item) -> Item:
        return item


class Base(Workflow):
    class Nested(BaseModel):
        nested: int

    def from_base(self, item: Item) -> Nested:
        return self.Nested(nested=item.elsewhere)


class Approval(Workflow, Generic[T]):
    subject: T
    history: list[T] = []

    def propose(self, subject: T) -> list[T]:
        self.history.append(subject)
        return self.history

    definition = S(Select("proposal", On("Propose", propose)))
