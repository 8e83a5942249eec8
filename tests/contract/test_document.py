"""The layout of a document: ``decode`` reads the output of ``encode``; damaged and too large documents raise errors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.document import (
    DOCUMENT_BYTES_MAX,
    FORMAT,
    HISTORY_MAX,
    LEASE_BYTES,
    RESERVED_BYTES,
    TOKENS_MAX,
    HistoryEntry,
    HistoryKind,
    Instance,
    Lease,
    decode,
    encode,
    with_lease,
)
from cloud_adapter.errors import DamagedDocument, TooLarge
from tests.contract.store_contract import NOW, a_full_instance, an_instance
from workflow_core.error_texts import MESSAGE_CHARS_MAX
from workflow_core.execution import ErrorInfo, Status, Thread
from workflow_core.wait_types import ActivityWait, HandlerWait, TimerWait, WaitKind, WaitStatus


def test_decode_is_the_inverse_of_encode() -> None:
    for instance in (a_full_instance(), an_instance()):
        assert decode(encode(instance), 7) == replace(instance, version=7)


def test_a_document_is_flat() -> None:
    document = encode(a_full_instance())
    flat = (str, int, datetime, type(None))
    assert all(isinstance(value, flat) for name, value in document.items() if name != "search")
    assert document["search"] == a_full_instance().search


def test_what_is_queried_is_what_the_execution_says() -> None:
    instance = a_full_instance()
    document, execution = encode(instance), instance.execution
    assert document["status"] == "running"
    assert (document["pc"], document["updated_at"]) == (execution.pc, execution.updated_at)
    assert (document["created_at"], document["wake_at"]) == (execution.created_at, instance.wake_at)


def test_only_the_last_history_entries_and_tokens_are_kept() -> None:
    history = tuple(HistoryEntry(NOW + timedelta(seconds=n), "step", f"s{n}") for n in range(HISTORY_MAX + 3))
    tokens = tuple(f"token-{n}" for n in range(TOKENS_MAX + 3))
    decoded = decode(encode(replace(an_instance(), history=history, tokens=tokens)), 1)
    assert decoded.history == history[3:]
    assert decoded.tokens == tokens[3:]


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
    assert [entry["kind"] for entry in json.loads(encode(instance)["history"])] == list(STORED_KINDS)


def test_a_kind_of_a_newer_release_is_kept_as_it_is() -> None:
    text = '[{"at":"2026-02-28T23:59:59Z","kind":"step moved","statement":"bake","error":"E: x"}]'
    instance = decode(encode(an_instance()) | {"history": text}, 1)
    assert instance.history == (HistoryEntry(NOW.replace(microsecond=0), "step moved", "bake", error="E: x"),)
    assert not isinstance(instance.history[0].kind, HistoryKind)
    assert encode(instance)["history"] == text


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


@pytest.mark.parametrize("name", sorted(set(encode(an_instance())) - {"status", "pc", "created_at", "updated_at"}))
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
    counted = sum(len(str(value)) for name, value in document.items() if name not in ("history", "tokens"))
    return replace(instance, fields=json.dumps("x" * (DOCUMENT_BYTES_MAX - counted)))


def test_a_history_that_is_too_long_loses_its_oldest_entries() -> None:
    long = tuple(HistoryEntry(NOW + timedelta(seconds=n), "step failed", error="é" * 500) for n in range(HISTORY_MAX))
    tokens = ("0123456789abcdef",) * TOKENS_MAX
    document = encode(replace(filled(an_instance()), history=long, tokens=tokens))
    kept = decode(document, 1).history
    assert 10 < len(kept) < 20
    assert kept == long[-len(kept) :]
    assert sum(len(str(value).encode()) for value in document.values()) <= DOCUMENT_BYTES_MAX + RESERVED_BYTES + 400
    huge = HistoryEntry(NOW, "set", detail="x" * RESERVED_BYTES)
    assert decode(encode(replace(filled(an_instance()), history=(*long, huge))), 1).history == ()


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
        assert encode(replace(instance, execution=execution, history=entries))
    for status in (Status.RUNNING, Status.WAITING):
        for canceling in (False, True):
            execution = replace(instance.execution, status=status, error=error, canceling=canceling)
            if canceling:
                assert encode(replace(instance, execution=execution, history=entries))
            else:
                with pytest.raises(TooLarge):
                    encode(replace(instance, execution=execution, lease=lease))


def test_another_lease_is_in_the_document_that_is_already_encoded() -> None:
    instance = replace(an_instance(), lease=Lease("0123456789abcdef", NOW), wake_at=NOW)
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
