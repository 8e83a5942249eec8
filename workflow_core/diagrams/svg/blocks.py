"""Converts a definition to nested blocks: their texts, their contents, and where a thread continues. No geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from workflow_core.diagrams import live
from workflow_core.diagrams.describe import SIGNED, Node, in_words, limit_in_words, title
from workflow_core.diagrams.svg.text import clean, shortened, width

CAPTION_SIZE = 12
CAPTION_WIDTH_MAX = 130
NOTE_CHARS_MAX = 200


@dataclass(slots=True)
class Block:
    """A statement or a part of one, and where it is drawn.

    Attributes:
        name: its qualified name in the definition; None if it has none.
        title: the text of its first lines; without a title, it has no head.
        caption: its kind, shown at its right edge.
        notes: lines below the title, each with the role of its color.
        body: the blocks that run in sequence inside it.
        lanes: its alternative or parallel parts: the cases of a wait, the branches of a decision.
        goes_on: whether a thread may reach the next block.
        state: ``here``, ``passed``, ``failed``, or empty.
        across: whether its lanes are side by side.
        state_width: the space for the sign of its state, at its right edge.
    """

    kind: str
    name: str | None = None
    title: str = ""
    caption: str = ""
    notes: list[tuple[str, str]] = field(default_factory=list)
    body: list[Block] = field(default_factory=list)
    lanes: list[Block] = field(default_factory=list)
    goes_on: bool = True
    state: str = ""
    across: bool = False
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    state_width: float = 0
    title_lines: list[str] = field(default_factory=list)
    note_lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """All its texts and its state, in one line."""
        parts = [f"{self.caption} {self.title}".strip(), *(text for _, text in self.notes)]
        return ", ".join([*parts, {"here": "", "passed": "passed", "failed": "failed"}.get(self.state, "")]).rstrip(
            ", "
        )


def blocks(statements: list[Node]) -> list[Block]:
    """Returns the blocks of a definition from ``workflow_core.diagrams.describe``."""
    return _Reader().section(statements)


def ends_reached(body: list[Block]) -> bool:
    """Whether a thread that starts these blocks may reach their end."""
    return all(block.goes_on for block in body)


class _Reader:
    """Reads a tree. Keeps track of the innermost loop, and of what a ``Return`` ends."""

    def __init__(self) -> None:
        self.loop = ""
        self.thread = "the workflow"

    def section(self, nodes: list[Node]) -> list[Block]:
        return [self.statement(node) for node in nodes]

    def statement(self, node: Node) -> Block:
        block = self.block(node)
        block.name = node.get("name")
        block.title = block.title or clean(title(node))
        return _finished(block, node)

    def block(self, node: Node) -> Block:
        kind = node["kind"]
        match kind:
            case "do":
                return Block(kind, caption="change")
            case "step" | "activity":
                return Block(kind, caption=kind)
            case "child":
                goes = ", continues at once" if node["detached"] else ""
                return Block(kind, caption="child", notes=[_note(f"of workflow {node['workflow']}{goes}")])
            case "wait_for" if "cases" in node:
                return _with_lanes(Block(kind, caption="wait until"), [self.case(case) for case in node["cases"]])
            case "wait_for":
                return Block(kind, caption="wait until")
            case "sleep":
                return Block(kind, caption="sleep", notes=[_note(in_words(node["delay"]))])
            case "fail":
                return Block(kind, caption="fail", notes=[_note(f"message: {node['message']}")], goes_on=False)
            case "if" | "switch":
                return self.decision(node)
            case "while":
                return Block(kind, caption="while", body=self.rounds(node))
            case "for_each":
                return self.for_each(node)
            case "select":
                count = len(node["cases"])
                block = Block(kind, caption="wait" if count == 1 else f"wait for one of {count}")
                return _with_lanes(block, [self.case(case) for case in node["cases"]])
            case "try":
                return self.attempt(node)
            case "within":
                return self.within(node)
            case "go":
                return Block(kind, caption="thread", body=self.inside(node["statements"], f"thread “{title(node)}”"))
            case "parallel" | "race":
                return self.parallel(node)
            case _:
                return self.leave(kind)

    def leave(self, kind: str) -> Block:
        """A ``return``, ``break`` or ``continue``, with its target."""
        to = {"return": f"end of {self.thread}", "break": f"out of “{self.loop}”"}.get(kind, f"again “{self.loop}”")
        return Block(kind, title=clean(to), caption=kind, goes_on=False)

    def rounds(self, node: Node) -> list[Block]:
        """The blocks that a loop repeats."""
        outer, self.loop = self.loop, node["name"]
        body = self.section(node["statements"])
        self.loop = outer
        return body

    def inside(self, nodes: list[Node], thread: str) -> list[Block]:
        """The blocks of a separate thread."""
        outer = self.loop, self.thread
        self.loop, self.thread = "", thread
        body = self.section(nodes)
        self.loop, self.thread = outer
        return body

    def lane(self, kind: str, title: str, caption: str, nodes: list[Node], node: Node | None = None) -> Block:
        """A part of a statement with its blocks and, if it is a node, its state."""
        body = self.section(nodes)
        node = node or {}
        notes = [_note("buffered if early")] if node.get("buffered") else []
        block = Block(kind, node.get("name"), clean(title), clean(caption), notes, body, goes_on=ends_reached(body))
        return _finished(block, node)

    def decision(self, node: Node) -> Block:
        lanes = []
        switch = node["kind"] == "switch"
        for number, branch in enumerate(node["branches"]):
            name = branch["name"]
            words = ("case", "case", "default") if switch else ("if", "else if", "else")
            word = words[2] if name is None else words[min(number, 1)]
            lanes.append(self.lane("branch", title(branch) or "otherwise", word, branch["statements"], branch))
        block = Block(node["kind"], caption="switch" if switch else "", across=True)
        _with_lanes(block, lanes)
        block.goes_on = block.goes_on or node["branches"][-1]["name"] is not None
        return block

    def case(self, case: Node) -> Block:
        kind, nodes = case["kind"], case["statements"]
        caption = in_words(case["delay"]) if kind == "timeout" else kind
        if kind == "on":
            caption = case["role"] or (SIGNED if case["verify"] else "event")
        if kind == "done":
            nodes = [case["work"], *nodes]
        return self.lane(kind, case["name"], caption, nodes, case)

    def for_each(self, node: Node) -> Block:
        if not node["parallel"]:
            return Block("for_each", caption="for each", body=self.rounds(node))
        body = self.inside(node["statements"], "this item")
        return Block("for_each", caption="for each, at once", notes=[_note(limit_in_words(node))], body=body)

    def parallel(self, node: Node) -> Block:
        lanes = []
        for number, nodes in enumerate(node["branches"], 1):
            outer = self.loop, self.thread
            self.loop, self.thread = "", "this branch"
            lanes.append(self.lane("thread", f"branch {number}", "", nodes))
            self.loop, self.thread = outer
        caption = "in parallel" if node["kind"] == "parallel" else "race: the first to end"
        return Block(node["kind"], caption=caption, lanes=lanes, across=True)

    def within(self, node: Node) -> Block:
        block = Block("within", caption="within", body=self.section(node["statements"]))
        block.lanes = [self.case(case) for case in node["cases"]]
        block.goes_on = ends_reached(block.body) or any(lane.goes_on for lane in block.lanes)
        return block

    def attempt(self, node: Node) -> Block:
        block = Block("try", caption="try", body=self.section(node["statements"]))
        excepts = []
        for clause in node["excepts"]:
            types = f"except {' or '.join(clause['types'])}"
            excepts.append(self.lane("except", clause["name"], types, clause["statements"], clause))
        block.lanes = excepts
        block.goes_on = ends_reached(block.body) or any(lane.goes_on for lane in excepts)
        if node["finally"] is not None:
            block.lanes = [*excepts, self.lane("finally", "always", "finally", node["finally"])]
        return block


def _with_lanes(block: Block, lanes: list[Block]) -> Block:
    block.lanes = lanes
    block.goes_on = any(lane.goes_on for lane in lanes)
    return block


def _finished(block: Block, node: Node) -> Block:
    """The block with its state, and with its caption below its title if the title is long."""
    if width(block.caption, CAPTION_SIZE) > CAPTION_WIDTH_MAX:
        block.notes.insert(0, _note(block.caption))
        block.caption = ""
    known = node.get("live")
    if known is None:
        return block
    block.state = live.state_of(node)
    if known["due"] is not None:
        due = datetime.fromisoformat(known["due"]).astimezone(UTC)
        block.notes.append(_note(f"due {due:%Y-%m-%d %H:%M:%S} UTC"))
    block.notes += [_note(text, "here-text") for text in live.in_words(known["threads"])]
    block.notes += [_note(text, "failed-text") for text in live.errors_in_words(node)]
    return block


def _note(text: str, role: str = "muted") -> tuple[str, str]:
    return (role, shortened(clean(text), NOTE_CHARS_MAX))
