"""Draws the whole image: the name of the workflow, its blocks between a start and an end, and a description."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

from workflow_core.diagrams import describe
from workflow_core.diagrams.live import THREADS_SHOWN, Live, in_words
from workflow_core.diagrams.svg import style
from workflow_core.diagrams.svg.blocks import NOTE_CHARS_MAX, Block, blocks, ends_reached
from workflow_core.diagrams.svg.drawing import AXIS, arrow, number, section, sign, text
from workflow_core.diagrams.svg.layout import GAP, ICON, NOTE_LINE, NOTE_SIZE, place
from workflow_core.diagrams.svg.text import clean, shortened, width, wrap
from workflow_core.program.program import Program

MARGIN = 20
WIDTH_MIN = 380
NAME_SIZE = 18
NAME_LINE = 26
DOT = 6
HEAD_WIDTH_MAX = 600
LEGEND_HEIGHT = GAP + 4


def draw(program: Program, live: Live | None = None, *, style: bool = True) -> str:
    """Returns the image of a definition or of an instance, as a document or for a page.

    Args:
        live: the instance, from ``workflow_core.diagrams.live.look``.
        style: include the style sheet for dark mode; see ``workflow_core.diagrams.svg``.
    """
    return _Picture(program, live, style).draw()


class _Picture:
    def __init__(self, program: Program, live: Live | None, with_style: bool) -> None:
        self.name = clean(program.workflow)
        self.live = live
        self.with_style = with_style
        self.blocks = blocks(describe.statements(program) if live is None else live.statements)
        self.notes = [] if live is None else list(_notes(live))
        self.ends = ends_reached(self.blocks)

    def draw(self) -> str:
        name_lines = wrap(self.name, NAME_SIZE, HEAD_WIDTH_MAX, bold=True)
        lines = [(role, line) for role, note in self.notes for line in wrap(note, NOTE_SIZE, HEAD_WIDTH_MAX)]
        head = [width(line, NAME_SIZE, bold=True) for line in name_lines] + [
            width(line, NOTE_SIZE) for _, line in lines
        ]
        start = MARGIN + NAME_LINE * len(name_lines) + NOTE_LINE * len(lines) + 8 + DOT
        first = start + DOT + GAP
        room, bottom = place(self.blocks, MARGIN, first, max(WIDTH_MIN, *head), live=self.live is not None)
        end = bottom + (GAP + 2 * DOT + 2 if self.ends else 0)
        height = end + MARGIN + (LEGEND_HEIGHT if self.live is not None else 0)

        svg = self.root(room + 2 * MARGIN, height)
        y: float = MARGIN + 18
        for line in name_lines:
            text(svg, "text", MARGIN, y, line, NAME_SIZE, **{"font-weight": "700"})
            y += NAME_LINE
        y -= NAME_LINE - NOTE_LINE - 3
        for role, line in lines:
            text(svg, role, MARGIN, y, line, NOTE_SIZE)
            y += NOTE_LINE
        self.flow(svg, start, first, bottom)
        if self.live is not None:
            _legend(svg, end + GAP)
        return tostring(svg, encoding="unicode")

    def flow(self, svg: Element, start: float, first: float, bottom: float) -> None:
        """Draws the arrows from the start to the end."""
        x = MARGIN + AXIS
        begins = self.live is not None and bool(self.live.starting)
        self.dot(svg, x, start, "start", "here" if begins else "")
        if self.blocks:
            arrow(svg, x, start + DOT, first)
        section(svg, self.blocks)
        if self.ends:
            arrow(svg, x, bottom if self.blocks else start + DOT, bottom + GAP)
            ended = self.live is not None and self.live.ended
            self.dot(svg, x, bottom + GAP + DOT + 1, "end", "passed" if ended else "")

    def root(self, width: float, height: float) -> Element:
        size = {"width": number(width), "height": number(height), "viewBox": f"0 0 {number(width)} {number(height)}"}
        names = {"xmlns": "http://www.w3.org/2000/svg", "class": style.SCOPE, "role": "img"}
        title = f"Workflow {self.name}" + (f", {self.notes[0][1]}" if self.notes else "")
        svg = Element("svg", names | size | {"font-family": style.FONT, "aria-label": title})
        SubElement(svg, "title").text = title
        notes = [note for _, note in self.notes[1:]]
        SubElement(svg, "desc").text = "\n".join([*notes, *_outline(self.blocks, 0)])
        if self.with_style:
            SubElement(svg, "style").text = style.STYLE
        SubElement(svg, "rect", style.attributes("page"), width=size["width"], height=size["height"])
        return svg

    def dot(self, svg: Element, x: float, y: float, what: str, state: str) -> None:
        """Draws the start or the end of the main thread."""
        at = {"cx": number(x), "cy": number(y)}
        label = f"{what}, {state}" if state else what
        group = SubElement(svg, "g", {"aria-label": label, "data-kind": what})
        SubElement(group, "title").text = label
        if state:
            sign(group, state, x + 2 * DOT, y - ICON / 2)
        values = style.attributes("arrow") | at | {"r": str(DOT), "fill": "none", "stroke-width": "1.6"}
        SubElement(group, "circle", values)
        radius = 5 if what == "start" else 3
        SubElement(group, "circle", style.attributes("muted") | at | {"r": number(radius)})


def _notes(live: Live) -> Iterator[tuple[str, str]]:
    """The notes about the whole instance, each with the role of its color."""
    yield "muted", clean(f"instance {live.id}: {live.status.value}")
    if live.error:
        yield "failed-text", shortened(clean(live.error), NOTE_CHARS_MAX)
    for line in in_words(live.starting):
        yield "here-text", clean(line)
    for thread, statement in live.lost[:THREADS_SHOWN]:
        yield "failed-text", clean(f"{thread} is at “{statement}”, which the definition no longer contains")
    if len(live.lost) > THREADS_SHOWN:
        yield "failed-text", f"and {len(live.lost) - THREADS_SHOWN} more threads"


def _legend(svg: Element, y: float) -> None:
    """Draws the legend of the signs of states."""
    group = SubElement(svg, "g", {"aria-hidden": "true", "data-kind": "legend"})
    x: float = MARGIN
    for state, meaning in (("here", "a thread is here"), ("passed", "passed"), ("failed", "failed")):
        sign(group, state, x, y - ICON + 3)
        text(group, "muted", x + ICON + 6, y, meaning, NOTE_SIZE)
        x += ICON + 6 + width(meaning, NOTE_SIZE) + 20


def _outline(blocks: list[Block], depth: int) -> Iterator[str]:
    """The blocks as text, one per line."""
    for block in blocks:
        yield "  " * depth + block.label
        yield from _outline(block.body, depth + 1)
        yield from _outline(block.lanes, depth + 1)
