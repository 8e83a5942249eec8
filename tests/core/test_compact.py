"""The stored form of many threads: it is small and exact, earlier forms can be read, and
damage raises an error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.core.generate import OPS, SPECS, Op, Spec, build
from tests.core.helpers import NOON
from tests.core.stored import STORED
from tests.core.test_properties import Run, random_flows
from tests.waits import the
from workflow_core import (
    Activity,
    Child,
    ErrorInfo,
    Execution,
    ForEach,
    On,
    S,
    Select,
    Step,
    Thread,
    Timeout,
    WaitStatus,
    Workflow,
    compact,
    execution,
)
from workflow_core.execution import BufferedEvent, Leave, Sender, ThreadStatus
from workflow_core.machine.machine import Machine
from workflow_core.shown import shown_event, shown_wait
from workflow_core.stored_parts import LeaveKind
from workflow_core.wait_types import (
    ActivityWait,
    AnyTeardown,
    ChildTeardown,
    ChildWait,
    EventWait,
    HandlerTeardown,
    TimedWait,
)

PLAIN = TypeAdapter(Execution)
"""How executions were stored before there was a compact form."""

DOCUMENT_BYTES_MAX = 1_000_000


def plain_json(one: Execution) -> str:
    return PLAIN.dump_json(one, by_alias=True, exclude_defaults=True).decode()


def branches(count: int, *, pc: int = 1) -> Execution:
    """An instance with that many parked branches."""
    threads = [Thread("main", "main", ThreadStatus.WAITING, "each", 1, positions={"each": count})]
    for n in range(count):
        wait = ActivityWait("call", WaitStatus.SET_UP, f"each[{n}]@{pc + n}", NOON, "token", input=f"u{n}")
        threads.append(Thread(f"each[{n}]", "each", ThreadStatus.WAITING, "call", pc + n, [wait]))
        threads[-1].parent, threads[-1].positions = "main", {"each": n}
    return Execution("id-1", "flow", threads=threads)


@contextmanager
def folding_from(least: int) -> Iterator[None]:
    """Folds also where that is not worth it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "FOLDED_MIN", least)
        patch.setattr(execution, "FOLDED_MIN", least)
        yield


# --- the size --------------------------------------------------------------------------------


class Kid(Workflow, name="kid"):
    url: str = ""
    definition = S(Step("work", lambda w: None))


def call(url: str) -> int:
    return len(url)


def nothing(w: Any) -> None: ...


ANSWER = Select("answer", On("Answer", nothing), On("Refuse", nothing), Timeout("late", timedelta(hours=1)))
KID = Child("part", Kid, input=lambda w, url: {"url": url})
BODIES: dict[str, tuple[Any, int]] = {
    "activities": (Activity("call", call), 100),
    "selects with a timeout": (ANSWER, 100),
    "children": (KID, 130),
}
URLS = [f"https://example.org/{n}" for n in range(5_000)]
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def parked(body: Any) -> Execution:
    """Five thousand branches."""

    class Flow(Workflow, name="flow"):
        urls: list[str] = []
        definition = S(ForEach("each url", lambda w: w.urls, body, parallel=True, limit=5_000))

    started = Execution.start("id-1", Flow, now=NOW)
    Machine(Flow(urls=URLS), started, NOW).settle()
    assert len(started.threads) == 5_001
    return started


def spread(started: Execution, commits: int) -> None:
    """Lets the branches have been started in some commits, each at its own time and with its own timers' tasks."""
    for number, thread in enumerate(started.threads[1:]):
        commit = number * commits // 5_000
        for wait in thread.waits:
            if isinstance(wait, ChildWait):
                wait.status, thread.status = WaitStatus.SET_UP, ThreadStatus.WAITING
            elif isinstance(wait, TimedWait) and wait.deadline is not None:
                wait.deadline += timedelta(microseconds=commit)
                wait.task = f"{commit:032x}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
def test_a_parked_branch_takes_few_bytes(kind: str) -> None:
    body, most = BODIES[kind]
    started = parked(body)
    for commits, bytes_max in ((1, most), (5_000, 200)):
        spread(started, commits)
        text = started.to_json()
        assert Execution.from_json(text) == started
        assert len(text) / 5_000 < bytes_max
        assert len(text) < DOCUMENT_BYTES_MAX
        assert len(plain_json(started)) > DOCUMENT_BYTES_MAX


@pytest.mark.slow
def test_those_that_have_failed_or_moved_on_take_little_more() -> None:
    """Every second one is in its second attempt: entries of two shapes alternate."""
    started = parked(Activity("call", call))
    spread(started, 5_000)
    for thread in started.threads[1::2]:
        wait = the(ActivityWait, thread.waits)
        wait.attempt, wait.error = 1, "ConnectionError: the server did not answer in time"
        wait.retry_at = NOW + timedelta(seconds=thread.pc)
    text = started.to_json()
    assert Execution.from_json(text) == started
    assert len(text) / 5_000 < 200


