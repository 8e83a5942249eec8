"""Stateful workflows on serverless Google Cloud, written as Python code.

This package has all public names: those of the language, such as ``Workflow``, ``step`` and ``select``, and those that
serve workflows, such as ``Service``. Each name is loaded when it is first used, so a module that only defines workflows
imports nothing of the cloud. ``gorchestrate.testing`` has what tests need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_adapter import *  # noqa: F403
    from workflow_core import *  # noqa: F403

__version__ = "0.2.0"

_PACKAGES = ("workflow_core", "cloud_adapter")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [part for package in _PACKAGES for part in import_module(package).__all__]
    if not name.startswith("_"):
        for package in map(import_module, _PACKAGES):
            if name in package.__all__:
                value = globals()[name] = getattr(package, name)
                return value
    raise AttributeError(f"module 'gorchestrate' has no {name!r}. Available: {', '.join(__getattr__('__all__'))}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__getattr__("__all__")])
