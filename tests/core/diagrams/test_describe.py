"""Definitions as data and as diagrams: every statement is there, and arrows lead where threads go."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_core import (
    Activity,
    ActivityContext,
    Break,
    Child,
    Continue,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    Try,
    While,
    Workflow,
)
from workflow_core.diagrams import describe, mermaid


def nothing(*_: Any) -> None: ...


def no(*_: Any) -> bool:
    return False


class Everything(Workflow, name="everything"):
    definition = S(
        Try(
            "work",
            ForEach("item", lambda w: [], Step("one", nothing), Break()),
            ForEach("at once", lambda w: [], Activity("call", nothing), parallel=True, limit=3),
            Parallel("both", S(Step("left", nothing), prefix="l"), S(Return())),
            Fail("give up", "no way"),
        )
        .except_((KeyError, ValueError), Child("other", "elsewhere", detached=True), name="caught")
        .finally_(Sleep("rest", timedelta(days=1))),
        Select(
            "wait",
            On("Early", nothing, buffered=True, role="who"),
            Timeout("late", datetime(2031, 1, 1, tzinfo=UTC)),
        ),
    )


def edges(cls: type[Workflow]) -> set[tuple[str, str, str]]:
    """Label of the start, of the arrow, and of the end."""
    text = mermaid.draw(cls.__program__)
    names = dict(re.findall(r'^  (n\d+)[^\s"]+"([^"]*)"', text, re.MULTILINE))
    arrows = re.findall(r'^  (n\d+) (?:-->|-\.->)(?:\|"([^"]*)"\|)? (n\d+)$', text, re.MULTILINE)
    assert len(names) + len(arrows) + 1 == len(text.splitlines()), "each line was understood"
    return {(names[start], label, names[end]) for start, label, end in arrows}


def test_as_data() -> None:
    attempt, wait = describe.statements(Everything.__program__)
    assert attempt == {
        "kind": "try",
        "name": "work",
        "statements": [
            {
                "kind": "for_each",
                "name": "item",
                "parallel": False,
                "limit": None,
                "statements": [{"kind": "step", "name": "one"}, {"kind": "break"}],
            },
            {
                "kind": "for_each",
                "name": "at once",
                "parallel": True,
                "limit": 3,
                "statements": [{"kind": "activity", "name": "call", "input": None, "output": {"type": "null"}}],
            },
            {
                "kind": "parallel",
                "name": "both",
                "branches": [[{"kind": "step", "name": "l/left"}], [{"kind": "return"}]],
            },
            {"kind": "fail", "name": "give up", "message": "no way"},
        ],
        "excepts": [
            {
                "kind": "except",
                "name": "caught",
                "types": ["KeyError", "ValueError"],
                "statements": [{"kind": "child", "name": "other", "workflow": "elsewhere", "detached": True}],
            }
        ],
        "finally": [{"kind": "sleep", "name": "rest", "delay": "1 day, 0:00:00"}],
    }
    assert [case.get("buffered") for case in wait["cases"]] == [True, None]
    assert wait["cases"][1]["delay"] == "2031-01-01T00:00:00Z"


def test_as_a_diagram() -> None:
    assert edges(Everything) == {
        ("everything", "", "try work"),
        ("try work", "", "each of item"),
        ("each of item", "next", "one"),
        ("one", "", "each of at once (at most 3 at a time)"),
        ("each of item", "done", "each of at once (at most 3 at a time)"),
        ("each of at once (at most 3 at a time)", "", "call"),
        ("call", "", "all of each of at once"),
        ("all of each of at once", "", "both"),
        ("both", "", "l/left"),
        ("l/left", "", "all of both"),
        ("both", "", "all of both"),
        ("all of both", "", "give up"),
        ("try work", "KeyError or ValueError", "caught"),
        ("caught", "", "other"),
        ("other", "", "finally of work"),
        ("try work", "always", "finally of work"),
        ("finally of work", "", "rest (after 1 day)"),
        ("rest (after 1 day)", "", "wait"),
        ("wait", "Early (who)", "end"),
        ("wait", "late (until 2031-01-01 00#58;00#58;00 UTC)", "end"),
    }


@pytest.mark.parametrize(
    ("delay", "words"),
    [
        (timedelta(hours=24), "after 1 day"),
        (timedelta(days=2, hours=10, minutes=5, seconds=1.5), "after 2 days 10 h 5 min 1.5 s"),
        (timedelta(days=10, seconds=20), "after 10 days 20 s"),
        (timedelta(), "after 0 s"),
        (timedelta(-1), "after -1 day, 0:00:00"),
        (datetime(2031, 1, 1, tzinfo=UTC), "until 2031-01-01 00:00:00 UTC"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "until 9999-12-31 23:59:59 UTC"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "until 0001-01-01 00:00:00 UTC"),
        ("computed", "at a computed time"),
    ],
)
def test_a_delay_in_words(delay: Any, words: str) -> None:
    assert describe.in_words(delay if isinstance(delay, str) else describe.shown_delay(delay)) == words


# What Mermaid 11 does to a label: it reads references such as #35; (https://mermaid.js.org/syntax/flowchart.html), an
# HTML reference in it gets a second ampersand, and the rest is Markdown.
STRANGE = (
    *('say "hi" <b>&amp;</b>', "a | b", "`code`", "**bold** _x_ __init__", "#quot; #35;", "%%{init: {}}%%", "$$x$$"),
    *(
        "1. first",
        "12) twelfth",
        "- item",
        "+ item",
        "# title",
        "---",
        "===",
        "\\n",
        "fa:fa-car",
        "~~no~~",
        "a;b",
        "x::y",
    ),
    *("Größe 日本語 é", "🍕 → 🛵", "[x](http://x)", "{y}", "(z)", "end", "ﬂ°°35¶ß"),
)


@pytest.mark.parametrize("name", STRANGE)
def test_a_label_of_a_diagram_is_shown_as_it_is(name: str) -> None:
    (node,) = (one for one in mermaid.draw(define(step(name)).__program__).splitlines() if one.startswith("  n3["))
    label = node[len('  n3["') : -len('"]')]
    assert re.fullmatch(r"(?:[^\W_]|[ .,'()/?!@+=-]|#\d+;)+", label), "nothing is left that Mermaid would read"
    assert not re.match(r"[+=-]|\d+[.)]", label), "no list, and no line, in Markdown"
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label) == name


class Order(BaseModel):
    name: str


def price(order: Order, context: ActivityContext) -> float:
    return 1.0


def define(*statements: Any) -> type[Workflow]:
    class Defined(Workflow, name="defined"):
        definition = S(*statements)

    return Defined


def step(name: str) -> Step:
    return Step(name, nothing)


def test_an_activity_has_the_schemas_of_its_input_and_its_result() -> None:
    cls = define(S(Activity("price", price, input=lambda w: Order(name="x")), prefix="p"))
    (node,) = describe.statements(cls.__program__)
    assert (node["kind"], node["name"], node["output"]) == ("activity", "p/price", {"type": "number"})
    assert node["input"]["properties"]["name"]["type"] == "string"
    json.dumps(node)


def test_a_child_has_the_name_of_its_workflow_and_a_try_that_needs_no_finally_has_none() -> None:
    cls = define(Try("t", Child("c", Everything, id="x")).except_(OSError, name="e"))
    assert describe.statements(cls.__program__) == [
        {
            "kind": "try",
            "name": "t",
            "statements": [{"kind": "child", "name": "c", "workflow": "everything", "detached": False}],
            "excepts": [{"kind": "except", "name": "e", "types": ["OSError"], "statements": []}],
            "finally": None,
        }
    ]


def test_what_is_computed_says_so() -> None:
    cls = define(Sleep("s", lambda w: timedelta(1)), Fail("f", lambda w: "why"))
    sleep, fail = describe.statements(cls.__program__)
    assert (sleep["delay"], fail["message"]) == ("computed", "computed")


def test_events_say_whether_they_are_buffered() -> None:
    cls = define(Select("s", On("A", nothing, buffered=True), On("B", nothing)))
    assert [(event["name"], event["buffered"]) for event in describe.events(cls.__program__)] == [
        ("A", True),
        ("B", False),
    ]


def test_what_leaves_a_try_passes_its_finally_section() -> None:
    body = If("which", no, Return()).elif_("or", no, Break()).else_(step("go on"))
    attempt = Try("t", step("work"), body).finally_(step("clean"))
    cls = define(While("loop", no, Try("outer", attempt).finally_(step("outer clean")), step("more")))
    assert edges(cls) == {
        ("defined", "", "loop"),
        ("loop", "yes", "try outer"),
        ("try outer", "", "try t"),
        ("try t", "", "work"),
        ("work", "", "which"),
        ("which", "yes", "finally of t"),
        ("which", "no", "or"),
        ("or", "yes", "finally of t"),
        ("or", "no", "go on"),
        ("go on", "", "finally of t"),
        ("try t", "always", "finally of t"),
        ("finally of t", "", "clean"),
        ("clean", "", "finally of outer"),
        ("clean", "return", "finally of outer"),
        ("clean", "break", "finally of outer"),
        ("try outer", "always", "finally of outer"),
        ("finally of outer", "", "outer clean"),
        ("outer clean", "", "more"),
        ("outer clean", "return", "end"),
        ("outer clean", "break", "end"),
        ("more", "", "loop"),
        ("loop", "no", "end"),
    }


def test_a_loop_inside_a_try_is_left_within_it_and_nothing_follows_a_return() -> None:
    loop = ForEach("each", lambda w: [], step("a"), If("leave", no, Continue()).else_(Break()))
    cls = define(Try("t", loop, Return()).finally_(step("clean")))
    assert edges(cls) == {
        ("defined", "", "try t"),
        ("try t", "", "each of each"),
        ("each of each", "next", "a"),
        ("a", "", "leave"),
        ("leave", "yes", "each of each"),
        ("leave", "no", "finally of t"),
        ("each of each", "done", "finally of t"),
        ("try t", "always", "finally of t"),
        ("finally of t", "", "clean"),
        ("clean", "return", "end"),
    }


def test_a_thread_inside_a_try_has_its_own_end() -> None:
    fork = Parallel("both", S(step("l"), Return()), S(step("r")))
    attempt = Try("t", Go("side", Return()), ForEach("all", lambda w: [], step("x"), parallel=True), fork)
    found = edges(define(attempt.except_(OSError, step("caught"), name="e").finally_(step("clean"))))
    assert {
        ("try t", "", "start side"),
        ("start side", "", "side"),
        ("side", "", "end"),
        ("start side", "", "each of all (at most 100 at a time)"),
        ("x", "", "all of each of all"),
        ("all of each of all", "", "both"),
        ("l", "", "all of both"),
        ("r", "", "all of both"),
        ("all of both", "", "finally of t"),
        ("try t", "OSError", "e"),
        ("caught", "", "finally of t"),
        ("clean", "", "end"),
    } <= found
