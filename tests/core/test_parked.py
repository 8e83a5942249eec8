"""Groups of parked threads that are known from an earlier load are not parsed again; nothing else differs."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from operator import add
from typing import Any

import pytest

from tests.core.helpers import NOON
from workflow_core import (
    Activity,
    EventNotAccepted,
    Execution,
    ForEach,
    Go,
    On,
    S,
    Select,
    Step,
    Thread,
    ThreadStatus,
    Timeout,
    WaitStatus,
    While,
    Workflow,
    handle_event,
    known_groups,
    parked,
    resume,
)
from workflow_core.compact import parts_of
from workflow_core.machine.machine import Machine
from workflow_core.machine.saves import to_store
from workflow_core.parked import Grouped, active, mapped, samples, side_by_side
from workflow_core.wait_types import ActivityWait, EventWait

COUNT = 30


class Wide(Workflow, name="wide"):
    started: int = 0
    handled: int = 0
    others: int = 0

    def start(self) -> None:
        self.started += 1

    def handle(self) -> None:
        self.handled += 1

    def other(self) -> None:
        self.others += 1

    definition = S(
        While(
            "threads to start",
            lambda w: w.started < COUNT,
            Step("start", start),
            Go("waiting", Select("other", On("Other", other)), Step("after", start), id=lambda w: f"t-{w.started}"),
        ),
        While("forever", lambda w: True, Select("event", On("Event", handle)), Step("step", start)),
    )


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_groups, "_known", known_groups._Known())


def wide() -> tuple[Wide, str]:
    workflow, execution = Wide(), Execution.start("wide-1", Wide)
    resume(workflow, execution)
    return workflow, execution.to_json()


def loaded_again(text: str) -> Execution:
    """Loads a text that is known."""
    Execution.from_json(text)
    return Execution.from_json(text)


def is_parked(execution: Execution) -> bool:
    return isinstance(execution.threads, Grouped) and bool(execution.threads.parked)


def plain(text: str) -> list[Thread]:
    """The threads as a process that knows nothing loads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_groups, "_known", known_groups._Known())
        return list(Execution.from_json(text).threads)


def test_an_event_for_another_thread_copies_no_parked_thread() -> None:
    workflow, text = wide()
    assert not is_parked(Execution.from_json(text))
    execution = Execution.from_json(text)
    for _ in range(3):
        handle_event(workflow, execution, "Event")
        machine = Machine(workflow, execution)
        machine.check()
        assert machine.accepted_names() == ["Other"]  # main is at its step
        with pytest.raises(EventNotAccepted, match="'Missing' is not accepted"):
            handle_event(workflow, execution, "Missing")
        assert machine.next_work() is not None
        again = execution.to_json()
        assert is_parked(execution)
        assert list(Execution.from_json(again).threads) == plain(again)
        execution = Execution.from_json(again)
        assert is_parked(execution)
        resume(workflow, execution)
    assert (workflow.handled, len(execution.threads)) == (3, COUNT + 1)


def test_what_is_written_is_the_same_as_without_known_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow, text = wide()
    other = workflow.model_copy()
    known, fresh = loaded_again(text), Execution("", "", threads=plain(text))
    fresh = copy.deepcopy(Execution.from_json(text))
    assert type(fresh.threads) is list
    for event in ("Event", "Other", "Other", "Event"):
        for fields, execution in ((workflow, known), (other, fresh)):
            handle_event(fields, execution, event)
            resume(fields, execution)
        assert json.loads(known.to_json()) == json.loads(fresh.to_json())
        known, fresh = loaded_again(known.to_json()), copy.deepcopy(Execution.from_json(fresh.to_json()))
        assert known == fresh


def test_an_event_for_a_parked_thread_moves_the_first_of_them() -> None:
    workflow, text = wide()
    execution = loaded_again(text)
    handle_event(workflow, execution, "Other")
    assert execution.threads[1].id == "t-1" and execution.threads[1].step == "after"
    assert not is_parked(execution)
    for name in ("t-9", f"t-{COUNT}"):
        execution = loaded_again(text)
        handle_event(workflow, execution, "Other", thread_id=name)
        assert [thread.id for thread in execution.threads if thread.step == "after"] == [name]
    assert plain(text) == list(Execution.from_json(text).threads)  # what is remembered has not changed


def append_and_delete(threads: list[Thread]) -> None:
    threads.append(Thread("new", "new"))
    threads.append(Thread("newer", "new"))
    del threads[2]


