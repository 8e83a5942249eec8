"""Which characters are escaped where a text is shown."""

from __future__ import annotations

import json
import sys
import unicodedata

from workflow_core.printable import escaped, is_printable

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_every_character_that_is_obeyed_or_hides_something_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in OBEYED and not is_printable(f"a{char}"):
            assert escaped(char).isascii() and escaped(char).isprintable(), hex(code)
            assert code >= 0xD800 or json.loads(f'"{escaped(char)}"') == char
        elif is_printable(char):
            assert escaped(char) == char, hex(code)


def test_only_what_is_asked_for_is_kept() -> None:
    assert escaped("a\n\t\x1b[2Jé☕", keep="\n") == "a\n\\t\\u001b[2Jé☕"
    assert escaped("\U000e0001") == "\\udb40\\udc01"
    assert escaped("") == ""
