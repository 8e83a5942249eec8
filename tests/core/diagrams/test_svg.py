"""The picture of a definition: every statement once, nothing over anything else, and nothing to be read as markup."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pizza import PizzaOrder

from tests.core.diagrams.svg_reader import (
    SVG,
    arrows,
    box,
    check_geometry,
    expected_outline,
    group,
    groups,
    outline,
    parse,
    text_box,
    texts,
)
from tests.core.diagrams.test_describe import STRANGE, Everything, define, no, nothing, step
from tests.core.generate import SPECS, build
from workflow_core import (
    Break,
    Case,
    Continue,
    Default,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Return,
    S,
    Select,
    Step,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    Workflow,
)
from workflow_core.diagrams import describe, svg
from workflow_core.diagrams.svg.style import COLORS, FAMILIES, ICONS, LANES
from workflow_core.diagrams.svg.text import clean, width, wrap


def drawn(cls: type[Workflow]) -> Any:
    root = parse(svg.draw(cls.__program__))
    check_geometry(root)
    assert outline(root) == expected_outline(describe.statements(cls.__program__))
    return root


# --- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [PizzaOrder, Everything])
def test_each_statement_is_there_once_and_in_its_place(cls: type[Workflow]) -> None:
    drawn(cls)


@pytest.mark.usefixtures("quarters")
@settings(max_examples=30)
@given(SPECS)
def test_random_definitions(spec: list[Any]) -> None:
    drawn(build(spec))


def test_deep_nesting() -> None:
    statement: Any = step("the innermost")
    for depth in range(15):
        statement = While(f"loop {depth}", no, If(f"if {depth}", no, statement, Continue()).else_(Break()))
    root = drawn(define(statement))
    assert box(group(root, "the innermost")).right - box(group(root, "the innermost")).left > 100


def test_what_is_written_on_the_statements() -> None:
    root = drawn(Everything)
    written = {one.get("data-name"): texts(one) for one in groups(root) if one.get("data-name")}
    assert written == {
        "work": ["try", "work"],
        "item": ["for each", "item"],
        "one": ["step", "one"],
        "at once": ["for each, at once", "at once", "at most 3 at a time"],
        "call": ["activity", "call"],
        "both": ["in parallel", "both"],
        "l/left": ["step", "l/left"],
        "give up": ["fail", "give up", "message: no way"],
        "caught": ["caught", "except KeyError or ValueError"],
        "other": ["child", "other", "of workflow elsewhere, continues at once"],
        "rest": ["sleep", "rest", "after 1 day"],
        "wait": ["wait for one of 2", "wait"],
        "Early": ["who", "Early", "buffered if early"],
        "late": ["late", "until 2031-01-01 00:00:00 UTC"],
    }
    assert [texts(one) for one in groups(root) if one.get("data-name") is None] == [
        ["break", "out of “item”"],
        ["branch 1"],
        ["branch 2"],
        ["return", "end of this branch"],
        ["finally", "always"],
    ]


def test_what_leaves_says_where_it_leads_to() -> None:
    cls = define(
        While(
            "outer",
            no,
            While("inner", no, Select("s", On("A", nothing, Break()), Timeout("t", timedelta(1), Continue()))),
            Select("second", On("A", nothing, Break()), On("B", nothing, Return())),
            ForEach("each", lambda w: [], step("x"), Continue()),
        ),
        Go("side", While("own", no, step("y"), Break()), Return()),
        ForEach("rounds", lambda w: [], step("z"), If("i", no, Return()), parallel=True),
    )
    leaving = [texts(one) for one in groups(drawn(cls)) if one.get("data-kind") in ("break", "continue", "return")]
    assert leaving == [
        ["break", "out of “inner”"],
        ["continue", "again “inner”"],
        ["break", "out of “outer”"],
        ["return", "end of the workflow"],
        ["continue", "again “each”"],
        ["break", "out of “own”"],
        ["return", "end of thread “side”"],
        ["return", "end of this item"],
    ]


def test_branches_stand_side_by_side_where_there_is_room() -> None:
    few = Switch("few", Case("a", no, step("x")), Case("b", no, step("y"), step("z")), Default())
    many = Switch("many", *(Case(f"a longer name of a case {i}", no) for i in range(5)))
    root = drawn(define(step("before"), few, step("between"), many))
    lanes = [box(group(root, name)) for name in "ab"]
    assert lanes[0].top == lanes[1].top and lanes[0].bottom == lanes[1].bottom
    assert lanes[0].right < lanes[1].left
    below = [box(group(root, f"a longer name of a case {i}")) for i in range(5)]
    assert {place.left for place in below} == {below[0].left}
    assert all(above.bottom < place.top for above, place in itertools.pairwise(below))
    before, between = box(group(root, "before")), box(group(root, "between"))
    assert (before.left, before.right) == (between.left, between.right), "what follows one another is aligned"


def test_equal_labels() -> None:
    pay = S(Select("pay", On("Pay", nothing)), step("thank"))
    cls = define(S(pay, prefix="a"), S(pay, prefix="b"), If("c", no, step("otherwise")).else_(step("x")))
    root = drawn(cls)
    assert [name for kind, name in outline(root) if kind == "on"] == ["Pay", "Pay"]
    assert texts(group(root, "a/pay")) == ["wait", "a/pay"]


@pytest.mark.parametrize(
    ("statements", "arrows_down"),
    [
        ([], 1),
        ([step("a"), step("b")], 3),
        ([step("a"), Return(), step("b")], 2),
        ([Fail("f", "x"), step("b")], 1),
        ([If("i", no, Return()).else_(Fail("f", "x")), step("b")], 1),
        ([If("i", no, Return()), step("b")], 3),
        ([Switch("s", Case("c", no, Return()), Default(Return())), step("b")], 1),
        ([Switch("s", Case("c", no, Return()), Default()), step("b")], 3),
        ([Switch("s", Case("c", no, Return())), step("b")], 3),
        ([Select("s", On("A", nothing, Return())), step("b")], 1),
        ([Select("s", On("A", nothing, Return()), On("B", nothing)), step("b")], 3),
        ([Try("t", Return()).except_(OSError, Return()), step("b")], 1),
        ([Try("t", Return()).except_(OSError), step("b")], 3),
        ([Try("t", Return()).finally_(step("c")), step("b")], 1),
        ([While("w", no, step("c"), Return()), step("b")], 4),
        ([Parallel("p", S(Return())), Go("g", Return()), step("b")], 4),
    ],
)
def test_arrows_lead_to_where_a_thread_goes_on(statements: list[Any], arrows_down: int) -> None:
    """One from the start, one between two statements, one to the end; none from where nothing goes on."""
    assert arrows(drawn(define(*statements))) == arrows_down


def test_a_loop_has_a_way_back_unless_it_is_always_left() -> None:
    def ways_back(*body: Any) -> int:
        root = drawn(define(While("w", no, *body)))
        return sum("H" in one.get("d", "") for one in root.iter(f"{SVG}path") if one.get("class") == "wf-arrow")

    assert ways_back(step("a")) == 1
    assert ways_back(step("a"), Continue()) == 0, "it says so itself"
    assert ways_back(step("a"), Break()) == 0


# --- text ----------------------------------------------------------------------------------------

LONG = "a name of two hundred characters that goes on and on " * 3


@pytest.mark.parametrize(
    "name", [*STRANGE, "x" * 200, "W" * 200, LONG.strip(), "</text><script>alert(1)</script>", "]]>"]
)
def test_strange_names_are_shown_as_they_are(name: str) -> None:
    root = drawn(
        define(
            Step(name, nothing),
            WaitFor(f"{name[:198]} 2", no),
            Select(
                f"{name[:198]} 3",
                On(name, nothing, role=name),
                Timeout(f"{name[:198]} 4", timedelta(1), step(f"{name[:198]} 5")),
            ),
        )
    )
    assert "".join(texts(group_of_kind(root, "step"))[1:]).replace(" ", "") == name.replace(" ", "")
    assert {one.tag.removeprefix(SVG) for one in root.iter()} == {
        *("svg", "title", "desc", "style", "rect", "g", "text", "path", "circle")
    }


def test_a_long_name_of_a_workflow() -> None:
    class Long(Workflow, name="W" * 100):
        definition = S()

    assert "".join(texts(drawn(Long))) == "W" * 100


def group_of_kind(root: Any, kind: str) -> Any:
    return next(one for one in groups(root) if one.get("data-kind") == kind)


def test_what_xml_cannot_hold_is_replaced() -> None:
    root = drawn(define(Select("s", On("A", nothing, role="a\x00b\ud800\nc")), Fail("f", "\x1b[31m red\ufffe")))
    assert texts(group(root, "A"))[0] == "a\ufffdb\ufffd c"
    assert texts(group(root, "f"))[2] == "message: \ufffd[31m red\ufffd"


def test_a_long_message_is_cut() -> None:
    lines = texts(group(drawn(define(Fail("f", "word " * 1000))), "f"))
    assert lines[-1].endswith("…")
    assert len(" ".join(lines)) < 300


@given(st.text(), st.floats(20, 400), st.booleans())
def test_lines_are_no_wider_than_they_may_be(text: str, limit: float, bold: bool) -> None:
    text = clean(text)
    lines = wrap(text, 14, limit, bold=bold)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line in lines:
        drawn_chars = [char for char in line if width(char, 14) > 0]
        # A cluster of emojis that are joined is not torn apart.
        assert width(line, 14, bold=bold) <= limit or len(drawn_chars) == 1 or "\u200d" in line


def test_lines_break_at_words() -> None:
    assert wrap("one two three", 14, width("one two", 14)) == ["one two", "three"]
    assert wrap("a/long/path", 14, width("a/long/", 14)) == ["a/long/", "path"]
    assert wrap("e\u0301" * 3, 10, width("e", 10)) == ["e\u0301"] * 3, "accents stay with their letters"


# --- as a document -------------------------------------------------------------------------------


def test_it_is_accessible() -> None:
    root = drawn(PizzaOrder)
    assert (root.get("role"), root.get("aria-label")) == ("img", "Workflow pizza")
    assert [one.tag for one in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    description = root[1].text.splitlines()
    assert description[:4] == [
        "while order not yet submitted",
        "  wait for one of 4 customer fills the cart",
        "    customer AddToCart",
        "    customer EmptyCart",
    ]
    assert len(description) == len(groups(root))
    for one in groups(root):
        assert one.get("aria-label") and one[0].tag == f"{SVG}title" and one[0].text == one.get("aria-label")


def test_it_needs_nothing_from_outside() -> None:
    text = svg.draw(PizzaOrder.__program__)
    assert not re.search(r"\b(?:id|style|href|on\w+)=|url\(|@import|<script|<!", text)
    assert text.count("http") == 1, "the namespace"


def test_the_style_sheet_is_inside_unless_the_page_brings_it() -> None:
    with_style, without = svg.draw(PizzaOrder.__program__), svg.draw(PizzaOrder.__program__, style=False)
    (sheet,) = re.findall(r"<style>(.*?)</style>", with_style)
    assert sheet == svg.STYLE
    assert with_style.replace(f"<style>{sheet}</style>", "") == without
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"'sha256-{digest}'" == svg.STYLE_SOURCE
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", sheet.removeprefix("@media (prefers-color-scheme:dark){"))
    assert all(one.startswith(".wf-diagram .wf-") for one in selectors)
    roles = {one.removeprefix(".wf-diagram .wf-") for one in selectors}
    assert roles == COLORS.keys()


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "from pizza import PizzaOrder; from workflow_core.diagrams import svg; print(svg.draw(PizzaOrder.__program__))"
    )
    root = Path(__file__).parents[3]
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": f"{root}:{root / 'functions'}", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert texts[0] == texts[1] == f"{svg.draw(PizzaOrder.__program__)}\n"


# --- colours -------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(theme: int) -> None:
    fills = [values["fill"][theme] for role, values in COLORS.items() if len(values) == 2 or role == "page"]
    assert len(fills) > 5
    for text_role in ("text", "muted", "here-text", "failed-text"):
        assert min(contrast(COLORS[text_role]["fill"][theme], fill) for fill in fills) >= 4.5, text_role
    for line in ("arrow", "here", "passed", "failed", *(role for role in COLORS if role.endswith("-icon"))):
        assert min(contrast(COLORS[line]["stroke"][theme], fill) for fill in fills) >= 3, line


def test_each_kind_has_its_colour_and_its_icon() -> None:
    assert FAMILIES.keys() <= ICONS.keys()
    assert FAMILIES.keys() >= LANES
    assert len({ICONS[kind] for kind in FAMILIES}) == len(FAMILIES), "kinds are told by more than colour"
    assert {f"{family}-icon" for family in FAMILIES.values()} <= COLORS.keys()


def test_the_reader_of_these_tests_finds_what_is_wrong() -> None:
    """A geometry check that passes everything would be worth nothing."""
    for damage in ("block", "text"):
        root = parse(svg.draw(PizzaOrder.__program__))
        target = group(root, "print the kitchen ticket")
        moved = target.find(f"{SVG}rect" if damage == "block" else f"{SVG}text")
        assert moved is not None
        moved.set("y", str(float(moved.get("y", "0")) - 40))
        with pytest.raises(AssertionError):
            check_geometry(root)
    assert text_box(target.findall(f"{SVG}text")[1]).left > box(target).left
