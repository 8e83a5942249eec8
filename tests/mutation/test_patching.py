"""Changes in imported modules: functions run the changed code, and what cannot be changed is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation.patching import functions_below, patched

SOURCE = """
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps

LIMIT = 1

def plain(a):
    return a + 1

def makes():
    def made(a):
        return a + 2
    return made

early = makes()

@contextmanager
def context():
    yield 3

@dataclass(frozen=True, slots=True)
class Thing:
    size: int = 4

    def grown(self):
        return [self.size + 5 for _ in range(2)]

    @property
    def double(self):
        return self.size * 2

    @classmethod
    def default(cls, size=6):
        return cls(size)

    class Inner:
        async def slow(self):
            return 7

class Child(Thing):
    def grown(self):
        return super().grown()

table = {"key": lambda a: a + 8}

def after():
    return 9
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "patched_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    invalidate_caches()
    yield import_module("patched_module")
    del sys.modules["patched_module"]


def change(tmp_path: Path, old: str, new: str) -> bool:
    assert SOURCE.count(old) == 1
    mutated = SOURCE.replace(old, new)
    return patched(tmp_path / "patched_module.py", SOURCE.encode(), mutated.encode(), functions_below(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "call", "value"),
    [
        ("return a + 1", "return a - 1", "plain(5)", 4),
        ("return a + 1", "\n\n    return None", "plain(5)", None),
        ("return a + 2", "return a - 2", "makes()(5)", 3),
        ("yield 3", "yield True", "context().__enter__()", True),
        ("self.size + 5", "self.size - 5", "Thing(1).grown()", [-4, -4]),
        ("self.size * 2", "self.size / 2", "Thing(1).double", 0.5),
        ("return cls(size)", "return None", "Thing.default()", None),
        ("return 7", "return 8", "Thing.Inner().slow().send(None)", StopIteration),
        ("a + 8", "a - 8", "table['key'](1)", -7),
        ("return super().grown()", "return super().grown() + [1]", "Child(1).grown()", [6, 6, 1]),
    ],
)
def test_functions_that_were_imported_run_the_changed_code(
    tmp_path: Path, module: ModuleType, old: str, new: str, call: str, value: object
) -> None:
    assert change(tmp_path, old, new)
    if value is StopIteration:
        with pytest.raises(StopIteration, match="8"):
            eval(call, vars(module))
        return
    result = eval(call, vars(module))
    assert (result, type(result)) == (value, type(value))
    assert eval("after()", vars(module)) == 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 1", "LIMIT = True"),
        ("size: int = 4", "size: int = 5"),
        ("size=6", "size=7"),
        ("return super().grown()", "return []"),
        ("early = makes()", "early = None"),
    ],
)
def test_what_is_not_in_a_function_is_not_changed(tmp_path: Path, module: ModuleType, old: str, new: str) -> None:
    assert not change(tmp_path, old, new)
    assert module.plain(5) == 6
    assert module.Child(1).grown() == [6, 6]
