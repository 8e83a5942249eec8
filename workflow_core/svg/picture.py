"""The whole picture: the name of the workflow, its blocks between a start and an end, and a description."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

from workflow_core import describe
from workflow_core.program import Program
from workflow_core.svg import style
from workflow_core.svg.blocks import Block, blocks, ends_reached
from workflow_core.svg.drawing import AXIS, arrow, number, section, text
from workflow_core.svg.layout import GAP, place
from workflow_core.svg.text import clean, width, wrap

MARGIN = 20
WIDTH_MIN = 380
NAME_SIZE = 18
NAME_LINE = 26
DOT = 6


def draw(program: Program, *, style: bool = True) -> str:
    """The picture of a definition, as a document of its own or part of a page.

    Args:
        style: with the style sheet for readers who want dark pages; see above.
    """
    return _Picture(program, style).draw()


class _Picture:
    def __init__(self, program: Program, with_style: bool) -> None:
        self.name = clean(program.workflow)
        self.with_style = with_style
        self.blocks = blocks(describe.statements(program))

    def draw(self) -> str:
        name_lines = wrap(self.name, NAME_SIZE, 600, bold=True)
        top = MARGIN + NAME_LINE * len(name_lines) + 8
        start = top + DOT
        first = start + DOT + GAP
        width_min = max(WIDTH_MIN, *(width(line, NAME_SIZE, bold=True) for line in name_lines))
        room, bottom = place(self.blocks, MARGIN, first, width_min, live=False)
        has_end = ends_reached(self.blocks)
        height = bottom + MARGIN + (GAP + 2 * DOT + 2 if has_end else 0)

        svg = self.root(room + 2 * MARGIN, height)
        for line_number, line in enumerate(name_lines):
            text(svg, "text", MARGIN, MARGIN + 18 + NAME_LINE * line_number, line, NAME_SIZE, **{"font-weight": "700"})
        x = MARGIN + AXIS
        self.dot(svg, x, start, "start")
        if self.blocks:
            arrow(svg, x, start + DOT, first)
        section(svg, self.blocks)
        if has_end:
            arrow(svg, x, bottom if self.blocks else start + DOT, bottom + GAP)
            self.dot(svg, x, bottom + GAP + DOT + 1, "end")
        return tostring(svg, encoding="unicode")

    def root(self, width: float, height: float) -> Element:
        size = {"width": number(width), "height": number(height), "viewBox": f"0 0 {number(width)} {number(height)}"}
        names = {"xmlns": "http://www.w3.org/2000/svg", "class": style.SCOPE, "role": "img"}
        title = f"Workflow {self.name}"
        svg = Element("svg", names | size | {"font-family": style.FONT, "aria-label": title})
        SubElement(svg, "title").text = title
        SubElement(svg, "desc").text = "\n".join(_outline(self.blocks, 0))
        if self.with_style:
            SubElement(svg, "style").text = style.STYLE
        SubElement(svg, "rect", style.attributes("page"), width=size["width"], height=size["height"])
        return svg

    def dot(self, svg: Element, x: float, y: float, what: str) -> None:
        """Where the main thread starts, or ends."""
        at = {"cx": number(x), "cy": number(y)}
        group = SubElement(svg, "g", {"aria-label": what})
        SubElement(group, "title").text = what
        values = style.attributes("arrow") | at | {"r": str(DOT), "fill": "none", "stroke-width": "1.6"}
        SubElement(group, "circle", values)
        radius = 5 if what == "start" else 3
        SubElement(group, "circle", style.attributes("muted") | at | {"r": number(radius)})


def _outline(blocks: list[Block], depth: int) -> Iterator[str]:
    """The blocks in words, one a line."""
    for block in blocks:
        if block.label:
            yield "  " * depth + block.label
        yield from _outline(block.body, depth + 1)
        yield from _outline(block.lanes, depth + 1)
