"""The public names are imported when they are first used, and imports stay cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import workflow_core

MODULE = Path(workflow_core.__file__)


def loaded(statement: str) -> set[str]:
    """Returns the modules of the package that a fresh process has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*(name for name in sys.modules if name.startswith('workflow_core')))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


def for_type_checkers() -> dict[str, set[str]]:
    tree = ast.parse(MODULE.read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        str(node.module): {alias.name for alias in node.names}
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }


def test_every_public_name_is_importable_and_known_to_type_checkers() -> None:
    by_module: dict[str, set[str]] = {}
    for name in workflow_core.__all__:
        assert getattr(workflow_core, name) is not None
        by_module.setdefault(f"workflow_core.{workflow_core._MODULES[name]}", set()).add(name)
    assert by_module == for_type_checkers()
    assert set(workflow_core._MODULES) == set(workflow_core.__all__) <= set(dir(workflow_core))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'workflow_core' has no attribute 'Wrokflow'"):
        workflow_core.Wrokflow  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Wrokflow'"):
        exec("from workflow_core import Wrokflow")


def test_defining_a_workflow_loads_neither_the_interpreter_nor_diagrams_nor_the_compiler_of_run() -> None:
    assert loaded("import workflow_core") == {"workflow_core"}
    names = loaded(
        "from workflow_core import S, Step, Workflow\n"
        "class Hello(Workflow):\n    definition = S(Step('hello', lambda w: None))"
    )
    assert "workflow_core.program.compiler" in names
    rooms = {".".join(name.split(".")[:2]) for name in names}
    assert not rooms & {
        f"workflow_core.{room}" for room in ("machine", "diagrams", "library", "execution", "wait_types", "parked")
    }
    assert "workflow_core.plain.compile" not in names
