"""Finds the classes that the benchmarks measure, in the layout of the version under test.

Only this file contains module names that change. By default, the benchmarks measure their own repository. To measure
another version of the code, set its root:

    PYTHONPATH=/path/to/other/version python benchmarks/fan_out.py
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent

if "PYTHONPATH" not in os.environ:
    sys.path.insert(0, str(FOLDER.parent))

_MODULES = {
    "EmbeddedRuntime": ("cloud_adapter.hosting.embedded", "cloud_adapter.embedded"),
    "CloudRuntime": ("cloud_adapter.hosting.cloud", "cloud_adapter.cloud"),
    "Service": ("cloud_adapter.hosting.service", "cloud_adapter.service"),
    "open_server": ("cloud_adapter.hosting.dev_server", "cloud_adapter.hosting.server", "cloud_adapter.server"),
    "create_server": ("cloud_adapter.server",),
    "prefer_latency": ("cloud_adapter.hosting.dev_server",),
    "collect_rarely": ("cloud_adapter.hosting.garbage",),
    "running_stack": ("cloud_adapter.hosting.local_stack", "cloud_adapter.emulators"),
    "create_worker": ("cloud_adapter.http.worker", "cloud_adapter.worker"),
    "OidcVerifier": ("cloud_adapter.http.auth", "cloud_adapter.auth"),
    "Settings": ("cloud_adapter.settings",),
    "Conflict": ("cloud_adapter.errors",),
    "encode": ("cloud_adapter.document",),
    "listen": ("cloud_adapter.sockets", "cloud_adapter.listening"),
    "free_ports": ("cloud_adapter.sockets", "cloud_adapter.listening"),
}
"""The modules that may contain a name, the newest layout first."""


def find(name: str) -> Any:
    """Returns the class or function of that name.

    Raises:
        ImportError: no known module contains the name.
    """
    for module in _MODULES[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
        except AttributeError:
            continue
    raise ImportError(f"none of {', '.join(_MODULES[name])} has {name}: add its module to {__file__}")


@contextmanager
def server(*arguments: Any) -> Iterator[Any]:
    """Yields the development server of the version under test. The end of the body closes it if it never ran."""
    try:
        opened = find("open_server")(*arguments)
    except ImportError:
        opened = nullcontext(find("create_server")(*arguments))
    with opened as it:
        yield it


def root() -> Path:
    """Returns the root of the repository under test."""
    package = importlib.import_module("cloud_adapter")
    assert package.__file__ is not None
    return Path(package.__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """Returns the environment for a Python process that runs the same code."""
    path = os.pathsep.join((str(root()), str(FOLDER)))
    # Without this, `python -m` would import from the current folder first.
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
