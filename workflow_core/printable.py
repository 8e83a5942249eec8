"""What counts as printable in names and ids: what people can see and write, in every script."""

from __future__ import annotations

import re

_FORMATS = re.compile(
    "[\u200c\u200d\U000e0020-\U000e007f\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]"
)
"""Characters that people write, although Unicode classes them as formats and Python as not printable: the zero-width
joiner and non-joiner of emoji, Persian and Indic words, the tags in some flags, and the signs around Arabic, Syriac and
Kaithi numbers. Marks that change the direction of text are not among them: they make one name look like another."""


def is_printable(text: str) -> bool:
    """Whether a text has something to see, and nothing but printable characters and the joiners between them."""
    visible = _FORMATS.sub("", text)
    return visible != "" and visible.isprintable()
