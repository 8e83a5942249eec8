"""The stack: what may import what. Imports point down only, between rooms and inside them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

STACK = (
    ("functions", "deploy"),
    ("gorchestrate.pytest_plugin",),
    ("gorchestrate.testing", "gorchestrate.pydantic_ai"),
    ("cloud_adapter.cli",),
    ("cloud_adapter.hosting",),
    ("cloud_adapter.http", "cloud_adapter.tasks_emulator"),
    ("cloud_adapter.engine",),
    ("cloud_adapter.stores", "cloud_adapter.queues", "cloud_adapter.codecs", "cloud_adapter.observability"),
    ("cloud_adapter.*",),
    ("workflow_core.library", "workflow_core.diagrams"),
    ("workflow_core.machine",),
    ("workflow_core.workflow",),
    ("workflow_core.program", "workflow_core.plain"),
    ("workflow_core.statements",),
    ("workflow_core.*",),
)
"""From the top to the bottom: rooms, which import none beside them. ``package.*`` stands at a package's door."""

FRONT_DOORS = {"gorchestrate", "cloud_adapter", "workflow_core", "cloud_adapter.service"}
"""What users import. These look into the rooms, so nothing inside of their package may use them."""


def modules() -> dict[str, Path]:
    found = {}
    for package in ("gorchestrate", "cloud_adapter", "workflow_core", "functions", "deploy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, those for type checkers and inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name of what is imported"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                if module in MODULES:
                    yield module
                elif node.module in MODULES:
                    yield node.module


def place(module: str) -> tuple[int, str]:
    """How far below the top a module stands, and in which room."""
    for index, rooms in enumerate(STACK):
        for room in rooms:
            if f"{module}.".startswith(f"{room.removesuffix('.*')}."):
                return index, room
    raise AssertionError(f"{module} stands nowhere in the stack")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports. Parsing them all takes seconds, which no other process of the tests should wait for."""
    return {module: set(imports(path)) for module, path in MODULES.items() if module not in FRONT_DOORS}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in FRONT_DOORS])
def test_imports_point_down(graph: dict[str, set[str]], module: str) -> None:
    for other in graph[module]:
        if other in FRONT_DOORS:
            assert module.partition(".")[0] != other.partition(".")[0], f"{module} imports its own front door, {other}"
            continue
        (level, room), (below, other_room) = place(module), place(other)
        assert below >= level, f"{module} imports {other}, which stands above it"
        assert below > level or other_room == room, f"{module} imports {other}, which stands beside it"


def test_there_is_no_cycle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"these import each other: {' <- '.join(error.args[1])}") from None


def test_the_core_imports_nothing_of_the_adapter(graph: dict[str, set[str]]) -> None:
    for module, others in graph.items():
        if module.startswith("workflow_core"):
            assert not [other for other in others if other.startswith("cloud_adapter")], module


def test_nothing_in_a_deployment_issues_tokens(graph: dict[str, set[str]]) -> None:
    users = {module for module, others in graph.items() if "cloud_adapter.token_issuer" in others}
    cli, emulator = "cloud_adapter.cli.", "cloud_adapter.tasks_emulator."
    assert {module for module in users if not module.startswith((cli, emulator))} == {
        "cloud_adapter.hosting.local_issuer"
    }
    starters = {module for module, others in graph.items() if "cloud_adapter.hosting.local_issuer" in others}
    assert starters == {"cloud_adapter.cli.main"}, "only the demo starts it"


@pytest.mark.parametrize("package", ["cloud_adapter", "workflow_core"])
def test_each_room_says_what_it_is(package: str) -> None:
    for init in sorted((ROOT / package).rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse(init.read_text()))
        assert docstring, f"{init.relative_to(ROOT)} has no docstring: say what lives there"
