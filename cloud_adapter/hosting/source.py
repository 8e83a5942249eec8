"""Finds the workflows that a Python file defines or imports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.service import Service
from workflow_core import DefinitionError, Workflow


def load_workflows(source: Path, *functions: str) -> list[type[Workflow]]:
    """Runs the file and gives the workflows in its namespace and those of its ``Service``.

    Its folder can be imported from, as it can when deployed.

    Args:
        functions: names of functions that it must have.

    Raises:
        SettingsError: the file is missing, cannot be imported, lacks a function, has no workflow or two of one name, or
            leaves one out of its ``Service``.
        DefinitionError: one of its workflows is wrong; the message says where.
    """
    module = _run(source)
    for name in functions:
        if not callable(getattr(module, name, None)):
            raise SettingsError(f"{source} has no function {name!r}, which is an entry point of a deployment")
    services = [value for value in vars(module).values() if isinstance(value, Service)]
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and hasattr(value, "__program__")
    ]
    found += [cls for service in services for cls in service.workflows]
    if not found:
        raise SettingsError(f"{source} neither defines nor imports a Workflow with a definition")
    workflows = list(dict.fromkeys(found))
    names = [cls.__workflow_name__ for cls in workflows]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{source} has two workflows that are named {name!r}: give one another name")
    for cls in workflows:
        if services and not any(cls in service.workflows for service in services):
            raise SettingsError(
                f"{source} does not give workflow {cls.__workflow_name__!r} to its Service(...), so it would not be "
                f"served when deployed: add {cls.__name__} there"
            )
    return workflows


def _run(source: Path) -> ModuleType:
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
    except SettingsError:
        raise
    except DefinitionError as error:
        raise DefinitionError(error.statement, error.reason, error.fix + _place(error, folder)) from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}{_place(error, folder)}"
        raise SettingsError(f"{source} cannot be imported: {why}") from error
    return module


def _place(error: Exception, folder: str) -> str:
    """The last line in a file of the folder that an error has come through."""
    frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
