"""Measures and wraps text without a browser, with widths that no common sans-serif font exceeds."""

from __future__ import annotations

import re
import unicodedata

_WIDTHS = {
    char: width
    for width, chars in (
        (0.30, "'ijlI"),
        (0.36, " ,./:;\\|f-"),
        (0.42, "()[]t!r"),
        (0.50, '"*J`'),
        (0.57, "szc?L_"),
        (0.64, "kvxyFTaoebdghnpqu0123456789${}"),
        (0.69, "EKPSYAVBXZ"),
        (0.79, "CRUHND&GOQ"),
        (0.87, "w#+<=>^~M"),
        (1.02, "%mW@"),
    )
    for char in chars
}
"""The widths of ASCII characters as fractions of the font size: the maximum of DejaVu Sans and Arial."""

_BOLD = 1.17
_EMOJI = 1.45
_OTHER = 1.05

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PIECES = re.compile(r"[^\s/_-]*[\s/_-]*")


def clean(text: str) -> str:
    """Returns the text in one line, with a replacement for each character that XML does not allow."""
    return " ".join(_NOT_IN_XML.sub("\ufffd", text).split())


def shortened(text: str, chars_max: int) -> str:
    """Returns the beginning of a text."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Returns an upper bound of the width of a text in a font of this size."""
    return sum(map(_em, text)) * size * (_BOLD if bold else 1)


def wrap(text: str, size: float, limit: float, *, bold: bool = False) -> list[str]:
    """Splits a text into lines, at least one. No line is wider than ``limit`` if a character fits into it."""
    lines = [""]
    for word in _PIECES.findall(text):
        for piece in _fitting(word, size, limit, bold):
            if lines[-1] and width((lines[-1] + piece).rstrip(), size, bold=bold) > limit:
                lines.append("")
            lines[-1] += piece
    return [line.strip() for line in lines]


def _fitting(word: str, size: float, limit: float, bold: bool) -> list[str]:
    """The word, or if it is too long, pieces of it that fit. A character stays together with its modifiers."""
    if width(word.rstrip(), size, bold=bold) <= limit:
        return [word]
    pieces = [""]
    for char in word:
        joins = _em(char) == 0 or pieces[-1].endswith("\u200d")
        if pieces[-1] and not joins and width(pieces[-1] + char, size, bold=bold) > limit:
            pieces.append("")
        pieces[-1] += char
    return pieces


def _em(char: str) -> float:
    known = _WIDTHS.get(char)
    if known is not None:
        return known
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    if ord(char) >= 0x1F000 and not unicodedata.category(char).startswith("L"):
        return _EMOJI
    return _WIDTHS.get(unicodedata.normalize("NFD", char)[0], _OTHER)