def test_children_that_are_to_be_canceled_fit_too() -> None:
    kids = [{"workflow": "kid", "id": f"{n:032x}"} for n in range(5_000)]
    teardowns: list[AnyTeardown] = [
        ChildTeardown("part", "part", f"each url[{n}]@{n}", False, kid) for n, kid in enumerate(kids)
    ]
    canceled = Execution("id-1", "flow", teardowns=teardowns)
    text = canceled.to_json()
    assert Execution.from_json(text) == canceled
    assert len(text) / 5_000 < 100


def test_few_threads_are_stored_as_ever() -> None:
    few = branches(compact.FOLDED_MIN - 2)
    assert few.to_json() == plain_json(few)
    assert not compact.is_folded(few.to_json())
    assert compact.is_folded(branches(compact.FOLDED_MIN).to_json())


def test_what_is_shared_is_stored_once() -> None:
    data = json.loads(branches(10).to_json())
    assert [thread["id"] for thread in data["threads"]] == ["main"]
    (group,) = data["folded"]["threads"]
    assert group["at"] == [1, 10]
    assert group["of"]["step"] == {"same": "call"}
    assert group["of"]["positions"] == {"of": {"each": {"each": list(range(10))}}}
    assert "id" not in group["of"]
    (wait,) = group["of"]["waits"]["items"]
    assert wait["of"]["deadline"] == {"same": "2025-01-01T12:00:00Z"}
    assert wait["of"]["input"] == {"each": [f"u{n}" for n in range(10)]}
    assert "id" not in wait["of"]


# --- exactly the same ------------------------------------------------------------------------


@pytest.mark.usefixtures("quarters")
@random_flows
@given(SPECS, OPS)
def test_every_state_of_random_instances_survives(spec: list[Spec], ops: list[Op]) -> None:
    class Checking(Run):
        def save(self, kind: str) -> None:
            text = self.execution.to_json()
            assert Execution.from_json(text) == self.execution
            assert Execution.from_json(plain_json(self.execution)) == self.execution

    with folding_from(2):
        Checking(build(spec)).drive(ops)


def odd(**changes: Any) -> Execution:
    """Twelve branches, of which every third differs in some attributes."""
    result = branches(12)
    for thread in result.threads[1::3]:
        for name, value in changes.items():
            setattr(thread.waits[0] if name.startswith("wait_") else thread, name.removeprefix("wait_"), value)
    return result


ERROR = ErrorInfo("E", "m", "s", ["a.E", "b.F"])
INPUTS: list[Any] = [0, 1, True, False, 1.0, -0.0, "", "u1", [], {}, [[]], [{}], {"": None}]
SETUP_DATA: list[Any] = [{"same": 1}, {"id": "x"}, ["a"], [1, [2, {"b": [3]}]], {"each": []}]
ODD: list[dict[str, Any]] = [
    {"id": "of its own"},
    {"wait_id": "each[1]@7"},
    {"wait_id": ""},
    {"pc": 0},
    {"pc": 10**30},
    {"name": "other"},
    {"name": ""},
    {"parent": ""},
    {"parent": "each[0]"},
    {"parent": "no/such"},
    {"positions": {}},
    {"positions": {"other": 3, "each": 1}},
    {"positions": {"each": -1}},
    {"waits": []},
    {"waits": [EventWait("a", WaitStatus.SET_UP, "x"), ChildWait("b", WaitStatus.SET_UP, "y")]},
    {"error": ERROR, "attempt": 2, "retry_at": NOON},
    {"errors": {"caught": ERROR}},
    {"pending": {"try": Leave(LeaveKind.ERROR, ERROR, "step", 3), "other": Leave(LeaveKind.RETURN)}},
    {"leaving": Leave(LeaveKind.CANCEL)},
    {"status": ThreadStatus.SETTING_UP},
    {"step": 'quoted "folded": step'},
    {"wait_known_as": "former", "wait_error": "E: m", "wait_attempt": 3},
    {"waits": [EventWait("a", WaitStatus.SET_UP, "x", buffered=True, known_as="former")]},
    {"wait_input": None},
    *({"wait_input": value} for value in INPUTS),
    *({"wait_task": value} for value in SETUP_DATA),
    {"wait_task": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
    {"wait_task": list(range(100))},
]


@pytest.mark.parametrize("changes", ODD, ids=str)
@pytest.mark.parametrize("least", [2, 4, 8])
def test_odd_threads_survive(changes: dict[str, Any], least: int) -> None:
    one = odd(**changes)
    with folding_from(least):
        text = one.to_json()
    assert compact.is_folded(text)
    loaded = Execution.from_json(text)
    assert loaded == one
    assert plain_json(loaded) == plain_json(one)  # tells 1 from True and 1.0
    assert Execution.from_json(text.encode()) == one


def test_the_order_of_the_threads_is_kept() -> None:
    one = branches(40)
    one.threads.sort(key=lambda thread: (thread.pc * 7 % 11, thread.id))
    for thread in one.threads[::3]:
        thread.step = "elsewhere"
    one.threads.insert(5, Thread("side", "side"))
    text = one.to_json()
    assert compact.is_folded(text)
    assert [thread.id for thread in Execution.from_json(text).threads] == [thread.id for thread in one.threads]
    assert Execution.from_json(text) == one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
SCALAR = st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, "", "1", None])


