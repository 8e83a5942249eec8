"""Reads a diagram back, and says what is wrong with its geometry. Holds no test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from workflow_core.diagrams.describe import Node
from workflow_core.diagrams.svg.text import width

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def parse(svg: str) -> Element:
    root = fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def groups(element: Element) -> list[Element]:
    """All blocks, outer ones first."""
    return [one for one in element.iter(f"{SVG}g") if one.get("class") == "wf-block"]


def group(root: Element, name: str) -> Element:
    """The one block of a name."""
    (found,) = (one for one in groups(root) if one.get("data-name") == name)
    return found


def texts(element: Element) -> list[str]:
    """What is written on a block itself, line by line."""
    return [one.text or "" for one in element.findall(f"{SVG}text")]


def outline(root: Element) -> list[tuple[str | None, str | None]]:
    """The kind and the name of each block."""
    return [(one.get("data-kind"), one.get("data-name")) for one in groups(root)]


def expected_outline(nodes: list[Node]) -> list[tuple[str | None, str | None]]:
    """The same from the definition."""
    return list(_expected(nodes))


def _expected(nodes: list[Node]) -> Iterator[tuple[str | None, str | None]]:
    for node in nodes:
        yield node["kind"], node.get("name")
        if node["kind"] in ("parallel", "race"):
            for branch in node["branches"]:
                yield "thread", None
                yield from _expected(branch)
            continue
        yield from _expected([node["work"]] if "work" in node else [])
        yield from _expected(node.get("statements", []))
        yield from _expected(node.get("branches", []))
        yield from _expected(node.get("cases", []))
        for clause in node.get("excepts", []):
            yield "except", clause["name"]
            yield from _expected(clause["statements"])
        if node.get("finally") is not None:
            yield "finally", None
            yield from _expected(node["finally"])


def box(element: Element) -> Box:
    rect = element.find(f"{SVG}rect")
    assert rect is not None
    x, y = float(rect.get("x", "0")), float(rect.get("y", "0"))
    return Box(x, y, x + float(rect.get("width", "0")), y + float(rect.get("height", "0")))


def text_box(element: Element) -> Box:
    size = float(element.get("font-size", "0"))
    x, y = float(element.get("x", "0")), float(element.get("y", "0"))
    wide = width(element.text or "", size, bold=element.get("font-weight") is not None)
    left = x - wide if element.get("text-anchor") == "end" else x
    return Box(left, y - size, left + wide, y + size * 0.3)


def check_geometry(root: Element) -> None:
    """Raises ``AssertionError`` unless blocks stand inside those that hold them, beside one another, and hold their
    texts, which stand beside one another too."""
    _check(root, box(root))


def _check(element: Element, outer: Box) -> None:
    inner = [(one, box(one)) for one in element.findall(f"{SVG}g") if one.get("class") == "wf-block"]
    lines = [(one.text, text_box(one)) for one in element.findall(f"{SVG}text")]
    for one, place in inner:
        assert place != outer and outer.holds(place), (one.attrib, place, outer)
        _check(one, place)
    for line, place in lines:
        assert outer.holds(place), (line, place, outer)
    places: list[tuple[Any, Box]] = [*((one.attrib, place) for one, place in inner), *lines]
    for number, (what, place) in enumerate(places):
        for other, another in places[:number]:
            assert not place.meets(another), (what, place, other, another)


def arrows(root: Element) -> int:
    """How many arrows lead straight down."""
    paths = [one.get("d", "") for one in root.iter(f"{SVG}path") if one.get("class") == "wf-arrow"]
    return sum("V" in d and "H" not in d for d in paths)
