"""How large a stored document may be.

The rule: a document holds the fields, the last tokens, the last entries of the history, and the threads, waits,
teardowns and buffered events of the moment. Each of these has a bounded size of its own, so the document of an instance
that loops does not grow however long it runs. The fields are compared with those of the executor elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cloud_adapter import history
from cloud_adapter.document import Document, InboxEntry, KeyRecord
from cloud_adapter.ports import Task
from tests.core.reference import RefThread
from tests.simulation.model.violations import require
from workflow_core import Activity, Child, Select, Sleep, Within
from workflow_core.program.code import OpenOp, guards_around

if TYPE_CHECKING:
    from tests.simulation.model.executor import Executor
    from tests.simulation.model.instance import Model

TOKEN_BYTES = 11
ENTRY_BYTES, ENTRIES_BYTES = 170, 1_500
EXECUTION_BYTES, THREAD_BYTES, WAIT_BYTES = 350, 400, 260
ROUND_BYTES, ERROR_BYTES = 120, 400
TEARDOWN_BYTES, BUFFERED_BYTES = 350, 80
PARENT_BYTES, OTHER_BYTES = 200, 500
RECORD_BYTES, TASK_BYTES, INBOX_BYTES = 200, 500, 1_000


def check_size(model: Model, document: Document) -> None:
    """Checks the size of each part of a document that was written."""
    sizes = {name: len(str(value).encode()) for name, value in document.items()}
    most = {
        "tokens": model.world.settings.tokens_kept * TOKEN_BYTES,
        "entries": len(document["entries"]) * ENTRY_BYTES + ENTRIES_BYTES,
        "execution": _execution_bytes(model.executor) + (PARENT_BYTES if model.parent is not None else 0),
    }
    count = len(document["entries"])  # up to twice as many as are kept, before the others are removed
    require(count < 2 * history.HISTORY_MAX, f"{model.id!r} has {count} entries in its history")
    if model.world.settings.is_renamed:
        most["execution"] *= 2  # later names are longer, and former ones are kept
    if sizes["execution"] > most["execution"]:
        most["execution"] += _left_bytes(model)
    for name, limit in most.items():
        require(sizes[name] <= limit, f"the stored {name} of {model.id!r} has {sizes[name]} bytes, and not {limit}")
    others = sum(size for name, size in sizes.items() if name not in (*most, "fields"))
    require(others <= OTHER_BYTES, f"the rest of the document of {model.id!r} has {others} bytes")


def check_record_size(key: KeyRecord) -> None:
    """Checks the size of the record of a request, beside what it was answered."""
    size = len(key.key) + len(key.fingerprint)
    require(size <= RECORD_BYTES, f"the record of {key.key!r} has {size} bytes, and not {RECORD_BYTES}")


def check_task_size(task: Task) -> None:
    """Checks the size of the body of a task."""
    size = len(json.dumps(task.body))
    require(size <= TASK_BYTES, f"a task to {task.path} has {size} bytes, and not {TASK_BYTES}")


def check_entry_size(entry: InboxEntry, request: int) -> None:
    """Checks the size of an entry of an inbox; ``request`` is that of the request that it keeps."""
    size = len(entry.body) - request
    require(size <= INBOX_BYTES, f"the entry {entry.name!r} has {size} bytes, and not {INBOX_BYTES}")


def _execution_bytes(executor: Executor) -> int:
    threads = sum(map(_thread_bytes, executor.threads))
    buffer = sum(BUFFERED_BYTES + len(str(body)) for _, body in executor.buffer)
    error = ERROR_BYTES if executor.failed else 0
    return EXECUTION_BYTES + error + threads + TEARDOWN_BYTES * len(executor.teardowns) + buffer


def _left_bytes(model: Model) -> int:
    """What threads may still hold of sections that they have left: an error for each ``except_`` and ``finally_``."""
    code = model.world.definitions.first_revision(model.workflow).__program__.code
    guards = [guard for instruction in code for guard in guards_around(instruction)]
    sections = {clause.name for guard in guards for clause in guard.clauses}
    sections |= {one.name for one in code if isinstance(one, OpenOp)}
    return ERROR_BYTES * len(sections) * len(model.executor.threads)


def _thread_bytes(thread: RefThread) -> int:
    statement = None if thread.at is None else thread.at.statement
    waits = 0
    if isinstance(statement, Select):
        waits = len(statement.cases) + 1  # the case that the second revision adds
    elif isinstance(statement, Activity | Child | Sleep | Within):
        waits = 1
    carried = ROUND_BYTES * len(thread.items) + ERROR_BYTES * (
        len(thread.errors) + thread.cleaning + (thread.leaving is not None)
    )
    return THREAD_BYTES + WAIT_BYTES * waits + carried
