"""The form in which values are stored and passed on: JSON by the names of fields, without computed fields.

A value is dumped and loaded with the same rule wherever it leaves memory: the fields of a workflow, the inputs and
results of activities and children, and events that are buffered. What is loaded is therefore equal to what was dumped,
in type and value; if it would not be, ``pack`` refuses the value. Only clients see other forms: they send inputs and
receive outputs with the aliases of the types, and secrets are masked in what they are shown.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaError, SchemaSerializer, SchemaValidator, from_json, to_json

from workflow_core.comparing import REPLACED, Path, changed, compare_values, refuse_halves
from workflow_core.core_schemas import FROM_THE_SCHEMA, Schema, nodes, stopping
from workflow_core.error_texts import field_texts
from workflow_core.errors import InvalidFields
from workflow_core.keeping import Comparison, comparison_of
from workflow_core.records import record
from workflow_core.secret_values import SECRETS, is_secret_node, masking, revealing

LARGE_BYTES = 32_000
"""Of each list in a larger text that was stored, only the first error is made."""


@record(frozen=True)
class Packed:
    """A value as JSON.

    Attributes:
        text: as it is stored.
        shown: as clients see it, if it may contain secrets.
    """

    text: bytes
    shown: bytes | None = None

    @property
    def shown_text(self) -> str | None:
        """What clients see, as a text; None if it is the same as ``text``."""
        return None if self.shown is None else self.shown.decode()

    @property
    def data(self) -> Any:
        """The stored form as data."""
        return from_json(self.text)

    @property
    def shown_data(self) -> Any:
        """What clients see, as data; None if it is the same as ``data``."""
        return None if self.shown is None else from_json(self.shown)

    def part(self, name: str) -> Packed:
        """Returns a field of the value."""
        return self._changed(lambda data: data[name])

    def parts(self, names: Collection[str]) -> Packed:
        """Returns the value with only some of its fields."""
        return self._changed(lambda data: {name: part for name, part in data.items() if name in names})

    def _changed(self, change: Callable[[Any], Any]) -> Packed:
        text, shown = (part and to_json(change(from_json(part))) for part in (self.text, self.shown))
        assert text is not None
        return Packed(text, None if shown == text else shown)


class ValueForm:
    """The stored form of values of one type.

    Args:
        schema: the core schema of the type.
        by_alias: whether ``load`` also accepts aliases, which earlier releases have stored.

    Attributes:
        has_secrets: whether values may contain secrets.
        has_decimals: whether values may contain decimals.
        has_floats: whether they may contain numbers that JSON does not have, and that are written as ``null``.
        has_any: whether a part of the type accepts every value.
        is_any: whether the type accepts every value as it is.
        compare: what to compare with a load; None: nothing.
    """

    def __init__(
        self,
        schema: Schema,
        validator: SchemaValidator | Any,
        serializer: SchemaSerializer | Any,
        *,
        by_alias: bool = True,
    ) -> None:
        parts = list(nodes(schema))
        self.has_secrets = any(map(is_secret_node, parts))
        types = [part.get("type") for part in parts]  # a field may have this name, too, so they are not all texts
        self.has_decimals, self.has_any = "decimal" in types, "any" in types
        self.has_floats = self.has_any or "float" in types
        self.is_any = schema.get("type") == "any" and "serialization" not in schema
        self.compare: Comparison | None = comparison_of(schema)
        if by_alias and any("validation_alias" in part for part in parts):
            self.compare = Comparison()  # an alias may be the name of another field
        self._schema = schema
        self._stopping: SchemaValidator | Any = None
        self._validator = validator
        self._serializer = revealing(schema) if self.has_secrets else serializer
        self._masking = masking(schema) if self.has_secrets else serializer
        self._by_alias = by_alias

    @classmethod
    def of(cls, adapter: TypeAdapter[Any]) -> ValueForm:
        """Returns the form of the values of a type."""
        return cls(adapter.core_schema, adapter.validator, adapter.serializer)

    def described(self) -> str:
        """Returns a text that changes with the type: its JSON schema; empty if it has none."""
        from workflow_core.adapters import SchemaGenerator  # here, because most forms are not described

        try:
            return f"{SchemaGenerator().generate(self._schema)}\n"
        except Exception:  # of code of the user, too
            return ""

    def dump(self, value: Any) -> bytes:
        """Returns a value as it is stored.

        Raises:
            PydanticSerializationError: the value does not fit the type, or contains half of a character.
        """
        try:
            text: bytes = self._serializer.to_json(value, by_alias=False, round_trip=True, warnings="error")
            if REPLACED in text:
                refuse_halves(value)
            return text
        except PydanticSerializationError as error:
            if not self.has_secrets:
                with suppress(RecursionError):  # the error of a value that contains itself is clear
                    refuse_halves(value)  # with the place, which pydantic does not tell
                raise
            without_values = re.sub(r" \[[^\n]*", "", str(error))
        raise PydanticSerializationError(without_values)

    def load(self, text: str | bytes, **options: Any) -> Any:
        """Returns the value that ``dump`` wrote. For ``options``, see ``validate_json``.

        Raises:
            ValidationError: the text does not fit the type.
        """
        stops = len(text) > LARGE_BYTES
        return self.validate_json(text, stops=stops, by_alias=self._by_alias, by_name=True, **options)

    def validate_json(self, text: str | bytes, *, stops: bool, **options: Any) -> Any:
        """Returns the value for a JSON text.

        Args:
            stops: whether each list, set, tuple and mapping stops at its first error. An error takes 600 bytes, and a
                union makes one for each alternative, so those of a long list would take hundreds of megabytes.
            options: those of pydantic.

        Raises:
            ValidationError: the text does not fit the type.
        """
        if stops and self._stopping is None:
            try:
                self._stopping = SchemaValidator(stopping(self._schema), **FROM_THE_SCHEMA)
            except SchemaError:  # a type that allows only its own validator
                self._stopping = self._validator
        return (self._stopping if stops else self._validator).validate_json(text, **options)

    def shown(self, value: Any) -> bytes:
        """Returns what ``dump`` returns, with masked secrets."""
        text: bytes = self._masking.to_json(value, by_alias=False, round_trip=True, warnings=False)
        return text

    def pack(self, value: Any, path: Path = ()) -> Packed:
        """Returns a value of the type, after a check that it can be loaded again.

        Raises:
            Changed: the value would be loaded as another one.
            InvalidFields: it could not be loaded.
            PydanticSerializationError: the value does not fit the type.
        """
        text, compare, refusal = self.dump(value), self.compare, ""
        if compare is not None and (compare.is_needed() or not compare.fits(value)):
            try:
                loaded = self.load(text)
            except ValidationError as error:
                refusal = field_texts(error)
            if refusal:  # not inside of ``except``, because a log would show the values
                raise InvalidFields(f"the value could not be loaded again: {refusal}")
            compare(value, loaded, path)
        return Packed(text, self.shown(value) if self.has_secrets else None)

    def accept(self, value: Any) -> Any:
        """Returns what the type makes of a value that is given in Python: an instance of the type, or data that fits.

        Raises:
            ValidationError: the value does not fit.
        """
        return self._validator.validate_python(value, by_alias=True, by_name=True)


class LateForm(ValueForm):
    """A form that is made when it is first used."""

    def __init__(self, make: Callable[[], ValueForm]) -> None:
        self._make = make

    if not TYPE_CHECKING:  # type checkers would accept any name

        def __getattr__(self, name: str) -> object:
            vars(self).update(vars(self._make()))
            return object.__getattribute__(self, name)


def pack_untyped(value: Any, path: Path = ()) -> Any:
    """Returns the JSON data of a value whose receiver is not known, each part in the form of its own class.

    Raises:
        InvalidFields: a part is a secret, cannot be converted to JSON, or would be loaded as another value.
        PydanticSerializationError: a part contains half of a character.
    """
    match value:
        case None | bool() | str() | int() if type(value) in (type(None), bool, str, int):
            if type(value) is str and not value.isascii():
                refuse_halves(value, path)
            return value
        case Mapping():
            return {_key(key, path): pack_untyped(item, (*path, str(key))) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() | deque():
            return [pack_untyped(item, (*path, index)) for index, item in enumerate(value)]
        case float():
            if not math.isfinite(value):
                changed(value, None, path)
            return float(value)
    if isinstance(value, SECRETS):
        where = ".".join(map(str, path)) or "it"
        raise InvalidFields(f"{where} is a secret, but its receiver is not annotated with a type that has one. Do that")
    cls: Any = type(value)
    form = _form_of_class(cls)
    return from_json(to_json(value, by_alias=False, round_trip=True) if form is None else form.pack(value, path).text)


def _key(key: Any, path: Path) -> str:
    if isinstance(key, str):
        refuse_halves(key, path)
        return str(key)
    text: str = next(iter(from_json(to_json({key: None}))))
    cls: Any = type(key)
    form = _form_of_class(cls)
    if form is not None:
        compare_values(key, form.load(to_json(text)), (*path, text))
    return text


@lru_cache(maxsize=1000)
def _form_of_class(cls: Any) -> ValueForm | None:
    """Returns the form of the instances of a class; None if pydantic does not know it."""
    try:
        return ValueForm.of(TypeAdapter(cls))
    except PydanticUserError:
        return None
