"""Definitions as data and as diagrams: every statement is there, and arrows lead where threads go."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow_core import (
    Activity,
    Break,
    Child,
    Fail,
    ForEach,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    Try,
    Workflow,
    describe,
    diagram,
)


def nothing(*_: Any) -> None: ...


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
    text = diagram.mermaid(cls.__program__)
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
                "statements": [{"kind": "activity", "name": "call"}],
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
                "name": "caught",
                "types": ["KeyError", "ValueError"],
                "statements": [{"kind": "child", "name": "other", "workflow": "elsewhere", "detached": True}],
            }
        ],
        "finally": [{"kind": "sleep", "name": "rest", "delay": "1 day, 0:00:00"}],
    }
    assert [case.get("buffered") for case in wait["cases"]] == [True, None]
    assert wait["cases"][1]["delay"] == "2031-01-01 00:00:00+00:00"


def test_as_a_diagram() -> None:
    assert edges(Everything) == {
        ("everything", "", "try work"),
        ("try work", "", "each of item"),
        ("each of item", "next", "one"),
        ("one", "", "each of at once"),
        ("each of item", "done", "each of at once"),
        ("each of at once", "", "call"),
        ("call", "", "all of each of at once"),
        ("all of each of at once", "", "both"),
        ("both", "", "l/left"),
        ("l/left", "", "all of both"),
        ("both", "", "all of both"),
        ("all of both", "", "give up"),
        ("try work", "KeyError or ValueError", "caught"),
        ("caught", "", "other"),
        ("other", "", "finally of work"),
        ("try work", "however it is left", "finally of work"),
        ("finally of work", "", "rest (after 1 day, 0:00:00)"),
        ("rest (after 1 day, 0:00:00)", "", "wait"),
        ("wait", "Early (who)", "end"),
        ("wait", "late (until 2031-01-01 00:00:00+00:00)", "end"),
    }
