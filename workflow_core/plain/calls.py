"""Calls: what ``run`` awaits, as parts that become statements."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import ActivityContext, StepContext, event_mark
from workflow_core.plain import vocabulary
from workflow_core.plain.expressions import Expressions
from workflow_core.plain.field_types import may_be_none, optional
from workflow_core.plain.methods import instead_of, method_of, own_parameters
from workflow_core.plain.parts import RETURNED, Called, Code, Frame, Part, Wait
from workflow_core.plain.source import UNKNOWN, plain_function, source_of
from workflow_core.plain.syntax import assign, at, load
from workflow_core.plain.usage import Usage
from workflow_core.records import record
from workflow_core.signatures import OfFrame, is_async
from workflow_core.statements.control import Step

Make = Callable[[ast.expr], OfFrame]

_WITHOUT_AWAIT = (vocabulary.go, vocabulary.local, vocabulary.now, vocabulary.parallel, vocabulary.timeout)

_VALUES = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
"""Expressions with a value that is not None, but for the constant itself."""


@record()
class Prepared:
    """A call.

    Attributes:
        name: the name of its statement.
        before: what computes its arguments.
        parts: the call itself; it leaves its result in the variable ``RESULT``.
        gives: the type of its result; ``UNKNOWN`` if it is not known.
        result: an expression of the result, if it is not in ``RESULT``.
    """

    name: str
    before: list[Part] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    gives: Any = UNKNOWN
    result: ast.expr | None = None


class Calls(Expressions):
    """Reads the calls that are awaited."""

    def call(self, frame: Frame, node: ast.expr) -> Prepared:
        """Returns a call.

        Raises:
            DefinitionError: it is not a call that can be awaited here.
        """
        node = self._without_name(frame, node)
        if isinstance(node, ast.Call):
            if (word := self.word(frame, node)) is not None:
                return self._word(frame, node, word)
            method, owner = self._method(frame, node)
            if isinstance(method, vocabulary.StepMethod):
                return self._step(frame, node, method, owner)
            if isinstance(method, vocabulary.ActivityMethod):
                return self._activity(frame, node, method, owner)
            if isinstance(method, vocabulary.SectionMethod):
                return self._section(frame, node, method.function, method.renamed_from)
            if event_mark(method) is not None:
                name = ast.unparse(node.func)
                raise frame.source.mistake(node, f"{name} is an event", f"Write await select({name}).")
            if method is not None and is_async(method):
                return self._section(frame, node, method, ())
            if method is not None:
                raise frame.source.mistake(node, f"{ast.unparse(node.func)} is not async", "Call it without await.")
        raise frame.source.mistake(
            node,
            f"run cannot await {ast.unparse(node)!r:.80}: nothing would save its result",
            "Await a method of the workflow, or select, until, sleep, gather or child. Put other code into a @step.",
        )

    def call_name(self, frame: Frame, node: ast.expr) -> str:
        """Returns the name of a method that is called, without reading the call."""
        match node:
            case ast.Call(ast.Attribute(ast.Call(), "named"), [ast.Constant(str(name))]):
                return name
            case ast.Call(ast.Attribute(_, name)):
                return name
        return "item"

    def _without_name(self, frame: Frame, node: ast.expr) -> ast.expr:
        """Returns the call in ``call.named("...")``, and notes the name."""
        match node:
            case ast.Call(ast.Attribute(ast.Call() as call, "named"), [ast.Constant(str(name))], []):
                self.given_name = name
                return call
            case ast.Call(_, [ast.Constant(str(name)), call], []) if self.word(frame, node) is vocabulary.named:
                self.given_name = name
                return call
            case ast.Call(ast.Attribute(ast.Call(), "named")):
                raise frame.source.mistake(node, "its name is not a text", 'Write .named("second reminder").')
        return node

    def _method(self, frame: Frame, node: ast.Call) -> tuple[Any, type | None]:
        """Returns the method that is called: that of ``self.method()``, or of ``super().method()`` with its class."""
        match node.func:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                return self.own_method(frame, node, name), None
            case ast.Attribute(ast.Call(ast.Name("super"), [], []), name):
                cell = frame.source.cells.get("__class__")
                mro = self.cls.__mro__
                start = next((i for i, base in enumerate(mro) if cell and base is cell.cell_contents), 0)
                owners = [base for base in mro[start + 1 :] if name in vars(base)]
                return (vars(owners[0])[name], owners[0]) if owners else (None, None)
        return None, None

    def own_method(self, frame: Frame, node: ast.AST, name: str) -> Any:
        """Returns the method of the workflow's class that ``self.name`` is. If there is none, this is a mistake."""
        found = method_of(self.cls, name)
        if found is None:
            reason = f"{self.cls.__name__} has no method {name!r}"
            raise frame.source.mistake(node, reason, instead_of(self.cls, name))
        return found

    def needs_await(self, frame: Frame, node: ast.Call) -> bool:
        """Whether a call does nothing unless it is awaited."""
        word = self.word(frame, node)
        if word is not None:
            return word not in _WITHOUT_AWAIT
        match node.func:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                found = method_of(self.cls, name)
                return isinstance(found, vocabulary.Method) or (callable(found) and is_async(found))
        return False

    def _take_name(self, frame: Frame, node: ast.AST, default: str) -> str:
        given, self.given_name = self.given_name, ""
        return self.name(frame, node, given or default)

    def _bound(self, frame: Frame, node: ast.Call, function: Callable[..., Any], skipped: type | None) -> _Arguments:
        """Returns the arguments of a call by the names of the parameters."""
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            raise frame.source.mistake(node, "it has * or ** arguments", "Write each argument.")
        parameters = own_parameters(function)
        hints = self.hints(function)
        context = next((p.name for p in parameters if skipped and hints.get(p.name) is skipped), None)
        given = [p for p in parameters if p.name != context]
        for parameter in given:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                raise frame.source.mistake(node, f"its method has *{parameter.name}", "Declare each parameter.")
        try:
            bound = inspect.Signature(given).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
        except TypeError as error:
            raise frame.source.mistake(
                node, f"{error} of {function.__qualname__}", "Pass what the method takes."
            ) from None
        defaults = {p.name: p.default for p in given if p.name not in bound.arguments}
        return _Arguments(bound.arguments, defaults, hints, context)

    def arguments(
        self, frame: Frame, prepared: Prepared, given: dict[str, ast.expr], hints: dict[str, Any]
    ) -> dict[str, ast.expr]:
        """Returns the arguments of a call that computes them when a thread reaches it. Those of a branch are computed
        before it starts, because the code that starts it may go on to change what they read."""
        if self.is_branch:
            return self.stored_arguments(frame, prepared, given, hints)
        return {name: self.take_out(frame, value, prepared.before) for name, value in given.items()}

    def stored_arguments(
        self, frame: Frame, prepared: Prepared, given: dict[str, ast.expr], hints: dict[str, Any]
    ) -> dict[str, ast.expr]:
        """Returns the arguments of a call as variables that are stored before it."""
        values: dict[str, ast.expr] = {}
        for parameter, value in given.items():
            inner = self.take_out(frame, value, prepared.before)
            if isinstance(inner, ast.Constant):
                values[parameter] = inner
                continue
            variable = f".{prepared.name}.{parameter}"
            if (kind := hints.get(parameter, UNKNOWN)) is not UNKNOWN:
                self.types[frame.key(variable)] = [kind]
            statement = assign(variable, inner, value)
            self.add(prepared.before, Code(frame=frame, line=value, derived=frame.derived, statements=[statement]))
            values[parameter] = load(variable, value)
        return values

    # --- steps and activities ----------------------------------------------------------------

    def _step(
        self, frame: Frame, node: ast.Call, method: vocabulary.StepMethod[Any, Any, Any], owner: type | None
    ) -> Prepared:
        name = self._take_name(frame, node, method.name)
        arguments = self._bound(frame, node, method.function, StepContext)
        prepared = Prepared(name, gives=arguments.hints.get("return", UNKNOWN))
        values = self.stored_arguments(frame, prepared, arguments.given, arguments.hints)
        for parameter in values:
            own = tuple(f".{former}.{parameter}" for former in method.renamed_from)
            self.former[frame.key(f".{name}.{parameter}")] = own
        made = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)

        def make(expression: Make) -> Step:
            action = _action(method, owner, expression(made), arguments.context)
            return Step(name, action, retry=method.retry, timeout=method.timeout, renamed_from=method.renamed_from)

        wait = self._wait(frame, node, name, [made], make)
        wait.takes_context = arguments.context is not None
        prepared.parts.append(wait)
        return prepared

    def _activity(
        self, frame: Frame, node: ast.Call, method: vocabulary.ActivityMethod[Any, Any, Any], owner: type | None
    ) -> Prepared:
        # Imported here, because many definitions have no activity.
        from workflow_core.plain import activities
        from workflow_core.statements.calls import Activity

        name = self._take_name(frame, node, method.name)
        arguments = self._bound(frame, node, method.function, ActivityContext)
        prepared = Prepared(name, gives=arguments.hints.get("return", UNKNOWN))
        values = self.arguments(frame, prepared, arguments.given, arguments.hints)
        function = activities.function_of(self.cls, owner, method, arguments.hints, arguments.context)
        input: ast.expr | None = None
        defaults = [at(self.constant(default), node) for default in arguments.defaults.values()]
        if activities.takes_one(method, arguments.context):
            # Without an input, the statement would pass the item of the loop around it.
            input = next(iter((*values.values(), *defaults)), None)
        elif values or defaults:
            input = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)

        def make(expression: Make) -> Activity:
            return Activity(
                name,
                function,
                input=None if input is None else expression(input),
                then=activities.taking(prepared.gives),
                retry=method.retry,
                timeout=method.timeout,
                heartbeat=method.heartbeat,
                renamed_from=method.renamed_from,
            )

        prepared.parts.append(self._wait(frame, node, name, [] if input is None else [input], make))
        return prepared

    def _wait(
        self, frame: Frame, node: ast.AST, name: str, reads: Sequence[ast.AST], make: Callable[[Make], Any]
    ) -> Wait:
        usage = Usage(frame.variables, reads)
        return Wait(frame=frame, line=node, derived=frame.derived, name=name, reads=frozenset(usage.reads), make=make)

    # --- sections ----------------------------------------------------------------------------

    def _section(self, frame: Frame, node: ast.Call, method: Any, renamed_from: tuple[str, ...]) -> Prepared:
        function = plain_function(method)
        if function is None or function is not method:
            raise frame.source.mistake(
                node,
                f"{ast.unparse(node.func)} has a decorator, and its statements are read from its source",
                "Remove the decorator, or make the method a @step.",
            )
        if function in self.stack:
            raise frame.source.mistake(
                node, f"{function.__qualname__} calls itself", "Use a loop, or start a child workflow."
            )
        given, self.given_name = self.given_name, ""
        name = given or function.__name__
        self.name(frame, node, name)
        arguments = self._bound(frame, node, function, None)
        prepared = Prepared(name, gives=arguments.hints.get("return", UNKNOWN))
        inner = Frame(source_of(function), f"{frame.prefix}{name}/", frame)
        outer = (frame.prefix, *self.former.get(frame.prefix, ()))
        self.former[inner.prefix] = tuple(f"{part}{own}/" for part in outer for own in (name, *renamed_from))[1:]
        statements = []
        for parameter, value in arguments.given.items():
            statements.append((parameter, self.take_out(frame, value, prepared.before)))
        statements += [(parameter, at(self.constant(value), node)) for parameter, value in arguments.defaults.items()]
        assigned = []
        for parameter, value in statements:
            if parameter in arguments.hints:
                self.annotated[inner.key(parameter)] = arguments.hints[parameter]
            assigned.append(assign(f"/{inner.key(parameter)}", value, node))
        if assigned:
            self.add(prepared.before, Code(frame=frame, line=node, derived=frame.derived, statements=assigned))
        if "return" in arguments.hints:
            self.annotated[inner.key(RETURNED)] = optional(arguments.hints["return"])  # None until it returns
        first = [assign(RETURNED, ast.Constant(None), node)]
        if (check := _unreplaced(self.cls, method)) is not None:
            call = at(ast.Call(self.constant(check), [load(inner.source.self_name, node)], []), node)
            first.append(at(ast.Expr(call), node))
        body = [Code(frame=inner, line=node, statements=first), *self.body(inner)]
        prepared.parts.append(
            Called(
                frame=frame,
                line=node,
                derived=frame.derived,
                name=name,
                inner=inner,
                body=body,
                renamed_from=renamed_from,
            )
        )
        prepared.result = load(f"/{inner.key(RETURNED)}", node)
        return prepared

    def no_result(self, frame: Frame, node: ast.Return, result: ast.expr, gives: Any) -> ast.expr:
        """Returns an expression that refuses a value that ``run`` returns, because nothing would keep it.

        Args:
            gives: the type of the value; ``UNKNOWN`` if it is not known.

        Raises:
            DefinitionError: it is certain that there is a value.
        """
        is_none = isinstance(result, ast.Constant) and result.value is None
        if not may_be_none(gives) or (isinstance(result, _VALUES) and not is_none):
            what = f"run returns {ast.unparse(node.value or result)!r:.80}, which nothing keeps"
            raise frame.source.mistake(node, what, "Assign it to a field, such as self.result.")
        call: ast.expr = at(ast.Call(self.constant(_refuse_result), [result], []), node)
        return call

    def _word(self, frame: Frame, node: ast.Call, word: Any) -> Prepared:
        """See ``workflow_core.plain.words``."""
        raise NotImplementedError

    def body(self, frame: Frame) -> list[Part]:
        """See ``Scan``."""
        raise NotImplementedError