READS: dict[str, Callable[[list[Thread]], Any]] = {
    "len": len,
    "bool": bool,
    "first": lambda threads: threads[0],
    "last": lambda threads: threads[-1],
    "middle": lambda threads: threads[5],
    "slice": lambda threads: threads[2:7],
    "list": list,
    "tuple": tuple,
    "unpacked": lambda threads: [*threads],
    "iterated": lambda threads: [thread.id for thread in threads],
    "reversed": lambda threads: list(reversed(threads)),
    "enumerated": lambda threads: list(enumerate(threads)),
    "sorted": lambda threads: sorted(threads, key=lambda thread: thread.id),
    "equal": lambda threads: threads == list(threads),
    "equal from the left": lambda threads: list(threads) == threads,
    "not equal": lambda threads: threads != [],
    "contains": lambda threads: threads[7] in threads,
    "index": lambda threads: threads.index(threads[7]),
    "count": lambda threads: threads.count(threads[7]),
    "copy": lambda threads: threads.copy(),
    "added": lambda threads: threads.__add__([threads[0]]),
    "added from the left": lambda threads: add([threads[0]], threads),
    "twice": lambda threads: threads * 2,
    "repr": repr,
    "deepcopy": copy.deepcopy,
    "pickle": lambda threads: pickle.loads(pickle.dumps(threads)),
    "iterated twice": lambda threads: [(one.id, other.id) for one, other in zip(threads, threads, strict=True)],
}

CHANGES: dict[str, Callable[[list[Thread]], Any]] = {
    "append": lambda threads: threads.append(Thread("new", "new")),
    "extend": lambda threads: threads.extend([Thread("new", "new")]),
    "insert": lambda threads: threads.insert(3, Thread("new", "new")),
    "delete": lambda threads: threads.__delitem__(0),
    "delete in the middle": lambda threads: threads.__delitem__(4),
    "set": lambda threads: threads.__setitem__(4, Thread("new", "new")),
    "pop": lambda threads: threads.pop(),
    "remove": lambda threads: threads.remove(threads[3]),
    "reverse": lambda threads: threads.reverse(),
    "sort": lambda threads: threads.sort(key=lambda thread: thread.id),
    "clear": lambda threads: threads.clear(),
    "add in place": lambda threads: threads.__iadd__([Thread("new", "new")]),
    "append twice, delete": append_and_delete,
}


@pytest.mark.parametrize("name", READS)
def test_reading_sees_all_threads(name: str) -> None:
    _, text = wide()
    execution = loaded_again(text)
    assert is_parked(execution)
    assert READS[name](execution.threads) == READS[name](plain(text))


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_those_of_a_list(name: str) -> None:
    _, text = wide()
    execution, expected = loaded_again(text), plain(text)
    CHANGES[name](execution.threads)
    CHANGES[name](expected)
    again = Execution.from_json(execution.to_json())
    assert execution.threads == expected and list(again.threads) == expected


def test_the_whole_state_is_shown_and_stored_while_threads_are_parked() -> None:
    _, text = wide()
    assert loaded_again(text).to_dict() == Execution("", "", threads=plain(text)).to_dict() | {
        key: value for key, value in json.loads(json.dumps(loaded_again(text).to_dict())).items() if key != "threads"
    }
    execution = loaded_again(text)
    del execution.threads[5:]  # fewer than a group needs
    assert list(Execution.from_json(execution.to_json()).threads) == plain(text)[:5]


def test_threads_beside_the_parked_ones_are_fenced_and_saved() -> None:
    class Timed(Workflow, name="timed-wide"):
        n: int = 0

        def count(self) -> None:
            self.n += 1

        definition = S(
            While(
                "start",
                lambda w: w.n < COUNT,
                Step("count", count),
                Go("waiting", Select("other", On("Other", count)), id=lambda w: f"t-{w.n}"),
            ),
            Select("event", On("Event", count), Timeout("late", timedelta(hours=1))),
        )

    workflow, execution = Timed(), Execution.start("timed-1", Timed, now=NOON)
    resume(workflow, execution, now=NOON)
    execution = loaded_again(execution.to_json())
    waits = [wait for wait in execution.threads[0].waits if wait.event == "late"]
    stored = to_store(execution, waits, lambda wait: "fence", version="v", now=NOON)  # type: ignore[arg-type]
    assert is_parked(execution) and is_parked(stored)
    Machine(workflow, execution, NOON).saved(stored)
    assert is_parked(execution)
    assert [getattr(wait, "task", None) for wait in execution.threads[0].waits] == [None, "fence"]
    assert stored.threads == execution.threads
    assert list(Execution.from_json(stored.to_json()).threads) == list(execution.threads)


