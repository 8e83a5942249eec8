"""The state of an instance is changed in ``workflow_core/machine/`` alone: no other module assigns to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tests.test_stack import MODULES
from workflow_core import BufferedEvent, ErrorInfo, Execution, Leave, Parent, Thread
from workflow_core.machine import outside_work, work
from workflow_core.wait_types import WAITS, ChildTeardown, HandlerTeardown

WORK = [cls for module in (work, outside_work) for cls in vars(module).values() if isinstance(cls, type)]
STATE = {
    attribute.name
    for cls in (
        Execution,
        Thread,
        *WAITS.values(),
        HandlerTeardown,
        ChildTeardown,
        Parent,
        Leave,
        BufferedEvent,
        ErrorInfo,
    )
    for attribute in fields(cls)
} | {name for cls in WORK if issubclass(cls, work.Work) for name in cls.__dataclass_fields__}
"""The attributes of everything that makes up the state, and of work."""

COLLECTIONS = {"threads", "waits", "teardowns", "buffer", "positions", "errors", "pending", "bases"}
CHANGES = {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse", "update", "setdefault"}

OTHER = {
    "workflow_core.diagrams.live": {
        "self.at((thread.step, wait.event)).error",
        "self.at(self.place_of(thread)).threads",
        "found.error",
    },
    "workflow_core.diagrams.svg.blocks": {"block.name"},
    "workflow_core.records": {"place.name", "place.type"},
    "cloud_adapter.cli.store_copy": {"progress.workflow"},
    "cloud_adapter.engine.lanes": {"item.waits"},
    "cloud_adapter.engine.transaction": {"item.waits"},
    "cloud_adapter.http.pages.form_values": {"field.errors"},
    "cloud_adapter.http.pages.forms": {"field.id", "fields[nearest].errors"},
    "cloud_adapter.http.pages.ui": {"card.message"},
    "cloud_adapter.queues.cloud_tasks_client": {"message.name"},
    "cloud_adapter.stores.firestore.writes": {"write.update.name"},
    "cloud_adapter.tasks_emulator.task_messages": {"task.last_attempt.response_status.message"},
    "cloud_adapter.tasks_emulator.dispatch": {"job.status"},
    "cloud_adapter.tasks_emulator.queue_messages": {"changed.name"},
}
"""What has an attribute of such a name and is no state: by module."""

STATES = {"workflow_core.execution", "workflow_core.wait_types", "workflow_core.shown"}
"""The modules of the classes themselves: there, ``self`` is state."""


ONE_TARGET = ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor | ast.NamedExpr | ast.comprehension


def changed(tree: ast.AST) -> Iterator[ast.expr]:
    """The attributes that a module assigns, deletes or changes in place."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ONE_TARGET):
            targets = [node.target]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            targets = [node.optional_vars]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr in COLLECTIONS:
                yield owner
        for target in targets:
            yield from parts(target)


def parts(target: ast.expr) -> Iterator[ast.expr]:
    """The attributes in a target: of a tuple each, of ``a.b[c]`` the attribute that is changed."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from parts(element)
    elif isinstance(target, ast.Starred | ast.Subscript):
        yield from parts(target.value)
    elif isinstance(target, ast.Attribute):
        yield target


def new_objects(tree: ast.AST) -> Iterator[str]:
    """The variables with objects that were made without their attributes, and get them now."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "_new":
            yield from map(ast.unparse, node.targets)


def offences(module: str, source: str) -> set[str]:
    """What a module changes of the state, and what it may change that by."""
    found = set()
    tree = ast.parse(source)
    made = set(new_objects(tree)) if module in STATES else set()
    for attribute in changed(tree):
        assert isinstance(attribute, ast.Attribute)
        is_own = ast.unparse(attribute.value) == "self" and module not in STATES
        if attribute.attr in STATE and not is_own and ast.unparse(attribute.value) not in made:
            found.add(ast.unparse(attribute))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__", "delattr"):
            name = node.args[1]
            # A name that is computed may be any: there is one such place, which sets up statements.
            if isinstance(name, ast.Constant) and name.value in STATE:
                found.add(ast.unparse(node))
    return found


OUTSIDE = sorted(name for name in MODULES if not name.startswith("workflow_core.machine"))


@pytest.mark.parametrize("module", OUTSIDE)
def test_no_module_outside_of_the_machine_changes_the_state(module: str) -> None:
    assert offences(module, MODULES[module].read_text()) == OTHER.get(module, set())


def test_a_change_is_found() -> None:
    for source in (
        "wait.task = token",
        "execution.pc += 1",
        "thread.attempt, thread.error = 0, None",
        "session.execution.threads.append(thread)",
        "execution.threads[0].waits[0].status = status",
        "thread.positions['each'] = 1",
        "del execution.threads[0]",
        "for thread.step in names: pass",
        "setattr(thread, 'status', status)",
        "object.__setattr__(wait, 'task', None)",
        "work.thread.retry_at: datetime = now",
        "parent.told = True",
        "leave.step = name",
        "work.wait = other",
    ):
        assert offences("cloud_adapter.engine.plan", source), source
    assert not offences("cloud_adapter.engine.plan", "self.status = status\nfound = wait.task == token")
    assert Path(MODULES["workflow_core.machine.transitions"]).exists()
