"""Writes the table of the types of fields in docs/guides/fields.md, from the code that decides what is compared.

python docs/kept_types.py
"""

from __future__ import annotations

import enum
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import make_dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, AnyUrl, SecretStr, create_model

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guides" / "fields.md"

sys.path.insert(0, str(ROOT))

from workflow_core.keeping import comparison_of  # noqa: E402

_MODEL = create_model("Model", number=int)
_Text = enum.Enum("_Text", {"A": "a"})
_Pair = enum.Enum("_Pair", {"A": (1, 2)})
_DATA = make_dataclass("Data", [("number", int)])

TYPES: dict[str, tuple[Any, str]] = {
    "`str`, `int`, `bool`, `None`": (str | int | bool | None, ""),
    "`date`, `timedelta`, `UUID`": (date, ""),
    "an `Enum` or a `Literal` of texts, numbers and `None`": (_Text, ""),
    "`list`, `set`, `tuple` and `dict` of exact types; keys are `str`, `int`, `date` or `UUID`": (
        dict[str, list[tuple[int, ...]]],
        "a subclass, such as a `defaultdict`",
    ),
    "`int \\| str` and other unions of `str`, `int`, `bool` and `None`": (int | str, ""),
    "a model or a dataclass of exact types": (
        _MODEL,
        "an instance of a subclass, whose own fields are not stored; an attribute that its class does not declare",
    ),
    "`float`": (float, "NaN and infinities, unless the model has `ser_json_inf_nan='constants'` or `'strings'`"),
    "`Decimal`": (Decimal, "NaN and infinities"),
    "`datetime`, `time`": (
        datetime,
        'a time zone with a name, such as `Europe/Berlin` or `timezone(delta, "name")`: only its offset is stored',
    ),
    "`bytes`": (bytes, "bytes that are not UTF-8"),
    "`Any`, `object`": (Any, "what is not plain JSON: models, dates, tuples, keys that are not texts"),
    "other unions, without a discriminator": (date | str, "a value that another member of the union accepts"),
    "an `Enum` of other values": (_Pair, "a value that JSON changes, such as a tuple of tuples"),
    "`deque`, `Sequence`, `Mapping`": (Sequence[int], "a `maxlen`; a tuple in a `Sequence`"),
    "`dict` with other keys": (dict[int | str, int], "a key that is loaded as another type"),
    "`re.Pattern`": (re.Pattern[str], "flags"),
    "URLs, paths, addresses and other types of pydantic": (AnyUrl, "none is known"),
    "types with validators or serializers of your own": (
        typing.Annotated[int, AfterValidator(abs)],
        "a validator that changes its own result; a serializer that leaves something out",
    ),
    "a model with private attributes, excluded fields, `extra='allow'` or `model_post_init`": (
        create_model("Open", __config__={"extra": "allow"}),
        "what is not stored, or computed anew at a load",
    ),
    "`SecretStr`, `SecretBytes`, `Secret[T]`": (SecretStr, "as for the type inside; see below"),
}


def table() -> str:
    """The table in Markdown."""
    lines = ["| type | at a commit | refused |", "|---|---|---|"]
    for name, (annotation, refused) in TYPES.items():
        compare = comparison_of(create_model("Holder", value=annotation).__pydantic_core_schema__)
        assert compare is not None
        lines.append(f"| {name} | {'compared' if compare.is_needed() else 'exact'} | {refused} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table."""
    before, start, rest = page.partition("<!-- kinds of types -->\n")
    _, end, after = rest.partition("<!-- end -->")
    assert start
    assert end, "docs/guides/fields.md has no place for the table"
    return f"{before}{start}\n{table()}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
