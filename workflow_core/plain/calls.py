"""Calls: what ``run`` awaits, as parts that become statements."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import ActivityContext, EventMark, Selected, StepContext, event_mark
from workflow_core.plain import activities, vocabulary
from workflow_core.plain.expressions import Expressions
from workflow_core.plain.parts import Called, Code, Frame, Part, Wait
from workflow_core.plain.source import UNKNOWN, plain_function, source_of
from workflow_core.plain.syntax import assign, at, load
from workflow_core.plain.usage import Usage
from workflow_core.signatures import OfFrame, is_async
from workflow_core.statements.calls import Activity, Child
from workflow_core.statements.control import Step, WaitFor
from workflow_core.statements.selects import On, Select, Sleep, Timeout

Make = Callable[[ast.expr], OfFrame]


@dataclass(slots=True)
class Prepared:
    """A call.

    Attributes:
        name: the name of its statement.
        before: what computes its arguments.
        parts: the call itself; it leaves its result in the variable ``RESULT``.
        type: the type of its result; ``UNKNOWN`` if it is not known.
        result: an expression of the result, if it is not in ``RESULT``.
    """

    name: str
    before: list[Part] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    type: Any = UNKNOWN
    result: ast.expr | None = None


class Calls(Expressions):
    """Reads the calls that are awaited."""

    def call(self, frame: Frame, node: ast.expr, prefix: str = "") -> Prepared:
        """Returns a call.

        Args:
            prefix: precedes its name in the table of the names that are taken.

        Raises:
            DefinitionError: it is not a call that can be awaited here.
        """
        node = self._without_name(frame, node)
        if isinstance(node, ast.Call):
            if (word := self.word(frame, node)) is not None:
                return self._word(frame, node, word)
            method = self._method(frame, node)
            if isinstance(method, vocabulary.StepMethod):
                return self._step(frame, node, method)
            if isinstance(method, vocabulary.ActivityMethod):
                return self._activity(frame, node, method)
            if isinstance(method, vocabulary.SectionMethod):
                return self._section(frame, node, method.function, method.renamed_from, prefix)
            if event_mark(method) is not None:
                name = ast.unparse(node.func)
                raise frame.source.mistake(node, f"{name} is an event", f"Write await select({name}).")
            if method is not None and is_async(method):
                return self._section(frame, node, method, (), prefix)
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

    def _method(self, frame: Frame, node: ast.Call) -> Any:
        """Returns the method of the workflow that is called: ``self.method()`` or ``super().method()``."""
        match node.func:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                found = inspect.getattr_static(self.cls, name, None)
                if found is None:
                    raise frame.source.mistake(node, f"{self.cls.__name__} has no method {name!r}", "Define it.")
                return found
            case ast.Attribute(ast.Call(ast.Name("super"), [], []), name):
                cell = frame.source.cells.get("__class__")
                mro = self.cls.__mro__
                start = next((i for i, base in enumerate(mro) if cell and base is cell.cell_contents), 0)
                return next((vars(base)[name] for base in mro[start + 1 :] if name in vars(base)), None)
        return None

    def _take_name(self, frame: Frame, node: ast.AST, default: str) -> str:
        given, self.given_name = self.given_name, ""
        return self.name(frame, node, given or default)

    def _bound(self, frame: Frame, node: ast.Call, function: Callable[..., Any], skipped: type | None) -> _Arguments:
        """Returns the arguments of a call by the names of the parameters."""
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            raise frame.source.mistake(node, "it has * or ** arguments", "Write each argument.")
        signature = inspect.signature(function)
        _, *parameters = signature.parameters.values()
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

    # --- steps and activities ----------------------------------------------------------------

    def _step(self, frame: Frame, node: ast.Call, method: vocabulary.StepMethod[Any, Any, Any]) -> Prepared:
        name = self._take_name(frame, node, method.name)
        arguments = self._bound(frame, node, method.function, StepContext)
        prepared = Prepared(name, type=arguments.hints.get("return", UNKNOWN))
        values: dict[str, ast.expr] = {}
        statements: list[ast.stmt] = []
        for parameter, value in arguments.given.items():
            inner = self.take_out(frame, value, prepared.before)
            if isinstance(inner, ast.Constant):
                values[parameter] = inner
                continue
            variable = f".{name}.{parameter}"
            self.types[frame.key(variable)] = [arguments.hints.get(parameter, UNKNOWN)]
            statements.append(assign(variable, inner, value))
            values[parameter] = load(variable, value)
        if statements:
            self.add(prepared.before, Code(frame=frame, line=node, derived=frame.derived, statements=statements))
        made = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)

        def make(expression: Make) -> Step:
            action = _action(method, expression(made), arguments.context)
            return Step(name, action, retry=method.retry, timeout=method.timeout, renamed_from=method.renamed_from)

        prepared.parts.append(self._wait(frame, node, name, [made], make))
        return prepared

    def _activity(self, frame: Frame, node: ast.Call, method: vocabulary.ActivityMethod[Any, Any, Any]) -> Prepared:
        name = self._take_name(frame, node, method.name)
        arguments = self._bound(frame, node, method.function, ActivityContext)
        prepared = Prepared(name, type=arguments.hints.get("return", UNKNOWN))
        values = {
            parameter: self.take_out(frame, value, prepared.before) for parameter, value in arguments.given.items()
        }
        function = activities.function_of(self.cls, method, arguments.hints, arguments.context)
        input: ast.expr | None = None
        if activities.takes_one(method, arguments.context):
            input = next(iter(values.values()), None)
        elif values:
            input = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)

        def make(expression: Make) -> Activity:
            return Activity(
                name,
                function,
                input=None if input is None else expression(input),
                then=activities.taking(prepared.type),
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

    def _section(
        self, frame: Frame, node: ast.Call, method: Any, renamed_from: tuple[str, ...], prefix: str
    ) -> Prepared:
        function = plain_function(method)
        if function is None:
            raise frame.source.mistake(
                node, f"the source of {ast.unparse(node.func)} is not known", "Remove its decorators."
            )
        if function in self.stack:
            raise frame.source.mistake(
                node, f"{function.__qualname__} calls itself", "Use a loop, or start a child workflow."
            )
        given, self.given_name = self.given_name, ""
        name = given or function.__name__
        self.name(frame, node, prefix + name)
        arguments = self._bound(frame, node, function, None)
        prepared = Prepared(name, type=arguments.hints.get("return", UNKNOWN))
        inner = Frame(source_of(function), f"{frame.prefix}{name}/", frame)
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
            self.annotated[inner.key(".return")] = arguments.hints["return"]
        body = [
            Code(frame=inner, line=node, statements=[assign(".return", ast.Constant(None), node)]),
            *self.body(inner),
        ]
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
        prepared.result = load(f"/{inner.key('.return')}", node)
        return prepared

    def no_result(self, frame: Frame, node: ast.Return, result: ast.expr) -> ast.expr:
        """Returns an expression that refuses a value that ``run`` returns: nothing would keep it."""
        call: ast.expr = at(ast.Call(self.constant(_refuse_result), [result], []), node)
        return call

    # --- words -------------------------------------------------------------------------------

    def _word(self, frame: Frame, node: ast.Call, word: Any) -> Prepared:
        readers: dict[Any, Callable[[Frame, ast.Call], Prepared]] = {
            vocabulary.select: self._select,
            vocabulary.until: self._until,
            vocabulary.sleep: self._sleep,
            vocabulary.child: self._child,
            vocabulary.gather: self._gather,
        }
        if word not in readers:
            raise frame.source.mistake(node, f"{ast.unparse(node.func)} cannot be awaited", "Remove the await.")
        return readers[word](frame, node)

    def _select(self, frame: Frame, node: ast.Call) -> Prepared:
        handlers = []
        for argument in node.args:
            handler = self._handler_of(frame, argument)
            handlers.append((handler, _mark_of(handler)))
        keywords = {str(keyword.arg): keyword.value for keyword in node.keywords}
        timeout = keywords.pop("timeout", None)
        if keywords or not (handlers or timeout):
            raise frame.source.mistake(node, "select takes events and a timeout", "Write await select(self.event).")
        name = self._take_name(frame, node, " or ".join(handler.__name__ for handler, _ in handlers) or "select")
        prepared = Prepared(name, type=Selected)
        if timeout is not None:
            timeout = self.take_out(frame, timeout, prepared.before)
            if isinstance(timeout, ast.Constant) and timeout.value is None:
                timeout = None

        def make(expression: Make) -> Select:
            cases: list[Any] = [On(mark.name, handler, **mark.options) for handler, mark in handlers]
            if timeout is not None:
                cases.append(Timeout(f"{name} timed out", expression(timeout)))
            return Select(name, *cases)

        prepared.parts.append(self._wait(frame, node, name, [] if timeout is None else [timeout], make))
        return prepared

    def _handler_of(self, frame: Frame, node: ast.expr) -> Any:
        match node:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                handler = inspect.getattr_static(self.cls, name, None)
                if event_mark(handler) is not None:
                    return handler
        raise frame.source.mistake(
            node, f"{ast.unparse(node)} is not an event", "Pass methods that are decorated with @event: self.method."
        )

    def _until(self, frame: Frame, node: ast.Call) -> Prepared:
        if len(node.args) != 1 or node.keywords:
            raise frame.source.mistake(node, "until takes one condition", "Write await until(lambda: self.paid).")
        condition = node.args[0]
        if isinstance(condition, ast.Lambda):
            if condition.args.args or condition.args.kwonlyargs:
                raise frame.source.mistake(
                    condition, "its lambda has parameters", "Write lambda: ..., with self and locals."
                )
            test, default = condition.body, ast.unparse(condition.body)
        else:
            test, default = at(ast.Call(condition, [], []), condition), ast.unparse(condition).rpartition(".")[2]
        if self.waits(frame, test):
            raise frame.source.mistake(condition, "its condition awaits", "Compute the value before, in a step.")
        name = self._take_name(frame, node, " ".join(default.split())[:200])
        make = lambda expression: WaitFor(name, expression(test))  # noqa: E731
        return Prepared(name, parts=[self._wait(frame, node, name, [test], make)], type=type(None))

    def _sleep(self, frame: Frame, node: ast.Call) -> Prepared:
        if len(node.args) != 1 or node.keywords:
            raise frame.source.mistake(
                node, "sleep takes a duration or a time", "Write await sleep(timedelta(days=1))."
            )
        name = self._take_name(frame, node, " ".join(ast.unparse(node).split())[:200])
        prepared = Prepared(name, type=type(None))
        delay = self.take_out(frame, node.args[0], prepared.before)
        make = lambda expression: Sleep(name, expression(delay))  # noqa: E731
        prepared.parts.append(self._wait(frame, node, name, [delay], make))
        return prepared

    def _child(self, frame: Frame, node: ast.Call) -> Prepared:
        workflow = self.static(frame, node.args[0]) if len(node.args) == 1 else UNKNOWN
        if not hasattr(workflow, "__workflow_name__"):
            raise frame.source.mistake(
                node, "child takes a workflow class", "Write await child(Parcel, id=..., field=...)."
            )
        prepared = Prepared(self._take_name(frame, node, f"child {workflow.__workflow_name__}"))
        values = {str(k.arg): self.take_out(frame, k.value, prepared.before) for k in node.keywords}
        id, detached = values.pop("id", None), values.pop("detached", None)
        is_detached = detached is not None and bool(self.static(frame, detached))
        given = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)
        prepared.type = type(None) if is_detached else self._child_type(workflow)
        name = prepared.name

        def make(expression: Make) -> Child:
            return Child(
                name,
                workflow,
                id=None if id is None else expression(id),
                input=expression(given) if values else None,
                then=None if is_detached else activities.taking(prepared.type),
                detached=is_detached,
            )

        reads = [given] if id is None else [given, id]
        prepared.parts.append(self._wait(frame, node, name, reads, make))
        return prepared

    def _child_type(self, workflow: Any) -> Any:
        result = inspect.getattr_static(workflow, "result", None)
        if result is None or "result" in workflow.model_fields:
            return workflow.model_fields["result"].annotation if "result" in workflow.model_fields else workflow
        try:
            return workflow.__program__.scope_hints(result).get("return", UNKNOWN)
        except (AttributeError, DefinitionError):
            return inspect.get_annotations(result, eval_str=True).get("return", UNKNOWN)

    # --- gather ------------------------------------------------------------------------------

    def limit(self, frame: Frame, node: ast.Call) -> int | None:
        """Returns the constant ``limit`` of a call."""
        for keyword in node.keywords:
            value = self.static(frame, keyword.value)
            if keyword.arg != "limit" or not (value is None or isinstance(value, int)):
                raise frame.source.mistake(node, f"its argument {keyword.arg!r} is not known", "Write limit=10.")
            return value
        return None

    def _gather(self, frame: Frame, node: ast.Call) -> Prepared:
        match node.args:
            case [ast.Starred(ast.GeneratorExp(call, [each]) | ast.ListComp(call, [each]))] if not each.ifs:
                parts, variable = self.fork_each(
                    frame, node, each.target, each.iter, call, self.limit(frame, node), keeps=True
                )
                inner = self.passed_types.get(variable, UNKNOWN)
                many: Any = list
                self.annotated[frame.key(variable)] = dict[str, Any] if inner is UNKNOWN else _dict_of(inner)
                result = at(ast.Call(self.constant(_in_order), [load(variable, node)], []), node)
                return Prepared("gather", [], parts, UNKNOWN if inner is UNKNOWN else many[inner], result)
            case []:
                raise frame.source.mistake(node, "it gathers nothing", "Write await gather(self.a(), self.b()).")
        if any(isinstance(argument, ast.Starred) for argument in node.args) or node.keywords:
            raise frame.source.mistake(
                node,
                "gather takes calls, or * with one generator without 'if'",
                "Write gather(self.a(), self.b()) or gather(*(self.check(row) for row in self.rows), limit=10).",
            )
        parts, results = self.fork(frame, node, node.args, "gather")
        kinds = [self.passed_types.get(variable, UNKNOWN) for variable in results]
        for variable, kind in zip(results, kinds, strict=True):
            self.types[frame.key(variable)] = [kind]
        result = at(ast.Tuple([load(variable, node) for variable in results], ast.Load()), node)
        return Prepared("gather", [], parts, UNKNOWN, result)

    def fork(self, frame: Frame, node: ast.AST, calls: Sequence[ast.expr], word: str) -> tuple[list[Part], list[str]]:
        """See ``Scan``."""
        raise NotImplementedError

    def fork_each(
        self,
        frame: Frame,
        line: ast.AST,
        target: ast.expr,
        iterable: ast.expr,
        call: ast.expr,
        limit: int | None,
        *,
        keeps: bool,
    ) -> tuple[list[Part], str]:
        """See ``Scan``."""
        raise NotImplementedError

    def body(self, frame: Frame) -> list[Part]:
        """See ``Scan``."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Arguments:
    given: dict[str, ast.expr]
    defaults: dict[str, Any]
    hints: dict[str, Any]
    context: str | None


def _action(method: vocabulary.StepMethod[Any, Any, Any], arguments: OfFrame, context: str | None) -> OfFrame:
    """Returns the action of a step: it calls the method that the class of the workflow has now."""
    name = method.name

    def action(workflow: Any, frame: Any) -> Any:
        found = inspect.getattr_static(type(workflow), name)
        function = found.function if isinstance(found, vocabulary.Method) else found
        given = arguments.function(workflow, frame)
        if context is not None:
            given[context] = frame.context
        return function(workflow, **given)

    return OfFrame(action, is_async=is_async(method.function))


def _mark_of(handler: Any) -> EventMark:
    mark = event_mark(handler)
    assert mark is not None
    return mark


def _dict_of(kind: Any) -> Any:
    generic: Any = dict
    return generic[str, kind]


def _in_order(results: dict[str, Any]) -> list[Any]:
    return [results[position] for position in sorted(results, key=int)]


def _refuse_result(result: Any) -> None:
    if result is not None:
        raise DefinitionError(
            "run", f"it returned {result!r:.60}, which nothing keeps", "Assign it to a field, such as self.result."
        )
