"""Where the code of a program contains its functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workflow_core.program.cases import ActivitySpec, ChildSpec, SelectCase, WhenCase
from workflow_core.program.code import Clause, Each, Guard, Instruction
from workflow_core.signatures import OfItem

_PARTS = (Instruction, SelectCase, WhenCase, Each, Guard, Clause, ActivitySpec, ChildSpec, OfItem)


def places_of(
    code: Iterable[Instruction], functions: Mapping[str, Callable[..., Any]]
) -> dict[str, list[tuple[object, str]]]:
    """Returns where the code contains each function: the parts, and the names of their attributes."""
    places: dict[str, list[tuple[object, str]]] = {name: [] for name in functions}
    names: dict[int, list[str]] = {}
    for name, function in functions.items():
        names.setdefault(id(function), []).append(name)
    found: list[Any] = list(code)
    seen = set(map(id, found))
    for part in found:  # grows while it is iterated over
        for attribute, value in vars(part).items():
            if id(value) in names:
                for name in names[id(value)]:
                    places[name].append((part, attribute))
                continue
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
            for other in inner:
                if isinstance(other, _PARTS) and id(other) not in seen:
                    seen.add(id(other))
                    found.append(other)
    return places
