"""Finds the workflows that a Python file defines or imports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cloud_adapter.errors import SettingsError
from workflow_core import DefinitionError, Workflow


def load_workflows(source: Path) -> list[type[Workflow]]:
    """Runs the file and gives the workflows in its namespace; its folder can be imported from, as it can when deployed.

    Raises:
        SettingsError: the file is missing, cannot be imported, or has no workflow or two of one name.
        DefinitionError: one of its workflows is wrong.
    """
    if not source.is_file():
        raise SettingsError(f"there is no file {source}: name the Python file that has your workflows")
    folder = str(source.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{source} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except Exception as error:
        raise SettingsError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and hasattr(value, "__program__")
    ]
    if not found:
        raise SettingsError(f"{source} neither defines nor imports a Workflow with a definition")
    workflows = list(dict.fromkeys(found))
    names = [cls.__workflow_name__ for cls in workflows]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{source} has two workflows that are named {name!r}: give one another name")
    return workflows
