"""Words: what ``run`` awaits besides methods: events, conditions, timers, children and gathered calls."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Union, cast

from workflow_core.events import OPERATIONS, EventMark, Selected, event_mark
from workflow_core.plain import vocabulary
from workflow_core.plain.calls import Calls, Make, Prepared
from workflow_core.plain.methods import own_parameters
from workflow_core.plain.parts import Code, Frame, Limited, Part
from workflow_core.plain.source import UNKNOWN, constant_delay
from workflow_core.plain.syntax import assign, at, load
from workflow_core.statements.basic import Delay
from workflow_core.statements.control import WaitFor
from workflow_core.statements.selects import On, Select, Sleep, Timeout


class Words(Calls):
    """Reads the words of the vocabulary."""

    def _word(self, frame: Frame, node: ast.Call, word: Any) -> Prepared:
        readers: dict[Any, Callable[[Frame, ast.Call], Prepared]] = {
            vocabulary.select: self._select,
            vocabulary.until: self._until,
            vocabulary.sleep: self._sleep,
            vocabulary.child: self._child,
            vocabulary.gather: self._gather,
            vocabulary.race: self._race,
        }
        if word not in readers:
            raise frame.source.mistake(node, f"{ast.unparse(node.func)} cannot be awaited", "Remove the await.")
        if word is not vocabulary.child:  # whose keywords are fields
            self._check_renamed(frame, node)
        return readers[word](frame, node)

    def _check_renamed(self, frame: Frame, node: ast.Call) -> None:
        """Refuses ``renamed_from``, because a call can have any name."""
        if any(keyword.arg == "renamed_from" for keyword in node.keywords):
            raise frame.source.mistake(
                node,
                f"{ast.unparse(node.func)} takes no renamed_from",
                f'Give the call its former name: {ast.unparse(node.func)}(...).named("former name").',
            )

    def _select(self, frame: Frame, node: ast.Call) -> Prepared:
        handlers = []
        for argument in node.args:
            handler = self._handler_of(frame, argument)
            mark = _mark_of(handler)
            if mark.name in OPERATIONS:
                raise frame.source.mistake(
                    argument,
                    f"the event {mark.name!r} has the name of an operation on instances",
                    f'Give the event another name: @event("{mark.name.title()}").',
                )
            handlers.append((handler, mark))
        keywords = {str(keyword.arg): keyword.value for keyword in node.keywords}
        timeout = keywords.pop("timeout", None)
        if keywords or not (handlers or timeout):
            raise frame.source.mistake(node, "select takes events and a timeout", "Write await select(self.event).")
        name = self._take_name(frame, node, " or ".join(handler.__name__ for handler, _ in handlers) or "select")
        prepared = Prepared(name)
        timeout = self._timeout(frame, timeout, prepared)
        if node not in self.unused:
            prepared.gives = self._selected_type([handler for handler, _ in handlers], can_time_out=timeout is not None)

        def make(expression: Make) -> Select:
            cases: list[Any] = [On(mark.name, handler, **mark.options) for handler, mark in handlers]
            if timeout is not None:
                cases.append(Timeout(f"{name} timed out", self._delay(frame, timeout, expression)))
            return Select(name, *cases)

        prepared.parts.append(self._wait(frame, node, name, [] if timeout is None else [timeout], make))
        return prepared

    def _selected_type(self, handlers: Sequence[Callable[..., Any]], *, can_time_out: bool) -> Any:
        """Returns the type of what a select gives: with the inputs and outputs of its events."""
        kinds: list[list[Any]] = [[None] if can_time_out else [], [None] if can_time_out else []]
        for handler in handlers:
            inputs = [
                parameter for parameter in own_parameters(handler) if parameter.kind is not parameter.KEYWORD_ONLY
            ]
            hints = self.hints(handler)
            kinds[0].append(hints.get(inputs[0].name, Any) if inputs else None)
            kinds[1].append(hints.get("return", Any))
        generic, union = cast(Any, Selected), cast(Any, Union)
        return generic[tuple(Any if Any in kind else union[tuple(kind)] for kind in kinds)]

    def _handler_of(self, frame: Frame, node: ast.expr) -> Any:
        match node:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                handler = self.own_method(frame, node, name)
                if event_mark(handler) is not None:
                    return handler
        raise frame.source.mistake(
            node, f"{ast.unparse(node)} is not an event", "Pass methods that are decorated with @event: self.method."
        )

    def _until(self, frame: Frame, node: ast.Call) -> Prepared:
        keywords = {str(keyword.arg): keyword.value for keyword in node.keywords}
        timeout = keywords.pop("timeout", None)
        if len(node.args) != 1 or keywords:
            raise frame.source.mistake(
                node, "until takes one condition and a timeout", "Write await until(lambda: self.paid)."
            )
        condition = node.args[0]
        if isinstance(condition, ast.Lambda):
            if condition.args.args or condition.args.kwonlyargs:
                raise frame.source.mistake(
                    condition, "its lambda has parameters", "Write lambda: ..., with self and locals."
                )
            test, shown = condition.body, condition.body
        elif self._is_value(frame, condition):
            value = ast.unparse(condition)
            raise frame.source.mistake(
                condition, f"{value} would be computed once, before the wait", f"Write until(lambda: {value})."
            )
        else:
            test, shown = at(ast.Call(self.constant(_holds), [condition], []), condition), condition
        if self.waits(frame, test):
            raise frame.source.mistake(condition, "its condition awaits", "Compute the value before, in a step.")
        default = "" if self.given_name else ast.unparse(shown)
        if shown is condition:
            default = default.rpartition(".")[2]
        name = self._take_name(frame, node, " ".join(default.split())[:200])
        prepared = Prepared(name, gives=type(None), result=ast.Constant(None))
        delay = self._timeout(frame, timeout, prepared)

        def make(expression: Make) -> WaitFor:
            limit = None if delay is None else self._delay(frame, delay, expression)
            return WaitFor(name, expression(test), timeout=limit)

        prepared.parts.append(self._wait(frame, node, name, [test] if delay is None else [test, delay], make))
        return prepared

    def _is_value(self, frame: Frame, condition: ast.expr) -> bool:
        """Whether the condition of an ``until`` certainly is a value instead of a function."""
        fields: dict[str, Any] = getattr(self.cls, "model_fields", {})
        match condition:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name and name in fields:
                kind = fields[name].annotation
                return isinstance(kind, type) and not issubclass(kind, cast(Any, Callable))
            case ast.BoolOp(values=operands):
                return all(self._is_value(frame, operand) for operand in operands)
        return isinstance(condition, (ast.Compare, ast.Constant))

    def _timeout(self, frame: Frame, node: ast.expr | None, prepared: Prepared) -> ast.expr | None:
        """Takes out the awaits of the argument ``timeout`` of a call; None if it is not given, or None."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return None
        return self.take_out(frame, node, prepared.before)

    def _sleep(self, frame: Frame, node: ast.Call) -> Prepared:
        if len(node.args) != 1 or node.keywords:
            raise frame.source.mistake(
                node, "sleep takes a duration or a time", "Write await sleep(timedelta(days=1))."
            )
        name = self._take_name(frame, node, " ".join(ast.unparse(node).split())[:200])
        prepared = Prepared(name, gives=type(None), result=ast.Constant(None))
        delay = self.take_out(frame, node.args[0], prepared.before)
        make = lambda expression: Sleep(name, self._delay(frame, delay, expression))  # noqa: E731
        prepared.parts.append(self._wait(frame, node, name, [delay], make))
        return prepared

    def _delay(self, frame: Frame, node: ast.expr, expression: Make) -> Delay:
        """Returns a delay: a value if it is a ``timedelta`` of constants."""
        constant = constant_delay(frame.source, node)
        return expression(node) if constant is None else constant

    def _limited(self, frame: Frame, node: ast.AsyncWith) -> list[Part]:
        """Returns the parts of ``async with timeout(...)``."""
        call = self._without_name(frame, node.items[0].context_expr)
        if isinstance(call, ast.Call):
            self._check_renamed(frame, call)
        is_one = isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords
        if len(node.items) != 1 or node.items[0].optional_vars is not None or not is_one:
            raise frame.source.mistake(
                node, "timeout takes a duration or a time", "Write async with timeout(timedelta(days=1)):"
            )
        assert isinstance(call, ast.Call)
        name = self._take_name(frame, node, " ".join(ast.unparse(call).split())[:200])
        parts: list[Part] = []
        delay = self.take_out(frame, call.args[0], parts)
        if constant_delay(frame.source, delay) is None:
            variable = f".{name}"
            self.types[frame.key(variable)] = [timedelta | datetime]
            statements = [assign(variable, delay, node)]
            delay = load(variable, node)
        else:
            statements = [at(ast.Pass(), node)]  # for debuggers: the line of the ``async with``
        self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=statements))
        body = self.statements(frame, node.body)
        parts.append(Limited(frame=frame, line=node, derived=frame.derived, name=name, delay=delay, body=body))
        return parts

    def _child(self, frame: Frame, node: ast.Call) -> Prepared:
        # Imported here, because many definitions have no child.
        from workflow_core.plain.activities import taking
        from workflow_core.statements.calls import Child

        workflow: Any = self.static(frame, node.args[0]) if len(node.args) == 1 else UNKNOWN
        if not hasattr(workflow, "__workflow_name__"):
            raise frame.source.mistake(
                node, "child takes a workflow class", "Write await child(Parcel, id=..., field=...)."
            )
        prepared = Prepared(self._take_name(frame, node, f"child {workflow.__workflow_name__}"))
        fields: dict[str, Any] = getattr(workflow, "model_fields", {})
        hints = {name: field.annotation for name, field in fields.items()} | {"id": str}
        values = self.arguments(frame, prepared, {str(k.arg): k.value for k in node.keywords}, hints)
        id, detached = values.pop("id", None), values.pop("detached", None)
        is_detached = detached is not None and bool(self.static(frame, detached))
        known = {known for name, field in fields.items() for known in (name, field.alias, field.validation_alias)}
        if fields and (unknown := next((name for name in values if name not in known), None)) is not None:
            available = ", ".join(map(repr, fields))
            raise frame.source.mistake(
                node,
                f"{workflow.__workflow_name__!r} has no field {unknown!r}. Available: {available}",
                "Pass fields of the child.",
            )
        given = at(ast.Dict([ast.Constant(name) for name in values], list(values.values())), node)
        prepared.gives = type(None) if is_detached else self._child_type(workflow)
        name = prepared.name

        def make(expression: Make) -> Child:
            return Child(
                name,
                workflow,
                id=None if id is None else expression(id),
                input=expression(given) if values else None,
                then=None if is_detached else taking(prepared.gives),
                detached=is_detached,
            )

        reads = [given] if id is None else [given, id]
        prepared.parts.append(self._wait(frame, node, name, reads, make))
        return prepared

    def _child_type(self, workflow: Any) -> Any:
        result = inspect.getattr_static(workflow, "result", None)
        if result is None or "result" in workflow.model_fields:
            return workflow.model_fields["result"].annotation if "result" in workflow.model_fields else workflow
        return self.hints_in(workflow, result).get("return", UNKNOWN)

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
                keeps = node not in self.unused
                parts, variable = self.fork_each(
                    frame, node, each.target, each.iter, call, self.limit(frame, node), keeps=keeps
                )
                if not keeps:
                    return Prepared("gather", [], parts, type(None), ast.Constant(None))
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
        keeps = node not in self.unused
        parts, results = self.fork(frame, node, node.args, "gather", keeps=keeps)
        if not keeps:
            return Prepared("gather", [], parts, type(None), ast.Constant(None))
        kinds = [self.passed_types.get(variable, UNKNOWN) for variable in results]
        return Prepared("gather", [], parts, *self._tuple_of(frame, node, results, kinds))

    def _race(self, frame: Frame, node: ast.Call) -> Prepared:
        if len(node.args) < 2 or any(isinstance(argument, ast.Starred) for argument in node.args) or node.keywords:
            raise frame.source.mistake(node, "race takes two calls or more", "Write await race(self.a(), self.b()).")
        keeps = node not in self.unused
        parts, results = self.fork(frame, node, node.args, "race", keeps=keeps)
        if not keeps:
            return Prepared("race", [], parts, type(None), ast.Constant(None))
        kinds = [_or_none(self.passed_types.get(variable, UNKNOWN)) for variable in results]
        nothing = [assign(variable, ast.Constant(None), node) for variable in results]
        before: list[Part] = [Code(frame=frame, line=node, derived=frame.derived, statements=nothing)]
        return Prepared("race", before, parts, *self._tuple_of(frame, node, results, kinds))

    def _tuple_of(
        self, frame: Frame, node: ast.AST, variables: Sequence[str], kinds: Sequence[Any]
    ) -> tuple[Any, ast.expr]:
        """Returns the type of the results of branches, and an expression of them."""
        for variable, kind in zip(variables, kinds, strict=True):
            self.types[frame.key(variable)] = [kind]
        generic: Any = tuple
        made: ast.expr = at(ast.Tuple([load(variable, node) for variable in variables], ast.Load()), node)
        return generic[tuple(Any if kind is UNKNOWN else kind for kind in kinds)], made

    def statements(self, frame: Frame, body: Iterable[ast.stmt]) -> list[Part]:
        """See ``Scan``."""
        raise NotImplementedError

    def fork(
        self, frame: Frame, node: ast.AST, calls: Sequence[ast.expr], word: str, *, keeps: bool
    ) -> tuple[list[Part], list[str]]:
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


def _mark_of(handler: Any) -> EventMark:
    mark = event_mark(handler)
    assert mark is not None
    return mark


def _dict_of(kind: Any) -> Any:
    generic: Any = dict
    return generic[str, kind]


def _or_none(kind: Any) -> Any:
    return kind if kind is UNKNOWN or kind is Any else cast(Any, Union)[kind, None]


def _holds(condition: Any) -> Any:
    if not callable(condition):
        raise TypeError(f"until takes a function, such as lambda: self.paid, and not {condition!r:.100}")
    return condition()


def _in_order(results: dict[str, Any]) -> list[Any]:
    return [results[position] for position in sorted(results, key=int)]
