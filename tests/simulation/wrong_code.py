"""Code that cannot be deployed: each function stands for a module whose import must raise ``DefinitionError``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr, create_model, model_serializer

from workflow_core import On, Retry, S, Select, Workflow

META: Any = type(Workflow)
DEFINITION = S(Select("wait", On("A", lambda w: None)))


def made(name: str = "wrong", bases: Any = Workflow, version: Any = None, **namespace: Any) -> Any:
    """A workflow class with these attributes; those with annotations in ``__annotations__`` are fields."""
    attributes = {"__module__": __name__, "definition": DEFINITION, **namespace}
    if attributes["definition"] is None:
        del attributes["definition"]
    with warnings.catch_warnings(action="ignore"):  # of fields that shadow attributes
        return META("Wrong", (bases,), attributes, name=name, version=version)


def field(name: str, type_: Any, default: Any, **more: Any) -> dict[str, Any]:
    """A field, as attributes of a class."""
    return {"__annotations__": {name: type_}, name: default, **more}


def _serialized(self: Any) -> dict[str, Any]:
    return {}


async def _later(self: Any) -> int:
    return 1


WRONG_CODE: tuple[Callable[[], Any], ...] = (
    lambda: made("no name for a URL"),
    lambda: made(version=0),
    lambda: made(**field("search_fields", tuple[str, ...], ())),
    lambda: made(**field("cancel", int, 0), search_fields="cancel"),
    lambda: made(**field("x", int, 0), search_fields=("y",)),
    lambda: made(**field("x", SecretStr, SecretStr("")), search_fields=("x",)),
    lambda: made(**field("x", list[int], []), search_fields=("x",)),
    lambda: made(**field("x", "list[int] | None", None), search_fields=("x",)),
    lambda: made(**field("x", create_model("Part", y=(int, 0)), None), search_fields=("x",)),
    lambda: made(**field("dump_fields", int, 0)),
    lambda: made(**field("x", int, Field(0, exclude=True))),
    lambda: made(**field("_x", int, PrivateAttr(0))),
    lambda: made(**field("x", SecretStr, SecretStr("")), written=model_serializer()(_serialized)),
    lambda: made(**field("x", "Callable[[], int] | None", None)),
    lambda: made(result=_later),
    lambda: made(definition=None),
    lambda: Retry(max_attempts=0),
    lambda: Retry(initial=2),  # type: ignore[arg-type]
    lambda: Retry(max_delay=timedelta(-1)),
    lambda: Retry(factor=0.5),
    lambda: Retry(jitter=2),
    lambda: Retry(retry_on="ValueError"),  # type: ignore[arg-type]
)
