"""Finds the workflows that a Python file defines or imports."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.authentication import OPEN, Authentication
from workflow_core import DefinitionError, Workflow

ENTRY_POINTS = ("api", "worker")
"""The functions that a deployment calls."""

_loaded: set[str] = set()
"""The names of the sources that this process has imported."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a file serves: its workflows, those of them that are internal, how its ``Service`` finds principals, and
    whether it serves tools under ``/mcp``."""

    workflows: list[type[Workflow]]
    internal: Sequence[type[Workflow]] = ()
    authentication: Authentication = OPEN
    mcp: bool = False


def load_workflows(source: Path, *functions: str) -> list[type[Workflow]]:
    """Returns the workflows of a file; see ``load``."""
    return load(source, *functions).workflows


def load(source: Path, *functions: str) -> Served:
    """Runs the file and returns the workflows in its namespace and in its ``Service``.

    The file can import modules from its folder, as in a deployment.

    Args:
        functions: names of functions that the file must define. With any, it must also have a ``Service``.

    Raises:
        SettingsError: the file is missing, cannot be imported, lacks a function or a ``Service``, has no workflow or
            two with the same name, or does not pass a workflow to its ``Service``.
        DefinitionError: a workflow has a mistake; the message says where.
    """
    module = _run(source)
    for name in functions:
        if not callable(getattr(module, name, None)):
            raise SettingsError(
                f"{source} has no function {name!r}, which a deployment needs as entry point: copy it "
                "from the main.py that gorchestrate new writes"
            )
    services = [value for value in vars(module).values() if isinstance(value, Service)]
    if functions and not services:
        raise SettingsError(
            f"{source} has no Service, which the functions {' and '.join(functions)} of a deployment call: add "
            "service = Service(...) with your workflows"
        )
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and hasattr(value, "__program__")
    ]
    found += [cls for service in services for cls in service.workflows]
    if not found:
        raise SettingsError(f"{source} neither defines nor imports a Workflow with a definition")
    workflows = list(dict.fromkeys(found))
    by_name: dict[str, type[Workflow]] = {}
    for cls in workflows:
        name = cls.__workflow_name__
        if (other := by_name.setdefault(name, cls)) is not cls:
            classes = " and ".join(f"{named.__module__}.{named.__qualname__}" for named in (other, cls))
            raise SettingsError(f"{source} has two workflows named {name!r}, {classes}: rename one of them")
    for cls in workflows:
        if services and not any(cls in service.workflows for service in services):
            raise SettingsError(
                f"{source} does not pass workflow {cls.__workflow_name__!r} to its Service(...), so a deployment would "
                f"not serve it: add {cls.__name__} there"
            )
    return Served(workflows, *_security(source, services), mcp=any(service.mcp for service in services))


def _security(source: Path, services: Sequence[Service]) -> tuple[Sequence[type[Workflow]], Authentication]:
    """The internal workflows and the authentication of the services, which are served as one."""
    if not services:
        return (), OPEN
    if any(service.authentication.authenticators for service in services[1:]):
        raise SettingsError(f"{source} has several Services, of which only the first may have authenticators")
    return [cls for service in services for cls in service.internal], services[0].authentication


def _run(source: Path) -> ModuleType:
    if not source.is_file():
        raise SettingsError(f"file {source} not found: pass the Python file that contains your workflows")
    _check_name(source)
    folder = str(source.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    _loaded.add(source.stem)
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


def _check_name(source: Path) -> None:
    """Checks that the file does not replace another module when it is imported under its name.

    Raises:
        SettingsError: Python or an installed package has a module of that name.
    """
    name = source.stem
    if name in sys.stdlib_module_names or name == "__main__":
        owner = "Python"
    elif _is_installed(source):
        owner = "an installed package"
    else:
        return
    raise SettingsError(
        f"{source} has the same name as the module {name!r} of {owner}, and would replace it for all other code: "
        "rename the file"
    )


def _is_installed(source: Path) -> bool:
    name = source.stem
    if (module := sys.modules.get(name)) is not None:
        file = getattr(module, "__file__", None)
        return name not in _loaded and (file is None or Path(file).resolve() != source.resolve())
    if name == "main":  # the name that functions-framework requires
        return False
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return PathFinder.find_spec(name, folders) is not None


def _place(error: Exception, folder: str) -> str:
    """The innermost line of the error's traceback that is in a file of the folder."""
    frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
