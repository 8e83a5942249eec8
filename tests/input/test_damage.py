"""A stored document that is damaged, or of a newer release: its own requests get a clear error, all others go on."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from cloud_adapter.document import FORMAT
from tests.http.helpers import until
from tests.input.conftest import Attacked

_numbers = itertools.count()

DAMAGES: dict[str, tuple[str, Any]] = {
    "a newer format": ("format", FORMAT + 1),
    "no format": ("format", -1),
    "execution that is no JSON": ("execution", "{"),
    "execution that is cut off": ("execution", '{"id":"x","workflow":"store","threads":[{"id":'),
    "execution that is a list": ("execution", "[]"),
    "execution with an unknown status": ("execution", '{"id":"x","workflow":"store","status":"dreaming"}'),
    "execution with a pc that is a text": ("execution", '{"id":"x","workflow":"store","pc":"many"}'),
    "execution of another workflow": ("execution", '{"id":"x","workflow":"pizza"}'),
    "execution on a statement that is gone": (
        "execution",
        '{"id":"x","workflow":"store","status":"waiting","pc":1,"threads":'
        '[{"id":"main","name":"main","status":"waiting","step":"gone","pc":1}]}',
    ),
    "execution of a thread that is gone": (
        "execution",
        '{"id":"x","workflow":"store","threads":[{"id":"t","name":"gone","status":"resuming"}]}',
    ),
    "a deadline without a time zone": (
        "execution",
        '{"id":"x","workflow":"store","status":"waiting","pc":1,"threads":'
        '[{"id":"main","name":"main","status":"waiting","step":"gone","pc":1,"waits":'
        '[{"event":"t","kind":"timeout","status":"set_up","id":"main@1","deadline":"2020-01-01T00:00:00"}]}]}',
    ),
    "a timer whose task has no name": (
        "execution",
        '{"id":"x","workflow":"store","status":"waiting","pc":1,"threads":'
        '[{"id":"main","name":"main","status":"waiting","step":"gone","pc":1,"waits":'
        '[{"event":"t","kind":"timeout","status":"set_up","id":"main@1","setup_data":["task"]}]}]}',
    ),
    "an attempt without a time zone": (
        "execution",
        '{"id":"x","workflow":"store","threads":[{"id":"main","name":"main","retry_at":"2020-01-01T00:00:00"}]}',
    ),
    "a compact execution without places": (
        "execution",
        '{"folded":{"threads":[{"of":{}}]},"id":"x","workflow":"store"}',
    ),
    "a compact execution that is huge": (
        "execution",
        '{"folded":{"threads":[{"at":[0,99999999999],"same":{}}]},"id":"x","workflow":"store","threads":[]}',
    ),
    "a lease without a time zone": ("lease", '{"token":"t","expires_at":"2020-01-01T00:00:00"}'),
    "fields that are no JSON": ("fields", "nonsense"),
    "fields that are a number": ("fields", "1"),
    "fields of the wrong type": ("fields", '{"numbers":"none"}'),
    "fields that are empty": ("fields", ""),
    "fields that are NULL-like": ("fields", "null"),
    "a lease that is none": ("lease", '{"token":1}'),
    "a blob": ("fields", b"\xff\xfe\x00"),
}


def damage(attacked: Attacked, id: str, column: str, value: Any) -> None:
    overdue = time.time_ns() // 1000  # not so long that recovery postpones it
    with closing(sqlite3.connect(attacked.db)) as connection, connection:
        cursor = connection.execute(
            f"UPDATE instances SET {column} = ?, revision = revision + 1, wake_at = {overdue} "
            "WHERE workflow = 'store' AND id = ?",
            (value, id),
        )
        assert cursor.rowcount == 1


@pytest.fixture
def names(attacked: Attacked) -> tuple[str, str]:
    """An instance that is to be damaged, and a sound one that was made before it."""
    number = next(_numbers)
    sound, damaged = f"sound-{number}", f"damaged-{number}"
    for id in (sound, damaged):
        attacked.http.create(f"/wf/store/{id}")
    return sound, damaged


def check_problem(problem: dict[str, Any]) -> None:
    assert problem["status"] == 500, problem
    assert problem["title"] in ("Damaged document", "Invalid fields", "Unknown statement"), problem
    assert "Traceback" not in problem["detail"]
    assert len(problem["detail"]) < 2_000


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_document(attacked: Attacked, names: tuple[str, str], kind: str) -> None:
    sound, damaged = names
    http = attacked.http
    damage(attacked, damaged, *DAMAGES[kind])
    before = attacked.stored()
    if kind.endswith("that is gone"):
        shown = http.get(f"/wf/store/{damaged}")
        assert "which the definition no longer contains" in shown["meta"]["problem"], (
            "it can be looked at, and repaired"
        )
        assert shown["events"] == []
    else:
        check_problem(http.problem("GET", f"/wf/store/{damaged}"))
    for method, path, body in (
        ("POST", "/Count", None),
        ("POST", "/KeepLabel", "new"),
        ("POST", "/KeepLabel", 5),
    ):
        problem = http.problem(method, f"/wf/store/{damaged}{path}", json=body, headers={"Idempotency-Key": "k"})
        check_problem(problem)
    assert http.problem("POST", f"/wf/store/{damaged}", json={})["status"] == 409, "it is not created over"
    assert attacked.stored() == before

    # The others: what they do, what is listed, and what recovery finds although the damaged one is due first.
    assert http.send(f"/wf/store/{sound}/KeepLabel", "sound") == "sound"
    listed = [one["id"] for one in http.get("/wf/store?limit=200")["instances"]]
    assert sound in listed


def test_recovery_goes_on_behind_the_damaged(attacked: Attacked, names: tuple[str, str]) -> None:
    """An endless instance whose task is lost is found by recovery, though damaged ones are longer overdue."""
    for kind in DAMAGES:
        id = f"damaged-{next(_numbers)}"
        attacked.http.create(f"/wf/store/{id}")
        damage(attacked, id, *DAMAGES[kind])
    http = attacked.http
    url = f"/wf/endless/recovered-{next(_numbers)}"
    http.create(url)
    http.send(f"{url}/Go")
    until(lambda: http.get(url)["state"]["worked"])
    # As if the process had died before the step, and the queue had lost its task.
    with closing(sqlite3.connect(attacked.db)) as connection, connection:
        (text,) = connection.execute(
            "SELECT execution FROM instances WHERE id = ?", (url.rpartition("/")[2],)
        ).fetchone()
        execution = json.loads(text)
        execution["status"] = "running"
        execution["threads"][0] |= {"status": "executing", "step": "work", "waits": []}
        connection.execute(
            "UPDATE instances SET execution = ?, fields = '{}', status = 'running', wake_at = 2, "
            "revision = revision + 1 WHERE id = ?",
            (json.dumps(execution), url.rpartition("/")[2]),
        )
    until(lambda: http.get(url)["state"].get("worked"))
