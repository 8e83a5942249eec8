"""What is generated from a definition: its statements, its events, its diagram."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pizza import PizzaOrder

from tests.http.helpers import Http
from tests.http.workflows import WORKFLOWS
from workflow_core import (
    Break,
    Case,
    Continue,
    Default,
    Go,
    If,
    On,
    Return,
    S,
    Select,
    Step,
    Switch,
    Timeout,
    WaitFor,
    While,
    Workflow,
)
from workflow_core.diagrams import describe, mermaid

GOLDEN = Path(__file__).parent / "golden"


def work(_: Any) -> None:
    return None


def holds(_: Any) -> bool:
    return True


class Everything(Workflow, name="everything"):
    """Each statement, nested in others, under names that a diagram has to escape."""

    definition = S(
        Step('say "hello" <b>&amp;</b> | [x] {y} (z)', work),
        While(
            "loop",
            holds,
            If("first?", holds, Break()).elif_("second?", holds, Continue()).else_(Step("otherwise", work)),
            If("alone?", holds, Step("inside", work)),
            Switch("kind", Case("a", holds, Step("do a", work)), Case("b", holds, Return()), Default(Step("c", work))),
            Switch("no default", Case("d", holds, Step("do d", work))),
            Select(
                'wait "here" <i>',
                On('Ev"ent | <b>', work, Break(), role="a | b"),
                On("Other", work, While("inner", holds, Step("again", work))),
                Timeout("late", timedelta(days=2, minutes=5), Continue()),
                Timeout("computed", lambda w: timedelta(1)),
            ),
        ),
        Go("thread", WaitFor("something", holds), Go("inner thread", Step("deep", work)), Return()),
        S(Step("twice", work), prefix="one"),
        S(Step("twice", work), prefix="two"),
        WaitFor("the end", holds, work),
    )


def test_the_diagram_of_the_pizza_order(http: Http) -> None:
    response = http.request("GET", "/graph/pizza")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == (GOLDEN / "pizza.mermaid").read_text()
    assert http.request("GET", "/graph/pizza?format=mermaid").text == response.text


def test_the_statements_of_the_pizza_order(http: Http) -> None:
    statements = http.get("/graph/pizza?format=json")
    assert statements == json.loads((GOLDEN / "pizza.json").read_text())
    assert http.get("/definition/pizza")["statements"] == statements


def test_the_definition_of_the_pizza_order(http: Http) -> None:
    definition = http.get("/definition/pizza")
    assert set(definition) == {"name", "version", "fields", "input", "statements", "events"}
    assert (definition["name"], definition["version"]) == ("pizza", PizzaOrder.__program__.version)
    assert set(definition["fields"]["properties"]) == set(PizzaOrder.model_fields)
    assert [(event["name"], event["role"], event["select"]) for event in definition["events"]] == [
        ("AddToCart", "customer", "customer fills the cart"),
        ("EmptyCart", "customer", "customer fills the cart"),
        ("SubmitCart", "customer", "customer fills the cart"),
        ("ConfirmOrder", "manager", "manager confirms the order"),
        ("StartCooking", "cook", "cook starts"),
        ("FinishCooking", "cook", "cook finishes"),
        ("TakeDelivery", "delivery", "delivery takes the order"),
        ("Deliver", "delivery", "delivery arrives"),
        ("Pay", "customer", "payments/pay"),
    ]
    events = {event["name"]: event for event in definition["events"]}
    assert events["Pay"]["input"]["required"] == ["amount"]
    assert events["Pay"]["output"] == {"type": "number"}
    assert events["SubmitCart"]["input"] is None
    assert events["SubmitCart"]["output"] == {"type": "null"}


# --- the structure of every diagram --------------------------------------------------------------

_LABEL = r'"(?P<label>[^"]*)"'
_NODE = re.compile(
    rf"  (?P<id>n\d+)(\(\[{_LABEL}\]\)|".replace("P<label>", "P<l1>")
    + rf"\(\({_LABEL}\)\)|".replace("P<label>", "P<l2>")
    + rf"\[/{_LABEL}/\]|".replace("P<label>", "P<l3>")
    + rf"\[{_LABEL}\]|".replace("P<label>", "P<l4>")
    + rf"\{{\{{{_LABEL}\}}\}}|".replace("P<label>", "P<l5>")
    + rf"\{{{_LABEL}\}})".replace("P<label>", "P<l6>")
)
_EDGE = re.compile(r'  (?P<from>n\d+) (-\.->|--> ?|-->\|"(?P<label>[^"|]*)"\|) ?(?P<to>n\d+)')


def read(text: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """The nodes and edges of a diagram; fails on a line that is neither."""
    first, *lines = text.splitlines()
    assert first == "flowchart TD"
    nodes: dict[str, str] = {}
    edges = []
    for line in lines:
        if node := _NODE.fullmatch(line):
            assert node["id"] not in nodes, f"{node['id']} is declared twice"
            nodes[node["id"]] = next(label for label in node.groups()[2:] if label is not None)
            continue
        edge = _EDGE.fullmatch(line)
        assert edge, f"neither a node nor an edge: {line}"
        edges.append((edge["from"], edge["label"] or "", edge["to"]))
    return nodes, edges


def _unescaped(label: str) -> str:
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label)


@pytest.mark.parametrize("workflow", [PizzaOrder, Everything, *WORKFLOWS], ids=lambda cls: cls.__workflow_name__)
def test_a_diagram_is_whole(workflow: type[Workflow]) -> None:
    text = mermaid.draw(workflow.__program__)
    nodes, edges = read(text)
    assert text == mermaid.draw(workflow.__program__), "the same definition gives the same text"
    assert len(set(edges)) == len(edges)
    ends = {id for id, label in nodes.items() if label == "end"}
    for start, label, target in edges:
        assert start in nodes and target in nodes
        assert start not in ends
        assert not re.search(r'[<>"&|]', label)
    reached = {"n1"}
    while more := {target for start, _, target in edges if start in reached} - reached:
        reached |= more
    assert reached | ends == set(nodes), "each node can be reached; a thread's end need not be"
    assert {start for start, _, _ in edges} | ends == set(nodes), "from each node it goes on"
    labels = " ".join(nodes.values()) + " ".join(label for _, label, _ in edges)
    plain = _unescaped(labels)
    for name in workflow.__program__.rests:
        assert name in plain


def test_what_a_diagram_says_of_everything() -> None:
    nodes, edges = read(mermaid.draw(Everything.__program__))
    named = {tuple(map(_unescaped, (nodes[start], label, nodes[target]))) for start, label, target in edges}
    assert {
        ("everything", "", 'say "hello" <b>&amp;</b> | [x] {y} (z)'),
        ("loop", "yes", "first?"),
        ("first?", "yes", "start thread"),  # a break
        ("first?", "no", "second?"),
        ("second?", "yes", "loop"),  # a continue
        ("second?", "no", "otherwise"),
        ("otherwise", "", "alone?"),
        ("alone?", "yes", "inside"),
        ("alone?", "no", "a"),
        ("b", "yes", "end"),  # a return
        ("b", "no", "c"),
        ("d", "no", 'wait "here" <i>'),
        ('wait "here" <i>', 'Ev"ent | <b> (a | b)', "start thread"),
        ('wait "here" <i>', "Other", "inner"),
        ("inner", "no", "loop"),
        ('wait "here" <i>', "late (after 2 days 5 min)", "loop"),
        ('wait "here" <i>', "computed (at a computed time)", "loop"),
        ("loop", "no", "start thread"),
        ("start thread", "", "thread"),
        ("start thread", "", "one/twice"),
        ("one/twice", "", "two/twice"),
        ("two/twice", "", "until the end"),
        ("until the end", "", "end"),
    } <= named


def test_the_statements_of_everything() -> None:
    statements = describe.statements(Everything.__program__)
    json.dumps(statements)
    kinds: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            kinds.append(node["kind"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for one in node:
                walk(one)

    walk(statements)
    assert set(kinds) == {
        *("step", "while", "if", "switch", "branch", "select", "on", "timeout"),
        *("go", "wait_for", "break", "continue", "return"),
    }
    assert [node["name"] for node in statements if node["kind"] == "step"][1:] == ["one/twice", "two/twice"]
