"""Mutants that change no behaviour, with the reason. They do not count in the score.

A mutant is named by its file, its function, and the lines it removes and adds, so the list survives other changes.
"""

from __future__ import annotations

from pathlib import Path

from tests.mutation.mutants import Mutant

EQUIVALENTS: dict[tuple[str, str, str, str], str] = {
    (
        "workflow_core/machine/threads.py",
        "start_branches",
        "return live, position > first and allowance.round(name, position, total)",
        "return live, ((allowance.round(name, position, total)))",
    ): "a thread moves there without starting a branch only after an operator has moved it",
    (
        "workflow_core/machine/unwinding.py",
        "_fail_branch",
        "if parent is None:",
        "if False:",
    ): "the parent of a live branch is live",
    (
        "cloud_adapter/stores/sqlite/store.py",
        "SqliteStore.list",
        "lambda connection: _readable(connection, query, parameters, limit + 1)",
        "lambda connection: _readable(connection, query, parameters, limit + 2)",
    ): "one row more than needed is read and left out",
    (
        "cloud_adapter/queues/runner.py",
        "QueueRunner._ended",
        "self._progress.set()",
        "pass",
    ): "the dispatcher, which is woken, or the end of `stop` reports the progress",
    (
        "cloud_adapter/queues/turns.py",
        "ByTime.remove",
        "if len(self._heap) > 2 * len(self._tasks) + _STALE_MAX:",
        "if len(self._heap) >= 2 * len(self._tasks) + _STALE_MAX:",
    ): "the heap is rebuilt one task earlier, with the same contents",
    (
        "workflow_core/machine/work.py",
        "ActivityWork.policy",
        "return (case.activity.retry if isinstance(case, ActivityCase) else None) or machine.workflow.default_retry",
        "return ((case.activity.retry if isinstance(case, ActivityCase) else None))",
    ): "``tries_again``, which alone asks for it, applies the default policy too",
    (
        "cloud_adapter/engine/transaction.py",
        "Transactor._commit",
        "if not number % TOLD_AT_A_TIME:",
        "if (not (not number % TOLD_AT_A_TIME)):",
    ): "only how often others get a turn changes, by some microseconds",
    (
        "cloud_adapter/engine/decisions.py",
        "Decision",
        "is_unchecked: bool = False",
        "is_unchecked: bool = True",
    ): "the check of the other decisions accepts everything",
    (
        "cloud_adapter/engine/children.py",
        "_TakeEnd.decide",
        "self.stale = accepted is None or accepted.wait is None",
        "self.stale = ((accepted is None))",
    ): "``child`` returns none without a wait",
    (
        "cloud_adapter/stores/postgresql/rows.py",
        "_document",
        "document = dict(zip(COLUMNS, values, strict=False))",
        "document = dict(zip(COLUMNS, values, ))",
    ): "it is the default",
    (
        "cloud_adapter/queues/cloud_tasks.py",
        "CloudTasksQueue.__init__",
        'for value, what in zip(names, ("project", "location", "queue", "queue"), strict=True):',
        'for value, what in zip(names, ("project", "location", "queue", "queue"), ):',
    ): "both have four items",
    (
        "workflow_core/machine/allowance.py",
        "Allowance",
        "left: int = 0",
        "left: int = 1",
    ): "whoever creates one sets it at once",
    (
        "workflow_core/machine/outside_work.py",
        "_OfTeardown.failed",
        "check_wait(self.teardown, WaitHappening.TEARDOWN_FAILED)",
        "pass",
    ): "a teardown has only states in which it may fail",
    (
        "workflow_core/machine/pending.py",
        "overdue_of",
        "if (around.late_at >= 0 or around.is_try) and around.depth == guard.depth:  # no cleanup is between them",
        "if (around.late_at > 0 or around.is_try) and around.depth == guard.depth:  # no cleanup is between them",
    ): "the body comes before ``on_timeout``, so that does not begin at 0",
    (
        "workflow_core/machine/unwinding.py",
        "depart",
        "if guard.cleanup_at >= 0:",
        "if guard.cleanup_at > 0:",
    ): "the body comes before ``finally_``, so that does not begin at 0",
    (
        "cloud_adapter/engine/recovery.py",
        "_can_move",
        "return False",
        "return None",
    ): "the answer is only used as a condition",
    (
        "workflow_core/machine/endless.py",
        "rested",
        "allowance = allowance or Allowance()",
        "allowance = ((allowance))",
    ): "all callers pass one",
    (
        "workflow_core/machine/values.py",
        "value_of",
        "if value is not True and value is not False:",
        "if value is not False and value is not False:",
    ): "only a shortcut: ``refuse_accident`` accepts True",
    (
        "workflow_core/machine/unwinding.py",
        "finish",
        "if thread.name not in machine.program.racers:",
        "if False:",
    ): "only a shortcut: the parent of no other branch rests on a race",
    (
        "workflow_core/machine/alone.py",
        "handle_alone",
        "is_set_up = True",
        "is_set_up = False",
    ): "without the short path, the general one does the same",
    (
        "cloud_adapter/stores/firestore/documents.py",
        "key_of",
        "document = snapshot.to_dict() or {}",
        "document = ((snapshot.to_dict()))",
    ): "a document that exists has a mapping",
    (
        "cloud_adapter/engine/transaction.py",
        "Transactor.decide",
        "self.session = kept  # the session was only read",
        "pass  # the session was only read",
    ): "the next batch loads the instance once more",
    (
        "cloud_adapter/engine/activities.py",
        "_TakeResult",
        "lax = True",
        "lax = False",
    ): "only when the fields are checked changes: if a check at the commit fails, each decision is made again",
    (
        "cloud_adapter/engine/commits.py",
        "Committer.commit",
        "await turn()",
        "pass",
    ): "only how often others get a turn changes",
    (
        "cloud_adapter/engine/transaction.py",
        "Transactor._ask_all",
        "item.waits = NotNow(self.busy())",
        "pass",
    ): "the next round makes the decision again first, and refuses it with the same error",
}
"""(path, function, removed, added): the reason."""


def reason_for(mutant: Mutant, root: Path) -> str | None:
    """Why a mutant is equivalent to the original; None if it is not known to be."""
    removed, added = mutant.changed_lines((root / mutant.path).read_bytes())
    return EQUIVALENTS.get((mutant.path, mutant.function, removed, added))
