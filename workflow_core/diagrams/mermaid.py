"""Draws a definition as a Mermaid flowchart. Deterministic: the same definition results in the same text."""

from __future__ import annotations

import re
from dataclasses import field

from workflow_core.diagrams import describe
from workflow_core.diagrams.describe import Node
from workflow_core.diagrams.live import Live, errors_in_words, in_words, state_of
from workflow_core.program.program import Program
from workflow_core.records import record

Ends = list[tuple[str, str]]
"""Open arrows: the node where each one starts, and its label."""


def draw(program: Program, live: Live | None = None) -> str:
    """Returns the diagram of a definition or of an instance.

    Args:
        live: the instance, from ``live.look``. If given, statements start with a sign of their state.
    """
    return _Drawing().draw(program.workflow, describe.statements(program) if live is None else live.statements)


@record(slots=True)
class _Loop:
    start: str
    breaks: Ends = field(default_factory=list)


@record(slots=True)
class _Crossing:
    """The arrows that leave a ``Try`` by ``Return``, ``Break`` or ``Continue``, through its ``finally_`` section."""

    ends: dict[str, Ends] = field(default_factory=dict)


class _Drawing:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.nest: list[_Loop | _Crossing] = []
        self.end = ""
        self.count = 0
        self.known: Node = {}

    def draw(self, workflow: str, statements: list[Node]) -> str:
        self.thread(workflow, statements)
        return "\n".join(["flowchart TD", *self.lines]) + "\n"

    def node(self, label: str, shape: tuple[str, str]) -> str:
        self.count += 1
        label, self.known = _with_state(label, self.known), {}
        self.lines.append(f'  n{self.count}{shape[0]}"{_text(label)}"{shape[1]}')
        return f"n{self.count}"

    def join(self, ends: Ends, target: str) -> None:
        for node, label in ends:
            self.lines.append(f'  {node} -->|"{_text(label)}"| {target}' if label else f"  {node} --> {target}")

    def thread(self, name: str, statements: list[Node]) -> str:
        """Draws a separate thread from its start to its end. Returns its start."""
        outer_end, outer_nest, self.nest = self.end, self.nest, []
        start = self.node(name, ("([", "])"))
        self.end = self.node("end", ("((", "))"))
        self.join(self.section(statements, [(start, "")]), self.end)
        self.end, self.nest = outer_end, outer_nest
        return start

    def section(self, statements: list[Node], ends: Ends) -> Ends:
        for statement in statements:
            ends = self.statement(statement, ends)
        return ends

    def statement(self, node: Node, ends: Ends) -> Ends:
        self.known = node if "name" in node and node["kind"] != "switch" else {}
        match node["kind"]:
            case "step":
                return self.block(node["name"], ("[", "]"), ends)
            case "do":
                return self.block(node["name"], ("[", "]"), ends)
            case "wait_for" if "cases" not in node:
                return self.block(f"until {node['name']}", ("{{", "}}"), ends)
            case "wait_for":
                return self.select(node, ends, f"until {node['name']}")
            case "if" | "switch":
                return self.branches(node["branches"], ends)
            case "while":
                return self.loop(node, ends)
            case "select":
                return self.select(node, ends)
            case "sleep":
                return self.block(f"{node['name']} ({describe.in_words(node['delay'])})", ("{{", "}}"), ends)
            case "activity" | "child":
                return self.block(node["name"], ("[[", "]]"), ends)
            case "fail":
                self.block(node["name"], (">", "]"), ends)
            case "try":
                return self.attempt(node, ends)
            case "within":
                return self.within(node, ends)
            case "for_each" if not node["parallel"]:
                return self.loop(node | {"name": describe.with_word("each of", node["name"])}, ends, ("next", "done"))
            case "for_each":
                return self.fork(
                    describe.with_word("each of", node["name"]),
                    [node["statements"]],
                    ends,
                    describe.limit_in_words(node),
                )
            case "parallel":
                return self.fork(node["name"], node["branches"], ends)
            case "race":
                return self.fork(node["name"], node["branches"], ends, joined="first of")
            case "go":
                at = self.block(f"start {describe.title(node)}", ("[/", "/]"), ends)
                thread = self.thread(describe.title(node), node["statements"])
                self.lines.append(f"  {at[0][0]} -.-> {thread}")
                return at
            case _:
                self.leave(node["kind"], ends)
        return []

    def leave(self, kind: str, ends: Ends) -> None:
        """Draws a ``return``, a ``break`` or a ``continue``."""
        for level in reversed(self.nest):
            if isinstance(level, _Crossing):
                level.ends.setdefault(kind, []).extend(ends)
                return
            if kind == "continue":
                self.join(ends, level.start)
                return
            if kind == "break":
                level.breaks += ends
                return
        self.join(ends, self.end)

    def block(self, label: str, shape: tuple[str, str], ends: Ends) -> Ends:
        node = self.node(label, shape)
        self.join(ends, node)
        return [(node, "")]

    def branches(self, branches: list[Node], ends: Ends) -> Ends:
        result: Ends = []
        for branch in branches:
            if branch["name"] is None:
                return result + self.section(branch["statements"], ends)
            self.known = branch
            condition = self.block(branch["name"], ("{", "}"), ends)[0][0]
            result += self.section(branch["statements"], [(condition, "yes")])
            ends = [(condition, "no")]
        return result + ends

    def loop(self, node: Node, ends: Ends, labels: tuple[str, str] = ("yes", "no")) -> Ends:
        condition = self.block(node["name"], ("{", "}"), ends)[0][0]
        loop = _Loop(condition)
        self.nest.append(loop)
        self.join(self.section(node["statements"], [(condition, labels[0])]), condition)
        self.nest.pop()
        return [(condition, labels[1]), *loop.breaks]

    def attempt(self, node: Node, ends: Ends) -> Ends:
        """Draws a ``Try``: dotted arrows lead from its start to its ``except_`` and ``finally_`` sections."""
        start = self.block(describe.with_word("try", node["name"]), ("(", ")"), ends)[0][0]
        crossing = _Crossing()
        if node["finally"] is not None:
            self.nest.append(crossing)
        result = self.section(node["statements"], [(start, "")])
        for clause in node["excepts"]:
            caught = self.node(clause["name"], ("(", ")"))
            self.lines.append(f'  {start} -.->|"{_text(" or ".join(clause["types"]))}"| {caught}')
            result += self.section(clause["statements"], [(caught, "")])
        if node["finally"] is None:
            return result
        self.nest.pop()
        ways_in = [*result, *(end for ends in crossing.ends.values() for end in ends)]
        cleanup = self.block(f"finally of {node['name']}", ("(", ")"), ways_in)
        self.lines.append(f'  {start} -.->|"always"| {cleanup[0][0]}')
        ways_out = self.section(node["finally"], cleanup)
        for kind in crossing.ends:
            self.leave(kind, [(end, f"{label}, {kind}" if label else kind) for end, label in ways_out])
        return ways_out if result else []

    def within(self, node: Node, ends: Ends) -> Ends:
        """Draws a ``Within``: a dotted arrow leads from its start to what runs when its deadline has passed."""
        label = f"within {node['name']} ({describe.in_words(node['delay'])})"
        start = self.block(label, ("(", ")"), ends)[0][0]
        result = self.section(node["statements"], [(start, "")])
        late = self.node(f"timeout of {node['name']}", ("(", ")"))
        self.lines.append(f"  {start} -.-> {late}")
        return result + self.section(node["cases"][0]["statements"], [(late, "")])

    def fork(self, name: str, branches: list[list[Node]], ends: Ends, limit: str = "", joined: str = "all of") -> Ends:
        """Draws threads that start together and are joined. ``Return`` ends a branch; no branch has a ``Break``."""
        start = self.block(f"{name} ({limit})" if limit else name, ("[/", "/]"), ends)
        outer_end, outer_nest, self.nest = self.end, self.nest, []
        self.end = self.node(f"{joined} {name}", ("[\\", "\\]"))
        for branch in branches:
            self.join(self.section(branch, start), self.end)
        join, self.end, self.nest = self.end, outer_end, outer_nest
        return [(join, "")]

    def select(self, node: Node, ends: Ends, title: str = "") -> Ends:
        at = self.block(title or node["name"], ("{{", "}}"), ends)[0][0]
        result: Ends = []
        for case in node["cases"]:
            label = case["name"]
            if case["kind"] == "timeout":
                label = f"{label} ({describe.in_words(case['delay'])})"
            elif case.get("role"):
                label = f"{label} ({case['role']})"
            elif case.get("verify"):
                label = f"{label} ({describe.SIGNED})"
            way = [(at, label)]
            if case["kind"] == "done":
                way = [(self.statement(case["work"], [(at, "")])[0][0], label)]
            result += self.section(case["statements"], way)
        return result


def _with_state(label: str, node: Node) -> str:
    """A label with the state of its node, if any."""
    state = state_of(node)
    if not state:
        return label
    words = "; ".join([*in_words(node["live"]["threads"]), *errors_in_words(node)])
    return f"{_SIGNS[state]} {label}" + (f" ({words})" if words else "")


_SIGNS = {"here": "●", "passed": "✓", "failed": "✗"}

# Mermaid has its own character references, and treats ``&#124;`` as one of them after an ``&``. It interprets labels as
# Markdown, and some of its own syntax even within quotes. Everything except plain text is therefore a reference.
_SPECIAL = re.compile(r"[^\w .,'()/?!@+=-]|_|^[+=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])")


def _text(label: str) -> str:
    """A label, escaped so that any text is shown unchanged."""
    text = _SPECIAL.sub(lambda found: f"#{ord(found[0])};", label)
    return _NUMBERED.sub(lambda found: f"{found[1]}#{ord(found[2])};", text)
