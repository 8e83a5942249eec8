"""What happens to instances before and after their documents are stored, and how the documents are made.

``tests/core/stored_documents`` holds one document for each of ``SCENARIOS``: an instance as it was stored by the
release in which all kinds of waits were one class, what it stood on, what happens to it next, and how it ends. They are
never written again, because this release must read them. Run as a program, this file adds the documents of scenarios
that have none, and leaves the others alone:

    python -m tests.core.stored_scenarios
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.core.stored_happenings import NOON, Happening, play, standing
from tests.core.stored_workflows import ITEMS, WORKFLOWS
from workflow_core import Execution

FOLDER = Path(__file__).parent / "stored_documents"

_STATEMENTS: list[Happening] = [["all work"]]
_ANSWERED: list[Happening] = [["event", "Yes", 7], ["all work"]]
_SLEPT: list[Happening] = [["event", "nap"], ["flag"], ["all work"]]
_NAP: list[Happening] = [*_ANSWERED, *_SLEPT]
_SET_UP: list[Happening] = [["settle"], ["work", 2]]
_PAID: list[Happening] = [["all work"], ["event", "Paid", 5], ["all work"]]
_CHILD: list[Happening] = [["settle"], ["work", 1]]
_DELIVERED: list[Happening] = [["all work"], ["event", "deliver", 3], ["all work"]]
_EACH = [f"each[{n}]" for n in range(ITEMS)]
_REST: list[Happening] = [["event", "Tidy", 1, "both[2]"], ["all work"]]

SCENARIOS: dict[str, tuple[str, Sequence[Happening], Sequence[Happening]]] = {
    # name: the workflow, what happens before the instance is stored, and what afterwards
    "started": ("statements", [], _STATEMENTS),
    **{f"step-{n}": ("statements", [["work", n]], _STATEMENTS) for n in range(14)},
    "step-retried": ("statements", [["work", 1], ["work fails", -5]], _STATEMENTS),
    "step-retried-later": ("statements", [["work", 1], ["work fails", 5]], [["cancel"]]),
    "step-given-up": ("statements", [["work", 1], ["work fails"], ["work is given up"]], [["retry"], *_STATEMENTS]),
    "cleanup-while-canceled": ("statements", [["work", 10], ["cancel"]], _STATEMENTS),
    "failed-instance": ("waits", [["all work"], ["instance fails"]], [["retry"], *_NAP]),
    "select": ("waits", [["all work"]], _NAP),
    "select-late": ("waits", [["all work"], ["tasks", "t-1"]], [["event", "late"], ["all work"], *_SLEPT]),
    "select-with-task": ("waits", [["all work"], ["tasks", "t-1"]], _NAP),
    "select-paused": ("waits", [["all work"], ["tasks", "t-1"], ["pause"]], [["unpause"], *_NAP]),
    "select-repaired": ("waits", [["all work"], ["goto", "main", "nap"]], _SLEPT),
    "kept-in-the-buffer": ("waits", [["event", "Kept", 1], ["event", "Kept", 2]], [["all work"], *_SLEPT]),
    "sleep": ("waits", [["all work"], *_ANSWERED], _SLEPT),
    "sleep-with-task": ("waits", [["all work"], *_ANSWERED, ["tasks", "t-2"]], _SLEPT),
    "condition": ("flagged", [["all work"]], [["event", "Set"], ["all work"]]),
    "handler-pending": ("handlers", [["settle"]], _PAID),
    "handler-one-set-up": ("handlers", [["settle"], ["work", 1]], _PAID),
    "handler-set-up": ("handlers", _SET_UP, _PAID),
    "handler-setup-error": ("handlers", [["settle"], ["work fails", -5]], _PAID),
    "handler-setup-error-later": (
        "handlers",
        [["settle"], ["work fails", 5], ["work", 1]],
        [["event", "Plain", 1], ["all work"]],
    ),
    "handler-setup-given-up": (
        "handlers",
        [["settle"], ["work fails"], ["work", 1]],
        [["event", "Refused", 5], ["all work"]],
    ),
    "handler-torn-down-next": ("handlers", [*_SET_UP, ["event", "Paid", 5]], [["all work"]]),
    "handler-teardown-error": ("handlers", [*_SET_UP, ["event", "Plain", 5], ["work fails", -5]], [["all work"]]),
    "handler-teardown-given-up": ("handlers", [*_SET_UP, ["event", "Plain", 5], ["work fails"]], [["all work"]]),
    "handler-canceled": ("handlers", [["settle"], ["work", 1], ["cancel"]], [["all work"]]),
    "activity": ("activities", [["settle"]], [["activity", "fetch"], ["all work"]]),
    "activity-with-task": ("activities", [["settle"], ["tasks", "t-3"]], [["activity", "fetch"], ["all work"]]),
    "activity-heartbeat": ("activities", [["settle"], ["heartbeat", "fetch"]], [["activity", "fetch"], ["all work"]]),
    "activity-retried": (
        "activities",
        [["settle"], ["tasks", "t-3"], ["activity fails", "fetch", 5]],
        [["activity", "fetch"], ["all work"]],
    ),
    "activity-failed": ("activities", [["settle"], ["activity fails", "fetch"]], [["all work"]]),
    "activity-paused": (
        "activities",
        [["settle"], ["tasks", "t-3"], ["activity fails", "fetch", 5], ["tasks", "t-4"], ["pause"]],
        [["unpause"], ["activity", "fetch"], ["all work"]],
    ),
    "child-detached-pending": ("children", [["settle"]], _DELIVERED),
    "child-pending": ("children", _CHILD, _DELIVERED),
    "child-pending-canceled": ("children", [*_CHILD, ["cancel"]], [["all work"]]),
    "child-setup-error": ("children", [*_CHILD, ["work fails", -5]], _DELIVERED),
    "child-started": ("children", [*_CHILD, ["work", 1]], _DELIVERED),
    "child-started-canceled": ("children", [*_CHILD, ["work", 1], ["cancel"]], [["all work"]]),
    "child-teardown-error": ("children", [*_CHILD, ["work", 1], ["cancel"], ["work fails", -5]], [["all work"]]),
    "child-fails": ("children", [*_CHILD, ["work", 1]], [["child fails", "deliver"], ["all work"]]),
    "child-failed": ("children", [*_CHILD, ["work", 1], ["child fails", "deliver"]], [["all work"]]),
    "parent": ("waits", [["parent"], ["all work"]], _NAP),
    "parent-untold": ("activities", [["parent"], ["settle"], ["activity", "fetch"], ["work", 1]], [["all work"]]),
    "parent-told": ("activities", [["parent"], ["settle"], ["activity", "fetch"], ["work", 2]], [["all work"]]),
    "parent-not-told-at-first": (
        "activities",
        [["parent"], ["settle"], ["activity", "fetch"], ["work", 1], ["work fails", -5]],
        [["all work"]],
    ),
    "known-as-another": ("handlers", [*_SET_UP, ["known as", "Former"]], _PAID),
    "known-as-another-torn-down": (
        "handlers",
        [*_SET_UP, ["event", "Paid", 5], ["known as", "Former"]],
        [["all work"]],
    ),
    "branches": (
        "branches",
        [["all work"]],
        [["event", "Left", 1], ["event", "Third", 3], ["event", "Right", 2], *_REST],
    ),
    "branches-fail": (
        "branches",
        [["all work"], ["event", "Left", 1], ["event", "Right", 2]],
        [["all work"], *_REST],
    ),
    "branches-canceled": ("branches", [["all work"], ["event", "Left", 1], ["cancel"]], [["all work"], *_REST]),
    "covered": ("covered", [["all work"]], [["event", "Right", 1], ["event", "Tidy", 2], ["all work"]]),
    "covered-failed": (
        "covered",
        [["all work"], ["event", "Right", 1], ["all work"]],
        [["event", "Tidy", 2], ["all work"], ["retry"], ["all work"], ["event", "Tidy", 3], ["all work"]],
    ),
    "folded-activities": ("many-activities", [["settle"]], [["activity", "fetch"], ["all work"]]),
    "folded-activities-tasks": (
        "many-activities",
        [["settle"], ["tasks", "0123456789abcdef" * 2]],
        [["activity", "fetch"], ["all work"]],
    ),
    "folded-activities-retried": (
        "many-activities",
        [["settle"], ["tasks", "t-5"], ["activity fails", "fetch", 5]],
        [["activity", "fetch"], ["all work"]],
    ),
    "folded-events": (
        "many-events",
        [["settle"], ["tasks", "t-6"]],
        [*(["event", "Answer", n, id] for n, id in enumerate(_EACH[1:])), ["event", "late"], ["all work"]],
    ),
    "folded-handlers-pending": (
        "many-handlers",
        [["settle"]],
        [["all work"], *(["event", "Paid", 1, id] for id in _EACH), ["all work"]],
    ),
    "folded-handlers": (
        "many-handlers",
        [["all work"]],
        [*(["event", "Plain", 1, id] for id in _EACH), ["all work"]],
    ),
    "folded-handlers-torn-down": ("many-handlers", [["all work"], ["cancel"]], [["all work"]]),
    "folded-children-pending": (
        "many-children",
        [["settle"]],
        [["all work"], *(["event", "deliver", 1, id] for id in _EACH), ["all work"]],
    ),
    "folded-children": (
        "many-children",
        [["all work"]],
        [*(["event", "deliver", 1, id] for id in _EACH), ["all work"]],
    ),
    "folded-children-canceled": ("many-children", [["all work"], ["cancel"]], [["all work"]]),
    "folded-children-canceled-early": ("many-children", [["settle"], ["cancel"]], [["all work"]]),
    "folded-steps": (
        "many-steps",
        [["settle"]],
        [["all work"], *(["event", "Answer", 1, id] for id in _EACH), ["all work"]],
    ),
}


def _document(name: str) -> dict[str, Any]:
    workflow, before, after = SCENARIOS[name]
    cls = WORKFLOWS[workflow]
    order = cls()
    execution = play(order, Execution.start("id-1", cls, now=NOON), before)
    document: dict[str, Any] = {"workflow": workflow, "execution": execution.to_json(), "fields": order.dump_fields()}
    document |= {"shown": execution.to_dict(), "stands": standing(execution), "then": after}
    execution = Execution.from_json(execution.to_json())
    execution = play(order, execution, after)
    return document | {"ends": standing(execution), "log": order.log}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in SCENARIOS:
        file = FOLDER / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(_document(name), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
