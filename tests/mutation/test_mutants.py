"""The mutants: each kind of change is made, nothing else is, and each can be compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.coverage_map import ROOMS
from tests.mutation.mutants import mutants_of

ROOT = Path(__file__).resolve().parents[2]


def changes(tmp_path: Path, body: str, head: str = "def f(self, a, b):") -> set[tuple[str, str]]:
    """The kind of each mutant of a function, and the changed line."""
    lines = [head, *(f"    {line}" for line in body.splitlines())]
    (tmp_path / "code.py").write_text("\n".join(lines) + "\n")
    source = (tmp_path / "code.py").read_bytes()
    return {(mutant.operator, mutant.changed_lines(source)[1]) for mutant in mutants_of("code.py", tmp_path)}


@pytest.mark.parametrize(
    ("line", "operator", "mutated"),
    [
        ("if a < b: go()", "compare", "if a <= b: go()"),
        ("if a < b: go()", "compare", "if a > b: go()"),
        ("if a is not None: go()", "compare", "if a is None: go()"),
        ("if a < b: go()", "never", "if False: go()"),
        ("if a: go()", "negate condition", "if (not (a)): go()"),
        ("if a and b: go()", "and for or", "if a or b: go()"),
        ("if a or b: go()", "drop operand", "if ((a)): go()"),
        ("go(a + b)", "arithmetic", "go(a - b)"),
        ("go((a + 1) * b)", "arithmetic", "go((a + 1) / b)"),
        ("go(a + b)", "drop operand", "go((a))"),
        ("go(a)", "drop statement", "pass"),
        ("self.count += a", "drop statement", "pass"),
        ("raise ValueError", "drop statement", "pass"),
        ("return a", "return nothing", "return None"),
        ("go(1)", "constant", "go(2)"),
        ("go(True)", "constant", "go(False)"),
        ("go(not a)", "drop sign", "go((a))"),
        ("go(a, b=b)", "drop argument", "go(a, )"),
        ("go(min(a, b))", "twin function", "go(max(a, b))"),
        ("go([x for x in a if x])", "drop condition", "go([x for x in a if True])"),
        ("try:\n    go()\nexcept (KeyError, OSError):\n    pass", "catch less", "except (OSError,):"),
    ],
)
def test_a_change_is_made(tmp_path: Path, line: str, operator: str, mutated: str) -> None:
    assert (operator, mutated) in changes(tmp_path, line)


@pytest.mark.parametrize(
    "line",
    [
        '"""A docstring."""',
        "x: int | None",
        "assert a is not None",
        'x = "a text"',
        'logger.warning("a text")',
        "import os",
        "return",
        "pass",
    ],
)
def test_what_changes_no_behaviour_is_left_alone(tmp_path: Path, line: str) -> None:
    assert changes(tmp_path, line) == set()


def test_annotations_and_decorators_are_left_alone(tmp_path: Path) -> None:
    assert changes(tmp_path, "pass", "@decorated(1)\ndef f(a: int | None, b: 'x' = 3) -> int | None:") == {
        ("constant", "def f(a: int | None, b: 'x' = 4) -> int | None:")
    }


def test_the_rooms_have_mutants() -> None:
    for room in ROOMS:
        path = max((ROOT / room).rglob("*.py"), key=lambda path: path.stat().st_size)
        source = path.read_bytes()
        found = mutants_of(str(path.relative_to(ROOT)), ROOT)
        assert len(found) > 50
        assert all(mutant.applied_to(source) != source for mutant in found)
        assert all(mutant.compiles(source) for mutant in found[::20])