def calls(*, progress: Any = None) -> Execution:
    """An instance whose branches run activities."""
    threads = [Thread("main", "main", ThreadStatus.WAITING, "each", 1)]
    for n in range(20):
        wait = ActivityWait("call", WaitStatus.SET_UP, f"each[{n}]@1", NOON, "token", input={"n": [n]})
        wait.progress = progress
        threads.append(Thread(f"each[{n}]", "each", ThreadStatus.WAITING, "call", 1, [wait], positions={"each": n}))
    return Execution("id-1", "flow", threads=threads)


def wait_of(execution: Execution, place: int) -> ActivityWait:
    wait = execution.threads[place].waits[0]
    assert isinstance(wait, ActivityWait)
    return wait


def test_a_change_of_one_thread_of_a_group_is_written() -> None:
    def deadline(execution: Execution) -> None:
        wait_of(execution, 3).deadline = NOON + timedelta(hours=1)

    def inside(execution: Execution) -> None:
        wait_of(execution, 3).input["n"].append(4)

    def status(execution: Execution) -> None:
        execution.threads[7].status = ThreadStatus.SETTING_UP

    def position(execution: Execution) -> None:
        execution.threads[7].positions["each"] = 99

    def kept(execution: Execution) -> None:
        execution.threads[7].locals = {"a": 1}

    def boolean(execution: Execution) -> None:
        wait_of(execution, 3).progress = True  # it was 1

    def number(execution: Execution) -> None:
        wait_of(execution, 3).progress = 1.0

    def ended(execution: Execution) -> None:
        del execution.threads[4]

    def swapped(execution: Execution) -> None:
        execution.threads[4], execution.threads[5] = execution.threads[5], execution.threads[4]

    def joined(execution: Execution) -> None:
        execution.threads.append(copy.deepcopy(execution.threads[5]))

    text = calls(progress=1).to_json()
    for change in (deadline, inside, status, position, kept, boolean, number, ended, swapped, joined):
        execution, expected = loaded_again(text), calls(progress=1)
        change(execution)
        change(expected)
        assert execution.to_json() == expected.to_json() or change is swapped, change
        assert repr(plain(execution.to_json())) == repr(plain(expected.to_json())), change
        assert list(Execution.from_json(text).threads) == calls(progress=1).threads, change


def test_an_unchanged_group_is_written_again() -> None:
    text = calls().to_json()
    execution = loaded_again(text)
    assert execution.to_json() == text
    execution.threads[0].pc = 7
    assert json.loads(execution.to_json())["folded"] == json.loads(text)["folded"]


def test_threads_that_are_more_than_idle_are_not_parked() -> None:
    def idle() -> Execution:
        threads = [
            Thread(f"t-{n}", "go", ThreadStatus.WAITING, "select", 1, [EventWait("e", WaitStatus.SET_UP, f"t-{n}@1")])
            for n in range(10)
        ]
        return Execution("id-1", "flow", threads=threads)

    def running(thread: Thread) -> None:
        thread.status = ThreadStatus.EXECUTING

    def branch(thread: Thread) -> None:
        thread.parent = "main"

    def buffered(thread: Thread) -> None:
        thread.waits = [EventWait("e", WaitStatus.SET_UP, thread.waits[0].id, True)]

    def pending(thread: Thread) -> None:
        thread.waits[0].status = WaitStatus.PENDING_SETUP

    def other(thread: Thread) -> None:
        thread.waits[0].event = "f"

    def retried(thread: Thread) -> None:
        thread.retry_at = NOON

    assert is_parked(loaded_again(idle().to_json()))
    for change in (running, branch, buffered, pending, other, retried):
        execution = idle()
        for thread in execution.threads if change is not other else execution.threads[:1]:
            change(thread)
        again = loaded_again(execution.to_json())
        assert not is_parked(again), change
        assert list(again.threads) == execution.threads


def test_old_groups_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_groups, "KNOWN_MAX", 50)
    first, *others = [calls(progress=n).to_json() for n in range(4)]
    Execution.from_json(first)
    for text in others:
        Execution.from_json(text)
    assert len(known_groups._known.groups._values) == 2
    assert [list(Execution.from_json(text).threads) for text in (first, *others)] == [
        calls(progress=n).threads for n in range(4)
    ]


@pytest.mark.parametrize("at", [[0, 31], [1, 29], [1, 30, 1, 1], [2, 30], [-1, 30], [40, 30], [1, 1.5], [], ["1", 30]])
def test_damaged_places_of_a_known_group_are_refused(at: list[Any]) -> None:
    _, text = wide()
    Execution.from_json(text)
    data = json.loads(text)
    (group,) = data["folded"]["threads"]
    assert group["at"] == [1, 30]
    group["at"] = at
    with pytest.raises(ValueError, match=r"the compact form is damaged|validation error"):
        list(Execution.from_json(json.dumps(data)).threads)


