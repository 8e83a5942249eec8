"""How large a stored document may be.

The rule: a document holds the fields, the last tokens, the last entries of the history, and the threads, waits,
teardowns and buffered events of the moment. Each of these has a bounded size of its own, so the document of an instance
that loops does not grow however long it runs. The fields are compared with those of the executor elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_adapter import history
from cloud_adapter.document import Document
from tests.core.reference import RefThread
from tests.simulation.model.violations import require
from workflow_core import Activity, Child, Select, Sleep, Within
from workflow_core.program.code import OpenOp

if TYPE_CHECKING:
    from tests.simulation.model.executor import Executor
    from tests.simulation.model.instance import Model

TOKEN_BYTES = 17
ENTRY_BYTES = 250
EXECUTION_BYTES, THREAD_BYTES, WAIT_BYTES = 500, 450, 260
ROUND_BYTES, ERROR_BYTES = 120, 400
TEARDOWN_BYTES, BUFFERED_BYTES = 350, 80
PARENT_BYTES, OTHER_BYTES = 200, 500


def check_size(model: Model, document: Document) -> None:
    """Checks the size of each part of a document that was written."""
    sizes = {name: len(str(value).encode()) for name, value in document.items()}
    most = {
        "tokens": model.world.settings.tokens_kept * TOKEN_BYTES,
        "entries": 2 * history.HISTORY_MAX * ENTRY_BYTES,  # twice as many as are kept, before the others are removed
        "execution": _execution_bytes(model.executor) + (PARENT_BYTES if model.parent is not None else 0),
        "fields": sizes["fields"],
    }
    count = len(document["entries"])
    require(count < 2 * history.HISTORY_MAX, f"{model.id!r} has {count} entries in its history")
    if model.world.settings.is_renamed:
        most["execution"] *= 2  # later names are longer, and former ones are kept
    if sizes["execution"] > most["execution"]:
        most["execution"] += _left_bytes(model)
    for name, limit in most.items():
        require(sizes[name] <= limit, f"the stored {name} of {model.id!r} has {sizes[name]} bytes, and not {limit}")
    others = sum(size for name, size in sizes.items() if name not in most)
    require(others <= OTHER_BYTES, f"the rest of the document of {model.id!r} has {others} bytes")


def _execution_bytes(executor: Executor) -> int:
    threads = sum(map(_thread_bytes, executor.threads))
    buffer = sum(BUFFERED_BYTES + len(str(body)) for _, body in executor.buffer)
    error = ERROR_BYTES if executor.failed else 0
    return EXECUTION_BYTES + error + threads + TEARDOWN_BYTES * len(executor.teardowns) + buffer


def _left_bytes(model: Model) -> int:
    """What threads may still hold of sections that they have left: an error for each ``except_`` and ``finally_``."""
    code = model.world.definitions.first_revision(model.workflow).__program__.code
    sections = {instruction.caught for instruction in code} | {one.name for one in code if isinstance(one, OpenOp)}
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