@record(frozen=True)
class _Arguments:
    given: dict[str, ast.expr]
    defaults: dict[str, Any]
    hints: dict[str, Any]
    context: str | None


def _action(
    method: vocabulary.StepMethod[Any, Any, Any], owner: type | None, arguments: OfFrame, context: str | None
) -> OfFrame:
    """Returns the action of a step: it calls the method that the class of the workflow, or ``owner``, has now."""
    name = method.name

    def action(workflow: Any, frame: Any) -> Any:
        found = inspect.getattr_static(owner or type(workflow), name)
        function = found.function if isinstance(found, vocabulary.Method) else found
        given = arguments.function(workflow, frame)
        if context is not None:
            given[context] = frame.context
        return function(workflow, **given)

    return OfFrame(action, is_async=is_async(method.function), place=arguments.place)


def _unreplaced(cls: type, method: Any) -> Callable[..., None] | None:
    """Returns a check that nothing has replaced the method of a section since it was compiled. Classes of workflows
    refuse that themselves; None for their methods."""
    own = ((base, name, value) for base in cls.__mro__ for name, value in vars(base).items())
    found = next((part for part in own if method in (part[2], getattr(part[2], "function", None))), None)
    if found is None or isinstance(found[0], type(cls)):
        return None
    base, name, compiled = found

    def check(workflow: Any) -> None:
        if vars(base).get(name) is not compiled:
            raise DefinitionError(
                f"{base.__name__}.{name}",
                f"it was replaced, but its source is compiled into run of {cls.__name__}",
                "Replace the steps, activities and events inside of it, or override it in a subclass.",
            )

    return check


def _refuse_result(result: Any) -> None:
    if result is not None:
        raise DefinitionError(
            "run", f"it returned {result!r:.60}, which nothing keeps", "Assign it to a field, such as self.result."
        )
