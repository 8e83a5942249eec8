"""The secrets of an instance outside its fields: where they are stored, and copies with other values in their place.

Inputs of activities, initial fields of children and buffered events are stored until they are used. If such a value may
contain secrets, what clients see is stored beside it. This mark, and not the class of the workflow, decides which
values are secret: it is stored with the value, so a later version of the code finds the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from workflow_core.execution import Execution
from workflow_core.program.cases import ActivityCase, ChildCase, SelectOp
from workflow_core.shown import SHOWN
from workflow_core.signatures import HandlerSignature
from workflow_core.value_form import ValueForm
from workflow_core.wait_types import ActivityWait, AnyTeardown, AnyWait, ChildTeardown, ChildWait
from workflow_core.workflow import Workflow

Place = tuple[str, ...]
"""Where an input is stored in an execution. No other input of the execution has the same place."""


def handles_secrets(cls: type[Workflow]) -> bool:
    """Whether an instance may contain secrets: in its fields, or in what it gets, passes on or returns."""
    return any(form.has_secrets for form in _forms(cls))


def _forms(cls: type[Workflow]) -> Iterator[ValueForm]:
    yield cls.__form__
    if cls.__result__ is not None:
        yield cls.__result__
    selects = (instruction for instruction in cls.__program__.code if isinstance(instruction, SelectOp))
    for case in (case for select in selects for case in select.cases.values()):
        yield from _forms_of(case.signature)
        if isinstance(case, ActivityCase):
            yield from _forms_of(case.activity.signature)
        if isinstance(case, ChildCase) and case.child.cls is not None:
            yield case.child.cls.__input_form__


def _forms_of(signature: HandlerSignature | None) -> Iterator[ValueForm]:
    if signature is not None:
        yield from (signature.input_form, signature.output_form)


def secret_inputs(execution: Execution) -> dict[Place, Any]:
    """Returns the inputs that contain secrets, as JSON data; those of buffered events as JSON text."""
    found: dict[Place, Any] = {}
    for thread in execution.threads:
        for wait in thread.waits:
            if isinstance(wait, ActivityWait):
                if wait.shown is not None:
                    found[_place(wait)] = wait.input
            elif isinstance(wait, ChildWait) and _is_marked(wait):
                found[_place(wait)] = wait.child["fields"]
    for teardown in execution.teardowns:
        if isinstance(teardown, ChildTeardown) and _is_marked(teardown):
            found[_place(teardown)] = teardown.child["fields"]
    for index, event in enumerate(execution.buffer):
        if event.shown is not None:
            found[_buffer_place(index)] = event.input
    return found


def with_inputs(execution: Execution, inputs: Mapping[Place, Any]) -> Execution:
    """Returns a copy of the execution with other inputs at the places that ``secret_inputs`` returns. Parts that stay
    the same are shared with the execution."""
    threads = [
        replace(thread, waits=[_with_input(wait, inputs) for wait in thread.waits])
        if any(_place(wait) in inputs for wait in thread.waits)
        else thread
        for thread in execution.threads
    ]
    teardowns = [
        _with_fields(teardown, inputs) if isinstance(teardown, ChildTeardown) else teardown
        for teardown in execution.teardowns
    ]
    buffer = [
        replace(event, input=inputs.get(_buffer_place(index), event.input))
        for index, event in enumerate(execution.buffer)
    ]
    return replace(execution, threads=threads, teardowns=teardowns, buffer=buffer)


def _with_input(wait: AnyWait, inputs: Mapping[Place, Any]) -> AnyWait:
    if isinstance(wait, ActivityWait) and _place(wait) in inputs:
        return replace(wait, input=inputs[_place(wait)])
    return _with_fields(wait, inputs) if isinstance(wait, ChildWait) else wait


def _with_fields(part: ChildWait | ChildTeardown, inputs: Mapping[Place, Any]) -> Any:
    place = _place(part)
    return replace(part, child=part.child | {"fields": inputs[place]}) if place in inputs else part


def _is_marked(part: ChildWait | ChildTeardown) -> bool:
    return part.child.get(SHOWN) is not None


def _place(part: AnyWait | AnyTeardown) -> Place:
    return part.kind.value, part.id, part.event


def _buffer_place(index: int) -> Place:
    return "buffer", str(index)
