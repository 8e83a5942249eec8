"""The layout of a document: ``decode`` reads the output of ``encode``; damaged and too large documents raise errors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic_core import to_json

from cloud_adapter.document import (
    DOCUMENT_BYTES_MAX,
    FORMAT,
    HISTORY_BYTES_MAX,
    HISTORY_BYTES_MIN,
    LEASE_BYTES,
    TOKENS_MAX,
    Instance,
    Lease,
    decode,
    encode,
    replaces_history,
    with_lease,
    with_whole_history,
    written,
)
from cloud_adapter.document_size import counted_bytes
from cloud_adapter.errors import DamagedDocument, TooLarge
from cloud_adapter.history import (
    FIRST_KEPT,
    HISTORY_MAX,
    OPERATIONS_KEPT,
    HistoryEntry,
    HistoryKind,
    bytes_of,
    kept_entries,
)
from tests.contract.store_contract import NOW, a_full_instance, an_instance
from workflow_core.error_texts import MESSAGE_CHARS_MAX
from workflow_core.execution import Status, Thread
from workflow_core.stored_parts import ErrorInfo, WaitKind
from workflow_core.wait_types import ActivityWait, HandlerWait, TimerWait, WaitStatus


def test_decode_is_the_inverse_of_encode() -> None:
    for instance in (a_full_instance(), an_instance()):
        assert decode(encode(instance), 7) == written(replace(instance, entries=()), 7)


def test_a_document_is_flat() -> None:
    document = encode(a_full_instance())
    flat = (str, int, datetime, type(None))
    assert all(isinstance(value, flat) for name, value in document.items() if name not in ("search", "entries"))
    assert [type(text) for text in document["entries"]] == [str] * 2
    assert document["search"] == a_full_instance().search


def test_what_is_queried_is_what_the_execution_says() -> None:
    instance = a_full_instance()
    document, execution = encode(instance), instance.execution
    assert document["status"] == "running"
    assert (document["pc"], document["updated_at"]) == (execution.pc, execution.updated_at)
    assert (document["created_at"], document["wake_at"]) == (execution.created_at, instance.wake_at)


def test_only_the_last_tokens_are_kept() -> None:
    tokens = tuple(f"token-{n}" for n in range(TOKENS_MAX + 3))
    assert decode(encode(replace(an_instance(), tokens=tokens)), 1).tokens == tokens[3:]


# --- the history -----------------------------------------------------------------------------


def entries(first: int, count: int, kind: str = "step", **details: Any) -> tuple[HistoryEntry, ...]:
    return tuple(
        HistoryEntry(NOW + timedelta(seconds=n), kind, f"s{n}", **details) for n in range(first, first + count)
    )


def written_with(instance: Instance, stored: list[str], new: tuple[HistoryEntry, ...]) -> tuple[Instance, list[str]]:
    """An instance and its stored history after it was written with new entries, as a store does it."""
    instance = replace(instance, new_entries=new)
    document = encode(instance)
    if replaces_history(instance):
        document = with_whole_history(instance, stored)
        stored = []
    assert document["entries_bytes"] == bytes_of([*stored, *document["entries"]])
    return written(instance, 1, document["entries_bytes"]), [*stored, *document["entries"]]


def test_a_document_has_only_the_new_entries() -> None:
    instance = replace(an_instance(), new_entries=entries(0, 2))
    document = encode(instance)
    assert document["entries"] == [
        '0 {"at":"2026-02-28T23:59:59.123457Z","kind":"step","statement":"s0"}',
        '1 {"at":"2026-03-01T00:00:00.123457Z","kind":"step","statement":"s1"}',
    ]
    after = written(instance, 7)
    assert (after.version, after.new_entries, after.entries_count) == (7, (), 2)
    assert encode(replace(after, new_entries=entries(0, 1)))["entries"] == [
        '2 {"at":"2026-02-28T23:59:59.123457Z","kind":"step","statement":"s0"}'
    ]


def test_a_history_that_was_not_loaded_is_not_an_empty_one() -> None:
    document = encode(an_instance())
    assert decode(document, 1).history == ()
    del document["entries"]
    instance = decode(document, 1)
    for unknown in (instance, written(instance, 2)):
        with pytest.raises(ValueError, match="the history of 'pizza' 'order-1' was not loaded"):
            assert unknown.history


def test_a_history_that_was_loaded_gets_what_is_written() -> None:
    instance = replace(an_instance(), entries=(), new_entries=entries(0, 2))
    assert written(instance, 1).history == entries(0, 2)
    more = replace(written(instance, 1), new_entries=entries(2, HISTORY_MAX))
    assert written(more, 2).history == entries(0, FIRST_KEPT) + entries(FIRST_KEPT + 2, HISTORY_MAX - FIRST_KEPT)


@pytest.mark.parametrize("size", [1, 3, 20, 49, 50, 51, 130])
def test_the_first_and_the_newest_entries_are_kept_however_many_are_written_at_once(size: int) -> None:
    instance, stored, rewrites, writes = an_instance(), list[str](), 0, 0
    count = 0
    while count < 600:
        rewrites += replaces_history(replace(instance, new_entries=entries(count, size)))
        instance, stored = written_with(instance, stored, entries(count, size))
        count, writes = count + size, writes + 1
        assert len(stored) < 2 * HISTORY_MAX
        shown = decode(encode(an_instance()) | {"entries": stored}, 1).history
        assert shown == kept_entries(entries(0, count))
    newest = HISTORY_MAX - FIRST_KEPT
    assert shown == entries(0, FIRST_KEPT) + entries(count - newest, newest)
    assert rewrites == min(writes, count // HISTORY_MAX), "what is stored is rarely read"


def test_operations_are_kept_when_the_others_are_removed() -> None:
    instance, stored = written_with(an_instance(), [], entries(0, 1) + entries(1, 20, "pause"))
    for number in range(21, 300, 7):
        instance, stored = written_with(instance, stored, entries(number, 7))
    shown = decode(encode(an_instance()) | {"entries": stored}, 1).history
    first = entries(0, 1) + entries(1, FIRST_KEPT - 1, "pause")
    assert shown[: FIRST_KEPT + OPERATIONS_KEPT] == first + entries(21 - OPERATIONS_KEPT, OPERATIONS_KEPT, "pause")


def test_a_history_of_large_entries_keeps_fewer_of_them() -> None:
    instance, stored, most, rewrites = an_instance(), list[str](), 0, 0
    for number in range(300):
        rewrites += replaces_history(replace(instance, new_entries=entries(number, 1, error="é" * 3_000)))
        instance, stored = written_with(instance, stored, entries(number, 1, error="é" * 3_000))
        most = max(most, bytes_of(stored))
        shown = decode(encode(an_instance()) | {"entries": stored}, 1).history
        assert shown[:FIRST_KEPT] == entries(0, min(number + 1, FIRST_KEPT), error="é" * 3_000)
        assert shown[-1].statement == f"s{number}"
    assert HISTORY_BYTES_MAX / 2 < most <= HISTORY_BYTES_MAX
    assert rewrites < 100, "most commits do not read what is stored"


def test_beside_the_largest_document_a_part_of_the_history_is_kept() -> None:
    instance, stored = written_with(an_instance(), [], entries(0, 40, error="é" * 500))
    assert bytes_of(stored) > 40_000
    instance, stored = written_with(filled(instance), stored, entries(40, 1))
    assert HISTORY_BYTES_MIN / 2 < bytes_of(stored) <= HISTORY_BYTES_MIN
    lease, pause = Lease("0123456789abcdef", NOW), replace(instance.execution, status=Status.PAUSED)
    full = replace(instance, execution=pause, lease=lease, wake_at=NOW, fields=instance.fields + " " * 19_000)
    for number in range(41, 200):
        assert not replaces_history(replace(full, new_entries=())), "nothing is read because the document is large"
        full, stored = written_with(full, stored, entries(number, 1, error="é" * 500))
        assert bytes_of(stored) <= HISTORY_BYTES_MIN
    shown = decode(encode(an_instance()) | {"entries": stored}, 1).history
    assert shown[-3:] == entries(197, 3, error="é" * 500)


def test_an_entry_larger_than_all_that_is_allowed_is_left_out() -> None:
    huge = entries(1, 1, "set", detail="x" * HISTORY_BYTES_MAX)
    _, stored = written_with(an_instance(), [], entries(0, 1) + huge + entries(2, 1))
    assert decode(encode(an_instance()) | {"entries": stored}, 1).history == entries(0, 1) + entries(2, 1)


def test_a_history_of_an_earlier_release_is_converted_by_the_next_write() -> None:
    old = to_json(entries(0, HISTORY_MAX)).decode()
    document = encode(an_instance()) | {"history": old}
    for name in ("entries_count", "entries_bytes"):
        del document[name]
    assert decode(document, 1).history == entries(0, HISTORY_MAX)
    del document["entries"]
    instance = decode(document, 1)
    instance, stored = written_with(instance, [], entries(HISTORY_MAX, 1))
    assert not replaces_history(instance)
    document = encode(instance) | {"entries": stored}
    assert document["history"] == "[]"
    assert decode(document, 1).history == entries(0, FIRST_KEPT) + entries(FIRST_KEPT + 1, HISTORY_MAX - FIRST_KEPT)
    assert len(set(stored)) == HISTORY_MAX


def test_entries_that_an_earlier_release_has_added_meanwhile_are_converted_too() -> None:
    instance, stored = written_with(an_instance(), [], entries(0, 3))
    document = encode(instance) | {"history": to_json(entries(3, 2)).decode()}
    assert decode(document | {"entries": stored}, 1).history == entries(0, 5)
    instance, stored = written_with(decode(document, 1), stored, entries(5, 1))
    assert decode(encode(instance) | {"entries": stored}, 1).history == entries(0, 6)


@pytest.mark.parametrize("history", ["[", "{}", "[1]", '[{"at": "noon"}]'])
def test_a_damaged_history_of_an_earlier_release_stops_only_its_display(history: str) -> None:
    document = encode(an_instance()) | {"history": history}
    with pytest.raises(DamagedDocument, match="the document of 'pizza' 'order-1' cannot be read"):
        decode(document, 1)
    del document["entries"]
    _, stored = written_with(decode(document, 1), [], entries(0, 1))
    assert decode(encode(an_instance()) | {"entries": stored}, 1).history == entries(0, 1)


@pytest.mark.parametrize("text", ["", "0", "0 {", "0 {}", "0 7"])
def test_a_damaged_entry_stops_only_its_display(text: str) -> None:
    instance, stored = written_with(an_instance(), [], entries(0, 1))
    with pytest.raises(DamagedDocument):
        decode(encode(instance) | {"entries": [text, *stored]}, 1)
    for number in range(1, 200):
        instance, stored = written_with(instance, stored, entries(number, 1))
    assert len(stored) < 2 * HISTORY_MAX
    kept = with_whole_history(replace(instance, new_entries=()), [text, *stored])["entries"]
    assert (kept[0], len(kept)) == (text, HISTORY_MAX)


STORED_KINDS = {
    "created": False,
    "failed": True,
    "event": False,
    "event failed": True,
    "event rejected": False,
    "buffered": False,
    "timeout": False,
    "step": False,
    "step failed": True,
    "setup": False,
    "setup failed": True,
    "teardown": False,
    "teardown failed": True,
    "activity": False,
    "activity failed": True,
    "child": False,
    "child failed": True,
    "tell": False,
    "tell failed": True,
    "cancel": False,
    "terminate": False,
    "pause": False,
    "unpause": False,
    "retry": False,
    "goto": False,
    "set": False,
}
"""What documents hold as the kinds of history entries, and which of them tell of a failure."""


def test_the_kinds_of_history_entries_are_stored_as_ever() -> None:
    assert {kind.value: kind.failed for kind in HistoryKind} == STORED_KINDS
    entries = [{"at": "2026-02-28T23:59:59Z", "kind": kind} for kind in STORED_KINDS]
    instance = decode(encode(an_instance()) | {"history": json.dumps(entries)}, 1)
    assert [type(entry.kind) for entry in instance.history] == [HistoryKind] * len(STORED_KINDS)
    texts = encode(replace(an_instance(), new_entries=instance.history))["entries"]
    assert [json.loads(text.partition(" ")[2])["kind"] for text in texts] == list(STORED_KINDS)


def test_a_kind_of_a_newer_release_is_kept_as_it_is() -> None:
    text = '{"at":"2026-02-28T23:59:59Z","kind":"step moved","statement":"bake","error":"E: x"}'
    instance = decode(encode(an_instance()) | {"entries": [f"0 {text}"]}, 1)
    assert instance.history == (HistoryEntry(NOW.replace(microsecond=0), "step moved", "bake", error="E: x"),)
    assert not isinstance(instance.history[0].kind, HistoryKind)
    assert encode(replace(an_instance(), new_entries=instance.history))["entries"] == [f"0 {text}"]


@pytest.mark.parametrize("format", [FORMAT + 1, 0, -1])
def test_a_newer_format_is_refused(format: int) -> None:
    document = encode(an_instance()) | {"format": format}
    with pytest.raises(DamagedDocument, match=f"'pizza' 'order-1' has format {format}, .*upgrade gorchestrate"):
        decode(document, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", None),
        ("format", "1"),
        ("workflow", None),
        ("execution", None),
        ("execution", ""),
        ("execution", "{}"),
        ("execution", '{"id": "order-1", "workflow": "pizza", "status": "asleep"}'),
        ("execution", '{"folded":'),
        ("execution", '{"folded":{"threads":[{"at":[0,1]}]},"id":"order-1","workflow":"pizza","threads":[]}'),
        ("execution", '{"folded":{"threads":[{"at":[0,1],"same":1}]},"id":"order-1","workflow":"pizza"}'),
        ("fields", None),
        ("fields", {"native": "map"}),
        ("lease", '{"token": "x"}'),
        ("lease", 1),
        ("history", None),
        ("history", "{}"),
        ("entries", None),
        ("entries", "[]"),
        ("entries", [1]),
        ("entries_count", "1"),
        ("entries_bytes", "1"),
        ("wake_at", "2026-01-01"),
        ("tokens", None),
        ("tokens", ["a"]),
        ("search", None),
        ("search", "{}"),
    ],
)
def test_a_damaged_document_is_told(name: str, value: Any) -> None:
    with pytest.raises(DamagedDocument, match=r"the document of .* 'order-1'"):
        decode(encode(a_full_instance()) | {name: value}, 1)


@pytest.mark.parametrize("kind", [TimerWait, ActivityWait])
def test_a_timer_whose_task_has_no_name_is_damaged(kind: Any) -> None:
    instance = an_instance()
    wait = kind("late", WaitStatus.SET_UP, "main@1", task=["name"])
    instance.execution.threads.append(Thread("main", "main", waits=[wait]))
    with pytest.raises(DamagedDocument, match=r"'order-1' cannot be read: the task of 'late' is \['name'\]"):
        decode(encode(instance), 1)
    instance.execution.threads[0].waits = [HandlerWait("late", WaitStatus.SET_UP, "main@1", ["name"])]
    assert decode(encode(instance), 1)


@pytest.mark.parametrize("kind", ["unknown", "", 7, None, [], {}, True])
@pytest.mark.parametrize("stored", ["waits", "teardowns"])
def test_a_wait_or_teardown_of_an_unknown_kind_is_damaged(stored: str, kind: Any) -> None:
    document = encode(a_full_instance())
    execution = json.loads(document["execution"])
    (execution["threads"][1]["waits"] if stored == "waits" else execution["teardowns"])[0]["kind"] = kind
    with pytest.raises(DamagedDocument, match=rf"'order-1' cannot be read: 1 validation error[^#]*\b{stored}\.0"):
        decode(document | {"execution": json.dumps(execution)}, 1)


@pytest.mark.parametrize("value", ["handler", 7, None, [], {}, True])
@pytest.mark.parametrize("stored", ["waits", "teardowns"])
def test_what_is_no_wait_or_teardown_is_damaged(stored: str, value: Any) -> None:
    document = encode(a_full_instance())
    execution = json.loads(document["execution"])
    (execution["threads"][1]["waits"] if stored == "waits" else execution["teardowns"])[0] = value
    with pytest.raises(DamagedDocument, match=r"'order-1' cannot be read: \d+ validation error"):
        decode(document | {"execution": json.dumps(execution)}, 1)


def test_a_wait_without_a_kind_is_damaged_and_a_teardown_is_one_of_a_handler() -> None:
    document = encode(a_full_instance())
    assert decode(document, 1).execution.teardowns[0].kind is WaitKind.HANDLER, "as in the first release"
    execution = json.loads(document["execution"])
    assert "kind" not in execution["teardowns"][0]
    del execution["threads"][1]["waits"][0]["kind"]
    with pytest.raises(DamagedDocument, match="'order-1' cannot be read"):
        decode(document | {"execution": json.dumps(execution)}, 1)


OPTIONAL = {"status", "pc", "created_at", "updated_at", "entries", "entries_count", "entries_bytes"}


@pytest.mark.parametrize("name", sorted(set(encode(an_instance())) - OPTIONAL))
def test_a_document_that_lacks_a_value_is_damaged(name: str) -> None:
    document = encode(a_full_instance())
    del document[name]
    with pytest.raises(DamagedDocument, match="the document of"):
        decode(document, 1)


def test_the_limit_counts_bytes_and_names_the_largest_field() -> None:
    photo = "☕" * (DOCUMENT_BYTES_MAX // 3)
    instance = an_instance(a="x" * 1000)
    assert encode(replace(instance, fields=json.dumps({"photo": photo[:-1000]}, ensure_ascii=False)))
    fields = json.dumps({"small": "x" * 1000, "photo": photo}, ensure_ascii=False)
    with pytest.raises(TooLarge, match=r"limit is 1,000,000; its largest field is 'photo' with 1,000,\d+ bytes: keep"):
        encode(replace(instance, fields=fields))


def filled(instance: Instance) -> Instance:
    """An instance whose fields take all that there is."""
    document = encode(instance)
    return replace(instance, fields=json.dumps("x" * (DOCUMENT_BYTES_MAX - counted_bytes(document))))


def test_what_fits_can_be_leased_failed_canceled_and_paused() -> None:
    instance = an_instance()
    instance = filled(instance)
    lease = Lease("0123456789abcdef", NOW)
    with pytest.raises(TooLarge):
        encode(replace(instance, wake_at=NOW))
    assert encode(replace(instance, wake_at=NOW, lease=lease))
    with pytest.raises(TooLarge):
        encode(replace(instance, fields=instance.fields + " " * LEASE_BYTES, lease=lease))
    entries = tuple(HistoryEntry(NOW, "step failed", error="é" * 500) for _ in range(2))
    error = ErrorInfo("E", "é" * MESSAGE_CHARS_MAX)
    for status in (Status.FAILED, Status.CANCELED, Status.PAUSED):
        execution = replace(instance.execution, status=status, error=error)
        assert encode(replace(instance, execution=execution, new_entries=entries))
    for status in (Status.RUNNING, Status.WAITING):
        for canceling in (False, True):
            execution = replace(instance.execution, status=status, error=error, canceling=canceling)
            if canceling:
                assert encode(replace(instance, execution=execution, new_entries=entries))
            else:
                with pytest.raises(TooLarge):
                    encode(replace(instance, execution=execution, lease=lease))


def test_another_lease_is_in_the_document_that_is_already_encoded() -> None:
    instance = replace(an_instance(), lease=Lease("0123456789abcdef", NOW), wake_at=NOW, entries=())
    encoded = replace(instance, document=encode(instance))
    later = NOW + timedelta(seconds=5)
    for before in (instance, encoded):
        after = with_lease(before, Lease("fedcba9876543210", later), later)
        assert decode(encode(after), None) == replace(instance, lease=Lease("fedcba9876543210", later), wake_at=later)
    assert decode(encode(encoded), None) == instance


@pytest.mark.parametrize("fields", ["[]", '"text"', "{}"])
def test_too_large_whatever_the_fields_are(fields: str) -> None:
    with pytest.raises(TooLarge, match="its largest part is 'fields'"):
        encode(replace(an_instance(), fields=fields + " " * DOCUMENT_BYTES_MAX))


def test_the_largest_part_need_not_be_the_fields() -> None:
    instance = an_instance(count=1)
    instance.execution.threads.append(Thread("main", "x" * DOCUMENT_BYTES_MAX))
    with pytest.raises(TooLarge, match=r"its largest part is 'execution' with 1,000,\d+ bytes"):
        encode(instance)


def with_branches(count: int, size: int) -> Instance:
    """An instance with that many threads of a ``ForEach`` that have inputs of a size, and some of another."""
    instance = an_instance()
    threads = instance.execution.threads
    for n in range(count):
        wait = ActivityWait("call", WaitStatus.SET_UP, f"each url[{n}]@{n}", input=f"{n:0{size}}")
        threads.append(Thread(f"each url[{n}]", "each url", step="call", pc=n, waits=[wait], parent="main"))
        threads[-1].positions["each url"] = n
    threads += [Thread(f"side-{n}", "side") for n in range(count // 3)]
    return instance


def test_the_format_tells_an_old_release_what_it_cannot_read() -> None:
    assert encode(an_instance())["format"] == encode(a_full_instance())["format"] == 1
    instance = with_branches(50, 3)
    document = encode(instance)
    assert document["format"] == 2
    assert decode(document, 1).execution == instance.execution


def test_five_thousand_branches_fit() -> None:
    instance = with_branches(5_000, 100)
    assert decode(encode(instance), 1).execution == instance.execution


def test_too_many_threads_are_told_with_the_statement_that_has_most_of_them() -> None:
    instance = with_branches(4_000, 1_000)
    count = len(instance.execution.threads)
    with pytest.raises(TooLarge) as caught:
        encode(instance)
    assert re.search(
        rf"its largest part is 'execution' with 4,[\d,]+ bytes, of {count:,} threads, 4,000 of them of 'each url': run "
        r"fewer at a time with ForEach\(\.\.\., parallel=True, limit=100\), or process a chunk of the items in each "
        r"Child; keep large data elsewhere",
        str(caught.value),
    )


def test_few_threads_are_not_blamed() -> None:
    with pytest.raises(TooLarge, match=r"'execution' with 1,[\d,]+ bytes: keep large data elsewhere"):
        encode(with_branches(60, 20_000))
