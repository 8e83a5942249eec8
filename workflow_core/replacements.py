"""Replaced methods: a test replaces a method of a class by a fake, and the compiled definition calls the fake.

A class remembers what was replaced. A subclass that is made in the meantime is compiled from the original methods,
because these have the types of its events; then it calls the fakes, until they are gone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from workflow_core.errors import DefinitionError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

COMPILED = "__compiled_methods__"
"""The attribute of a workflow's class with the names of the methods whose source was compiled."""

_REPLACED = "__replaced__"
"""The attribute of a class with the values of its attributes before they were replaced, by their names."""

_INHERITED = object()
"""The value of an attribute that the class had only from its bases."""


class WorkflowClass(ModelMetaclass):
    """The class of workflow classes. A method that is replaced, as tests do, is replaced in the compiled definition."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__"):
            _check_compiled(self, name, value)
            replaced = dict(vars(self).get(_REPLACED, {}))
            if replaced.setdefault(name, vars(self).get(name, _INHERITED)) is value:
                del replaced[name]
            type.__setattr__(self, _REPLACED, replaced)
        super().__setattr__(name, value)
        _rebind(self, name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if vars(self).get(_REPLACED, {}).get(name) is _INHERITED:
            del vars(self)[_REPLACED][name]
        _rebind(self, name)


def _check_compiled(cls: type, name: str, value: Any) -> None:
    """Refuses to replace a method whose source was compiled: nothing would call the fake."""
    for workflow in (cls, *cls.__subclasses__()):
        if name in vars(workflow).get(COMPILED, ()) and value is not inspect.getattr_static(cls, name, None):
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"it cannot be replaced: its source is compiled into run of {workflow.__name__}",
                "Replace the steps, activities and events inside of it, or override it in a subclass.",
            )
        if workflow is not cls:
            _check_compiled(workflow, name, value)


def _rebind(cls: type, name: str) -> None:
    for workflow in (cls, *cls.__subclasses__()):
        program = vars(workflow).get("__program__")
        if program is not None and name in program.methods and hasattr(workflow, name):
            program.rebind(name, getattr(workflow, name))
        if workflow is not cls:
            _rebind(workflow, name)


def own_attributes(cls: type) -> dict[str, Any]:
    """Returns the attributes of a class without those of its bases, as they were before tests replaced them."""
    values = {**vars(cls), **vars(cls).get(_REPLACED, {})}
    return {name: value for name, value in values.items() if value is not _INHERITED}


def originals(cls: type, name: str) -> Iterator[Any]:
    """Yields an attribute of a class as it was before tests replaced it, and then those that it overrides, without
    binding them."""
    for base in cls.__mro__:
        own = vars(base).get(_REPLACED, {}).get(name, vars(base).get(name, _INHERITED))
        if own is not _INHERITED:
            yield own


def original(cls: type, name: str) -> Any:
    """Returns an attribute of a class as it was before tests replaced it."""
    found = next(originals(cls, name))
    return found.__get__(None, cls) if hasattr(found, "__get__") else found


def is_watched(cls: type, name: str) -> bool:
    """Whether the class notices if its attribute is replaced. A base that is no workflow is a plain class."""
    return isinstance(next(base for base in cls.__mro__ if name in own_attributes(base)), WorkflowClass)
