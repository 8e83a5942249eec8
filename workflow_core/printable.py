"""What counts as printable in names and ids: what people can see and write, in every script. And how a text from a
client is shown where other characters would do something: on a terminal, and in a log."""

from __future__ import annotations

import json
import re

_FORMATS = "[\u200c\u200d\U000e0020-\U000e007f\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]"
"""Characters that people write, although Unicode classes them as formats and Python as not printable: the zero-width
joiner and non-joiner of emoji, Persian and Indic words, the tags in some flags, and the signs around Arabic, Syriac and
Kaithi numbers. Marks that change the direction of text are not among them: they make one name look like another."""


def is_printable(text: str) -> bool:
    """Whether a text has something to see, and nothing but printable characters and the joiners between them."""
    if text.isprintable():
        return text != ""
    visible = re.sub(_FORMATS, "", text)
    return visible != "" and visible.isprintable()


_COMMANDS = (
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\ud800-\udfff]"
)
"""Control characters, line separators, surrogates, and format characters other than those that people write."""


def escaped(text: str, *, keep: str = "") -> str:
    """Escapes the characters of a text that a terminal obeys, that change the direction of other text, or that begin a
    new line. The escapes are those of JSON: JSON stays the same value.

    Args:
        keep: characters that are not escaped.
    """
    if text.isprintable():
        return text
    return re.sub(_COMMANDS, lambda found: found[0] if found[0] in keep else json.dumps(found[0])[1:-1], text)