def test_groups_that_are_known_together_are_neither_parsed_nor_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow, text = wide()
    loaded_again(text)

    def refuse(*_: Any) -> Any:
        raise AssertionError

    for name in ("from_json", "fold", "unfold"):
        monkeypatch.setattr(known_groups, name, refuse)
    for _ in range(3):
        execution = Execution.from_json(text)
        assert is_parked(execution)
        handle_event(workflow, execution, "Event")
        resume(workflow, execution)
        text = execution.to_json()
    monkeypatch.undo()
    assert list(Execution.from_json(text.encode()).threads) == plain(text)


@pytest.mark.parametrize("others", [[], None, [{"id": "a"}], [{"id": "a", "name": "a"}] * 12])
def test_what_stands_beside_groups_that_are_known_together_is_checked_as_ever(others: Any) -> None:
    _, text = wide()
    loaded_again(text)
    data = json.loads(text)
    if others is None:
        del data["threads"]
    else:
        data["threads"] = others
    changed = json.dumps(data, separators=(",", ":"))
    assert known_groups._known.together.get(parts_of(changed)[0]) is not None
    results: list[Any] = []
    for read in (plain, lambda text: list(Execution.from_json(text).threads)):
        try:
            results.append(read(changed))
        except ValueError as error:
            results.append(type(error))
    assert results[0] == results[1]


def test_what_ends_the_groups_may_be_in_them() -> None:
    odd = {"a": {"b": [{"c": 1}]}, "id": "d"}
    odd_ones = [Thread(f"o-{n}", "go", locals={"x": [odd] * n}) for n in range(10)]
    waiting = plain(wide()[1])[1:]
    for threads in ([*odd_ones, *waiting], [*waiting, *odd_ones], waiting):
        execution = Execution('}]},"id":"', "flow", threads=[*threads, Thread("a", "b")])
        text = execution.to_json()
        for _ in range(3):
            loaded = Execution.from_json(text)
            loaded.threads[-1].pc += 1
            text = loaded.to_json()
        assert (loaded.threads.pop().pc, list(loaded.threads)) == (3, threads)
        assert is_parked(Execution.from_json(text)) is (threads is waiting)
    data = '{"folded":{"threads":[{"a":[{"b":[{}]},"id":"c"]},"id":"d"}'
    head, rest = parts_of(data)
    assert (head, rest) == ('{"threads":[{"a":[{"b":[{}]}', '{"id":"c"]},"id":"d"}')
    for text in ("", "{}", '{"id":"a","b":[{"c":[{}]},"id":"d"]}', '{"folded":{}}'):
        assert parts_of(text) == ("", text)


def test_helpers_take_a_plain_list_too() -> None:
    threads = [Thread("a", "a"), Thread("b", "b")]
    assert list(active(threads)) == list(samples(threads)) == threads
    assert mapped(threads, copy.copy) == threads
    assert list(side_by_side(threads, threads)) == [(thread, thread) for thread in threads]


def test_samples_are_in_the_order_of_the_threads() -> None:
    _, text = wide()
    execution = loaded_again(text)
    execution.threads.append(Thread("last", "last"))
    assert [thread.id for thread in samples(execution.threads)] == ["main", "t-1", "last"]
    assert [thread.id for thread in active(execution.threads)] == ["main", "last"]
    assert [thread.id for thread in execution.threads][-2:] == [f"t-{COUNT}", "last"]


def flows() -> Iterator[type[Workflow]]:
    async def call(n: int) -> int:
        return n

    class Fan(Workflow, name="fan-parked"):
        total: int = 0

        def add(self, n: int) -> None:
            self.total += n

        definition = S(ForEach("each", lambda w: range(20), Activity("call", call, then=add), parallel=True))

    yield Fan


def test_a_parallel_for_each_ends_as_without_known_groups() -> None:
    for cls in flows():
        workflow, execution = cls(), Execution.start("fan-1", cls, now=NOON)
        machine = Machine(workflow, execution, NOON)
        machine.settle()
        for n in (7, 0, 19, *range(1, 7), *range(8, 19)):
            execution = loaded_again(execution.to_json())
            handle_event(workflow, execution, "call", n, thread_id=f"each[{n}]", now=NOON)
            Machine(workflow, execution, NOON).settle()
        assert execution.status == "finished" and vars(workflow)["total"] == sum(range(20))
    assert parked.copied_thread(Thread("a", "b")) == Thread("a", "b")
