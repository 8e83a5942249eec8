"""Places the blocks of a diagram. A definition is a tree, so blocks are below and inside one another.

First, the width that each block needs is computed from the inside out. Then all blocks are placed from the outside in:
blocks in a sequence get the same width, and text is wrapped to the available width.
"""

from __future__ import annotations

from workflow_core.diagrams.svg.blocks import CAPTION_SIZE, Block
from workflow_core.diagrams.svg.text import width, wrap

TITLE_SIZE = 14
NOTE_SIZE = 12
LINE = 20
NOTE_LINE = 17
ICON = 16
PAD = 12
PAD_TOP = 9
RAIL = 32
GAP = 18
LANE_GAP = 8
TITLE_WIDTH_MAX = 340
TITLE_WIDTH_MIN = 60
ROW_WIDTH_MAX = 700
STATE_WIDTH = 24


def text_left(block: Block) -> float:
    """The left edge of the text of a block."""
    return block.x + PAD + ICON + 8


def place(blocks: list[Block], x: float, y: float, width_min: float, *, live: bool) -> tuple[float, float]:
    """Places blocks below one another.

    Args:
        live: leave space for the signs of states.

    Returns:
        Their width, and the position of their end.
    """
    layout = _Layout(STATE_WIDTH if live else 0)
    needed = max([width_min, *(layout.need(block) for block in blocks)])
    return needed, layout.section(blocks, x, y, needed)


class _Layout:
    def __init__(self, state_width: float) -> None:
        self.state_width = state_width

    def need(self, block: Block) -> float:
        """The width that a block needs. Also decides whether its lanes are side by side."""
        result = 0.0
        if block.title:
            title = min(width(block.title, TITLE_SIZE, bold=True), TITLE_WIDTH_MAX)
            notes = (min(width(text, NOTE_SIZE), TITLE_WIDTH_MAX) for _, text in block.notes)
            head = max(max(title, TITLE_WIDTH_MIN) + self.beside(block), *notes, 0)
            result = PAD + ICON + 8 + head + self.state_width + PAD
        if block.body:
            result = max(result, _inset(block) + PAD + max(self.need(inner) for inner in block.body))
        if block.lanes:
            needs = [self.need(lane) for lane in block.lanes]
            row = sum(needs) + LANE_GAP * (len(needs) - 1)
            block.across = block.across and row <= ROW_WIDTH_MAX
            result = max(result, 2 * PAD + (row if block.across else max(needs)))
        return float(round(result + 0.5))

    def beside(self, block: Block) -> float:
        """The width of the parts at the right of the title."""
        return 16 + width(block.caption, CAPTION_SIZE) if block.caption else 0

    def section(self, blocks: list[Block], x: float, y: float, room: float) -> float:
        """Places blocks below one another. Returns the position of their end."""
        for block in blocks:
            self.block(block, x, y, room)
            y += block.height + GAP
        return y - GAP if blocks else y

    def block(self, block: Block, x: float, y: float, room: float) -> None:
        block.x, block.y, block.width, block.state_width = x, y, room, self.state_width
        end: float = y + PAD
        if block.title:
            left = text_left(block) - x
            space = room - left - PAD - self.state_width
            block.title_lines = wrap(block.title, TITLE_SIZE, space - self.beside(block), bold=True)
            block.note_lines = [(role, line) for role, text in block.notes for line in wrap(text, NOTE_SIZE, space)]
            end = y + 2 * PAD_TOP + LINE * len(block.title_lines) + NOTE_LINE * len(block.note_lines)
        if block.body:
            inset = _inset(block)
            end = self.section(block.body, x + inset, end, room - inset - PAD) + PAD
        if block.lanes:
            end = self.lanes(block, end) + PAD
        block.height = end - y

    def lanes(self, block: Block, y: float) -> float:
        room = block.width - 2 * PAD
        if not block.across:
            for lane in block.lanes:
                self.block(lane, block.x + PAD, y, room)
                y += lane.height + LANE_GAP
            return y - LANE_GAP
        needs = [self.need(lane) for lane in block.lanes]
        spare = (room - sum(needs) - LANE_GAP * (len(needs) - 1)) / len(needs)
        x = block.x + PAD
        for lane, need in zip(block.lanes, needs, strict=True):
            self.block(lane, x, y, need + spare)
            x += need + spare + LANE_GAP
        height = max(lane.height for lane in block.lanes)
        for lane in block.lanes:
            lane.height = height
        return y + height


def _inset(block: Block) -> float:
    """The distance of the body from the left edge. A loop needs space for its arrow back."""
    return RAIL if repeats(block) else PAD


def repeats(block: Block) -> bool:
    """Whether a thread returns to the head of the block."""
    return block.kind == "while" or (block.kind == "for_each" and block.caption == "for each")
