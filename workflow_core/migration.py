"""Stored fields of older versions of a workflow, as those of the current version. See ``Workflow.migrate``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json, to_json

from workflow_core.errors import InvalidFields, NewerVersion


def migrated(cls: Any, fields: str | bytes, version: int) -> str | bytes:
    """Returns the fields that a version of the workflow stored, as JSON of the current version, without validation.

    A name that the class does not have is dropped with its value. One that is nearly the name of a field without a
    value is misspelled, and refused. Others may be fields that a version in between had.

    Args:
        cls: the class of the workflow.

    Raises:
        InvalidFields: the fields cannot be migrated.
        NewerVersion: a newer version stored the fields.
    """
    check_version(cls, version)
    if version == cls.__workflow_version__:
        return fields
    what = f"the fields of {cls.__name__} that version {version} stored cannot be migrated"
    stored = from_json(fields)
    known = cls.model_fields.keys() | stored.keys()  # before migrate changes it
    try:
        data = cls.migrate(version, stored)
        text = to_json(data)
    except Exception as error:
        raise InvalidFields(f"{what}: {type(error).__name__}: {error}") from error
    if not isinstance(data, dict):
        raise InvalidFields(f"{what}: migrate returned {data!r:.100}, it must return the fields")
    unknown = [name for name in data if name not in known]
    if unknown and not _takes_unknown(cls):
        _refuse_misspelled(what, unknown, cls.model_fields.keys() - data.keys())
    return text


def _takes_unknown(cls: Any) -> bool:
    """Whether a class may use data under other names than those of its fields."""
    validators = cls.__pydantic_decorators__.model_validators.values()
    return cls.model_config.get("extra") == "allow" or any(each.info.mode != "after" for each in validators)


def _refuse_misspelled(what: str, unknown: Iterable[Any], missing: Iterable[str]) -> None:
    from difflib import get_close_matches  # here, because most migrations do not need it

    for name in unknown:
        if close := get_close_matches(str(name), missing, 1, cutoff=0.8):
            raise InvalidFields(f"{what}: migrate returned {name!r}, but no {close[0]!r}. Is it misspelled?")


def check_version(cls: Any, version: int) -> None:
    """Raises ``NewerVersion`` if the stored version is newer than the class."""
    if version > cls.__workflow_version__:
        raise NewerVersion(
            f"the instance was saved by version {version} of workflow {cls.__workflow_name__!r}, this code has version "
            f"{cls.__workflow_version__}: try again, so that the newer code is reached, or deploy that again"
        )
