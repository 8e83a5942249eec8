"""Compiles ``Activity`` and ``Child`` to a select with one case: the result. In a ``Done``, it is one of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_core.adapters import schema_of
from workflow_core.errors import DefinitionError
from workflow_core.events import ActivityContext
from workflow_core.fitting import fits, in_words
from workflow_core.program.assembly import Assembly, Compilers
from workflow_core.program.cases import ActivityCase, ActivitySpec, ChildCase, ChildSpec, SelectOp
from workflow_core.program.children import check_fields, result_schema
from workflow_core.program.functions import function_of, handler_keywords, handler_of, signature_of, value_of
from workflow_core.signatures import (
    HandlerSignature,
    OfFrame,
    handler_signature,
    is_async,
    means,
    parameters,
    takes_context,
)
from workflow_core.statements.calls import Activity, Child


def call(assembly: Assembly, statement: Activity | Child) -> None:
    case = result_case(assembly, statement)
    instruction = assembly.park(SelectOp(case.event))
    case.target = len(assembly.code)
    instruction.cases = {case.event: case}


def result_case(assembly: Assembly, statement: Activity | Child) -> ActivityCase | ChildCase:
    """Registers an activity or a child, and returns the case of its result, without its target."""
    return _activity(assembly, statement) if isinstance(statement, Activity) else _child(assembly, statement)


def _activity(assembly: Assembly, statement: Activity) -> ActivityCase:
    name = assembly.name_wait("Activity", statement.name, statement.renamed_from)
    where = f"Activity {name!r}"
    function = assembly.scope.current(where, statement.function)
    takes = "at most the input and an ActivityContext"
    names = parameters(where, function, 0, 2, takes)
    if names[:1] == ["self"]:
        fix = "Write a function of the input, or mark it with @staticmethod and leave out self."
        raise DefinitionError(where, "its function is a method, but an activity has no workflow", fix)
    # A function of the context alone has no input.
    before = int(len(names) == 1 and means(assembly.scope.hints(where, function).get(names[0]), ActivityContext))
    signature = handler_signature(where, function, assembly.scope, takes=takes, least=0, before=before)
    if is_async(function):
        assembly.async_parts.append(name)
    elif statement.heartbeat is not None:
        raise DefinitionError(where, "it has a heartbeat, but its function is not async", "Use async def.")
    if statement.input is not None and not signature.takes_input:
        raise DefinitionError(
            where, "it has an input, but its function takes none", "Give it a parameter, or omit input."
        )
    spec = ActivitySpec(
        function,
        signature,
        takes_context(where, function, names, 1 - before, ActivityContext, assembly.scope),
        None if statement.input is None else function_of(assembly, "Activity", name, statement.input, "input"),
        statement.retry,
        statement.timeout,
        statement.heartbeat,
    )
    if statement.input is not None:
        given = _returned(assembly, where, statement.input)
        _check_fit(where, "its input", given, signature, "its function")
    assembly.note(lambda: f"{signature.input_schema} {signature.output_schema}\n")
    then = _then(assembly, "Activity", name, statement.then)
    taken = then.get("signature")
    if taken is not None and taken.takes_input and signature.output_form.has_secrets > taken.input_form.has_secrets:
        raise DefinitionError(
            where,
            "its result contains secrets, which 'then' would receive as plain texts",
            "Annotate the parameter of 'then' with a type that has the secrets too.",
        )
    if taken is not None and not signature.output_form.is_any:
        _check_fit(where, "its result", signature.output_schema, taken, "'then'")
    return ActivityCase(name, -1, activity=spec, **then)


def _child(assembly: Assembly, statement: Child) -> ChildCase:
    name = assembly.name_wait("Child", statement.name, statement.renamed_from)
    workflow = statement.workflow
    spec = ChildSpec(
        workflow if isinstance(workflow, str) else workflow.__workflow_name__,
        value_of(assembly, "Child", name, statement.id, "id"),
        None if statement.input is None else function_of(assembly, "Child", name, statement.input, "input"),
        statement.detached,
        assembly.scope.workflow if workflow == assembly.workflow else None if isinstance(workflow, str) else workflow,
    )
    assembly.note(f"{spec.workflow} {spec.detached}\n")
    if statement.input is not None:
        given = _returned(assembly, f"Child {name!r}", statement.input)
        if given is not None and not fits(given, {"type": "object"}, None):
            raise DefinitionError(
                f"Child {name!r}",
                f"its input returns {in_words(given)}, but the child needs fields",
                "Return an object of the child's class, or a mapping.",
            )
    then = _then(assembly, "Child", name, statement.then)
    if not isinstance(workflow, str):
        where = f"Child {name!r}"
        if statement.input is not None and not isinstance(statement.input, OfFrame):
            check_fields(assembly.scope, where, assembly.scope.current(where, statement.input), workflow)
        if then:
            _check_fit(where, "its result", result_schema(where, workflow), then["signature"], "'then'")
    return ChildCase(name, -1, child=spec, **then)


def _returned(assembly: Assembly, where: str, function: Callable[..., Any]) -> Any:
    """Returns the JSON schema of what a function returns; None if nothing is known about it."""
    function = assembly.scope.current(where, function)
    try:
        hint = assembly.scope.hints(where, function).get("return", Any)
        return None if hint is Any else schema_of(where, hint, "serialization", assembly.scope.names(function))[1]
    except DefinitionError:  # it needs no annotation, so that may be anything
        return None


def _check_fit(where: str, what: str, given: Any, taken: HandlerSignature, taker: str) -> None:
    """Checks what is passed on to a function.

    Args:
        given: its JSON schema; None if it is unknown.

    Raises:
        DefinitionError: the function certainly does not accept it.
    """
    if given is None or not taken.takes_input or fits(given, taken.input_schema, taken.input.core_schema):
        return
    raise DefinitionError(
        where,
        f"{what} is {in_words(given)}, but {taker} takes {in_words(taken.input_schema)} as {taken.parameter!r}",
        "Change one of the annotations, or what is returned.",
    )


def _then(assembly: Assembly, kind: str, name: str, then: Callable[..., Any] | None) -> dict[str, Any]:
    """Returns the attributes of a result's case that come from its ``then`` function."""
    if then is None:
        return {}
    then = handler_of(assembly, kind, name, then)
    where = f"then of {kind} {name!r}"
    signature = signature_of(assembly, where, then, "the workflow and at most the result")
    return {"handler": then, "signature": signature, "keywords": handler_keywords(assembly, where, then)}


COMPILERS: Compilers = {Activity: call, Child: call}