@given(st.lists(JSON | SCALAR, min_size=2, max_size=12), st.booleans())
def test_any_data_of_users_survives(values: list[Any], nested: bool) -> None:
    one = branches(len(values))
    for thread, value in zip(one.threads[1:], values, strict=True):
        wait = the(ActivityWait, thread.waits)
        wait.input = {"fields": {"value": value}} if nested else value
        wait.task = value
    with folding_from(2):
        text = one.to_json()
    assert plain_json(Execution.from_json(text)) == plain_json(one)


def test_all_else_of_an_execution_survives_too() -> None:
    one = branches(20)
    one.buffer = [BufferedEvent("E", '{"folded": 1}', NOON, sender=Sender("login|ann", "Ann"))]
    one.threads[3].caused_by = "login|ann"
    one.error, one.canceling, one.pc, one.created_at = ERROR, True, 99, NOON
    one.teardowns = [HandlerTeardown("s", "E", f"each[{n}]@3", n % 2 == 0, {"n": n}) for n in range(20)]
    one.teardowns[3].retry_at = NOON
    assert Execution.from_json(one.to_json()) == one
    data = json.loads(PLAIN.dump_json(one, by_alias=True))
    for thread in data["threads"]:
        thread["waits"] = [shown_wait(wait) for wait in thread["waits"]]
        assert thread["caused_by"] or thread.pop("caused_by") == ""
        assert thread.pop("watches") == ""
        assert thread.pop("locals") == {}
        assert thread.pop("covers") == []
    data["buffer"] = [shown_event(event) for event in data["buffer"]]
    assert one.to_dict() == data


def test_zeros_of_both_signs_are_kept_apart() -> None:
    one = branches(20)
    for number, thread in enumerate(one.threads[1:]):
        the(ActivityWait, thread.waits).input = -0.0 if number % 3 else 0.0
    assert plain_json(Execution.from_json(one.to_json())) == plain_json(one)


def torn_down_beside_parked_threads(count: int) -> Execution:
    """An instance whose threads have not changed since they were loaded, and that has got similar teardowns."""
    loaded = Execution.from_json(branches(count).to_json())
    loaded.teardowns = [HandlerTeardown("s", "E", f"each[{n}]@3", False, {"n": n}) for n in range(count)]
    return loaded


def test_teardowns_are_grouped_beside_threads_that_have_not_changed() -> None:
    one = torn_down_beside_parked_threads(20)
    text = one.to_json()
    assert [group["at"] for group in json.loads(text)["folded"]["teardowns"]] == [[0, 20]]
    assert Execution.from_json(text) == one


def test_groups_that_have_not_changed_count_towards_the_limit() -> None:
    one = torn_down_beside_parked_threads(20)
    with pytest.MonkeyPatch.context() as patch:
        for limit in range(20, 2_000, 20):
            patch.setattr(compact, "CELLS_MAX", limit)
            if compact.is_folded(branches(20).to_json()):
                break
        patch.setattr(compact, "CELLS_MAX", limit + 20)
        text = one.to_json()
        assert "teardowns" not in json.loads(text)["folded"], "they would be too many"
        compact.unfold(json.loads(text))


def test_what_json_cannot_say_is_null_as_ever() -> None:
    one = branches(20)
    the(ActivityWait, one.threads[3].waits).input = math.inf
    assert the(ActivityWait, Execution.from_json(one.to_json()).threads[3].waits).input is None


def test_the_word_in_the_data_of_a_small_instance_disturbs_nothing() -> None:
    one = branches(1)
    the(ActivityWait, one.threads[1].waits).input = {"folded": {"threads": [1]}}
    assert Execution.from_json(one.to_json()) == one


def test_a_group_that_would_be_too_large_stays_plain() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "CELLS_MAX", 100)
        one = branches(20)
        assert one.to_json() == plain_json(one)


# --- what earlier releases have stored -------------------------------------------------------


