"""Draws placed blocks as XML. Other modules determine all numbers, texts and colors."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from workflow_core.diagrams.svg import style
from workflow_core.diagrams.svg.blocks import CAPTION_SIZE, Block, ends_reached
from workflow_core.diagrams.svg.layout import (
    ICON,
    LINE,
    NOTE_LINE,
    NOTE_SIZE,
    PAD,
    PAD_TOP,
    TITLE_SIZE,
    repeats,
    text_left,
)

AXIS = PAD + ICON / 2
"""The distance of the arrows between blocks from their left edge."""

_OUTLINED = frozenset(("here", "failed"))
_AT_ONCE = frozenset(("go", "parallel", "race", "thread"))


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def path(parent: Element, role: str, d: str, **attributes: str) -> Element:
    """Draws a line without a fill."""
    lines = {"fill": "none", "stroke-width": "1.6", "stroke-linecap": "round", "stroke-linejoin": "round"}
    return SubElement(parent, "path", style.attributes(role) | lines | attributes, d=d)


def text(parent: Element, role: str, x: float, y: float, content: str, size: int, **attributes: str) -> None:
    values = style.attributes(role) | {"x": number(x), "y": number(y), "font-size": str(size)} | attributes
    SubElement(parent, "text", values).text = content


def icon(parent: Element, name: str, role: str, x: float, y: float, **attributes: str) -> None:
    """Draws an icon at its upper left corner."""
    path(parent, role, style.ICONS[name], transform=f"translate({number(x)} {number(y)})", **attributes)


def sign(parent: Element, state: str, x: float, y: float) -> None:
    """Draws the icon of a state."""
    icon(parent, state, state, x, y, **{"stroke-width": "4.5" if state == "here" else "2.2"})


def arrow(parent: Element, x: float, start: float, end: float) -> None:
    """Draws an arrow straight down."""
    at, below, top = number(x), number(end - 1), number(start + 1)
    head = f"M{number(x - 3.5)} {number(end - 5)}L{at} {below}L{number(x + 3.5)} {number(end - 5)}"
    path(parent, "arrow", f"M{at} {top}V{below}{head}")


def section(parent: Element, blocks: list[Block]) -> None:
    """Draws a sequence of blocks, with arrows to the next block where a thread continues."""
    for before, block in zip([None, *blocks], blocks, strict=False):
        if before is not None and before.goes_on:
            arrow(parent, block.x + AXIS, before.y + before.height, block.y)
        draw_block(parent, block)


def draw_block(parent: Element, block: Block) -> None:
    family = style.FAMILIES[block.kind]
    role = "lane" if block.kind in style.LANES else family
    group = SubElement(parent, "g", {"class": "wf-block", "data-kind": block.kind, "aria-label": block.label})
    if block.name is not None:
        group.set("data-name", block.name)
    if block.state:
        group.set("data-state", block.state)
    SubElement(group, "title").text = block.label
    _frame(group, block, role)
    if block.title:
        _head(group, block, family)
    if repeats(block) and block.body:
        _way_back(group, block)
    section(group, block.body)
    for lane in block.lanes:
        draw_block(group, lane)


def _frame(group: Element, block: Block, role: str) -> None:
    values = style.attributes(role) | {"stroke-width": "1", "rx": "6" if role == "lane" else "8"}
    if block.kind in _AT_ONCE and block.state != "here":
        values["stroke-dasharray"] = "5 4"
    if role == "jump":
        values["rx"] = number(min(block.height / 2, 19))
    if block.state in _OUTLINED:
        values |= style.attributes(role, block.state) | {"stroke-width": "2.5"}
    if block.state == "failed":
        values["stroke-dasharray"] = "8 3"
    corner = {"x": block.x, "y": block.y, "width": block.width, "height": block.height}
    SubElement(group, "rect", values | {name: number(value) for name, value in corner.items()})


def _head(group: Element, block: Block, family: str) -> None:
    top = block.y + PAD_TOP
    icon(group, block.kind, f"{family}-icon", block.x + PAD, top + (LINE - ICON) / 2)
    left, y = text_left(block), top + 15
    right = block.x + block.width - PAD - block.state_width
    if block.state:
        sign(group, block.state, right + block.state_width - ICON, top + (LINE - ICON) / 2)
    if block.caption:
        text(group, "muted", right, y, block.caption, CAPTION_SIZE, **{"text-anchor": "end"})
    for line in block.title_lines:
        text(group, "text", left, y, line, TITLE_SIZE, **{"font-weight": "600"})
        y += LINE
    y -= LINE - NOTE_LINE
    for role, line in block.note_lines:
        text(group, role, left, y, line, NOTE_SIZE)
        y += NOTE_LINE


def _way_back(group: Element, block: Block) -> None:
    """Draws the arrow from the end of a loop's body to its head."""
    if not ends_reached(block.body):
        return
    last = block.body[-1]
    x, start = block.x + AXIS, last.y + last.height - min(last.height / 2, 19)
    head = block.body[0].y - 5
    tip = f"M{number(x - 3.5)} {number(head + 4)}L{number(x)} {number(head)}L{number(x + 3.5)} {number(head + 4)}"
    path(group, "arrow", f"M{number(last.x - 2)} {number(start)}H{number(x + 6)}q-6 0-6-6V{number(head)}{tip}")
