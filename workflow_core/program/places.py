"""Where the code of a program contains a function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from workflow_core.program.cases import ActivitySpec, ChildSpec, SelectCase, WhenCase
from workflow_core.program.code import Clause, Each, Guard, Instruction
from workflow_core.signatures import OfItem

_PARTS = (Instruction, SelectCase, WhenCase, Each, Guard, Clause, ActivitySpec, ChildSpec, OfItem)


def places_of(code: Iterable[Instruction], function: object) -> list[tuple[object, str]]:
    """Returns where the code contains a function: the parts, and the names of their attributes."""
    places: list[tuple[object, str]] = []
    found: list[object] = list(code)
    seen = set(map(id, found))
    for part in found:  # grows while it is iterated over
        for name in _slots(type(part)):
            value = getattr(part, name, None)
            if value is function:
                places.append((part, name))
                continue
            inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
            for other in inner:
                if isinstance(other, _PARTS) and id(other) not in seen:
                    seen.add(id(other))
                    found.append(other)
    return places


def _slots(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        yield from vars(base).get("__slots__", ())