@pytest.mark.parametrize("kind", STORED)
def test_what_earlier_releases_have_stored_is_read(kind: str) -> None:
    loaded = Execution.from_json(STORED[kind])
    assert plain_json(loaded) == STORED[kind]
    with folding_from(2):
        text = loaded.to_json()
        assert compact.is_folded(text) is (kind not in ("branches", "threads"))
        assert Execution.from_json(text) == loaded


def test_an_instance_that_an_earlier_release_has_stored_goes_on() -> None:
    class Flow(Workflow, name="flow"):
        urls: list[str] = []
        seen: list[int] = []

        def keep(self, size: int) -> None:
            self.seen.append(size)

        definition = S(ForEach("each", lambda w: w.urls, Activity("fetch", call, then=keep), parallel=True))

    flow, loaded = Flow(urls=[f"u{n}" for n in range(8)]), Execution.from_json(STORED["activities"])
    machine = Machine(flow, loaded, alone=True)
    machine.settle()
    while (work := machine.next_work()) is not None:
        result = machine.call(work) if work.kind == "activity" else None
        machine.handle_result(work, result)
        machine.done(work, result)
    assert (flow.seen, loaded.status) == ([2] * 8, "finished")


# --- damage ----------------------------------------------------------------------------------


def damages() -> Iterator[Any]:
    """The compact form with each of its parts replaced, or left out."""
    values: list[Any] = [None, 0, -1, 10**12, True, "x", [], {}, [1], [[]], {"same": 1}, {"of": {}}, {"runs": [1, 9]}]

    def places(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            yield from places(inner, (*path, key))

    text = branches(9).to_json()
    for path in places(json.loads(text)["folded"], ("folded",)):
        for value in (*values, ...):
            data = part = json.loads(text)
            for key in path[:-1]:
                part = part[key]
            if value is ...:
                del part[path[-1]]
            else:
                part[path[-1]] = value
            yield data


def test_damage_is_a_value_error() -> None:
    """Damage that looks like valid data is not detected, but no other error is raised."""
    told = 0
    for data in damages():
        try:
            Execution.from_json(json.dumps(data))
        except ValueError:
            told += 1
    assert told > 400


def column(**one: Any) -> str:
    data = json.loads(branches(9).to_json())
    data["folded"]["threads"][0]["of"]["step"] = one
    return json.dumps(data)


def nested(levels: int) -> dict[str, Any]:
    result: dict[str, Any] = {"same": "a"}
    for _ in range(levels):
        result = {"items": [result]}
    return result


HUGE: dict[str, str] = {
    "a run that is too long": column(runs=["a", 10**15]),
    "a run that is too short": column(runs=["a", 8]),
    "a run of no length": column(runs=["a", 9, "b", 0]),
    "a count of another type": column(runs=["a", 9.0]),
    "too many values": column(each=["a"] * 10),
    "too few values": column(each=["a"] * 8),
    "a text for values": column(each="a" * 9),
    "another kind": column(other=[]),
    "two kinds": column(same="a", each=["a"] * 9),
    "no kind": column(),
    "nested too deep": column(**nested(50)),
    "not JSON": '{"folded":',
    "too many entries": '{"folded":{"threads":[{"at":[0,999999999999],"of":{}}]},"id":"a","workflow":"b","threads":[]}',
    "entries behind the end": '{"folded":{"threads":[{"at":[2,9],"same":{}}]},"id":"a","workflow":"b","threads":[]}',
    "entries at one place": '{"folded":{"threads":[{"at":[0,1,0,1],"same":{}}]},"id":"a","workflow":"b","threads":[]}',
    "entries before the start": '{"folded":{"threads":[{"at":[-1,1],"same":{}}]},"id":"a","workflow":"b","threads":[]}',
    "an unknown list": '{"folded":{"others":[{"at":[0,1],"same":1}]},"id":"a","workflow":"b","threads":[]}',
    "a thread without a name": '{"folded":{"threads":[{"at":[0,1],"same":{}}]},"id":"a","workflow":"b","threads":[]}',
}


@pytest.mark.parametrize("kind", HUGE)
def test_damage_of_each_kind(kind: str) -> None:
    with pytest.raises(ValueError, match=r"damaged|validation error|EOF"):
        Execution.from_json(HUGE[kind])


# --- threads of the user's own ---------------------------------------------------------------


def test_threads_with_ids_of_their_own_are_folded_too() -> None:
    one = branches(1)
    one.threads += [
        Thread(f"worker-{n}", "side", ThreadStatus.WAITING, "s", n, [EventWait("E", WaitStatus.SET_UP, "")])
        for n in range(20)
    ]
    for thread in one.threads[2:]:
        thread.waits[0].id = f"{thread.id}@{thread.pc}"
    text = one.to_json()
    assert Execution.from_json(text) == one
    assert len(text) < len(plain_json(one)) / 3
