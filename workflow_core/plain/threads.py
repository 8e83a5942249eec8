"""Threads: branches that run in parallel, threads of their own, and the items of loops."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence

from workflow_core.plain import vocabulary
from workflow_core.plain.calls import Prepared
from workflow_core.plain.flow import keys_of
from workflow_core.plain.parts import RESULT, Code, Derived, Each, Fork, Frame, Part, Spawn
from workflow_core.plain.syntax import assign, at, copied, load
from workflow_core.plain.usage import Usage
from workflow_core.plain.words import Words

_LIVE_CALLS = (enumerate, zip)
_LIVE_METHODS = ("items", "keys", "values")


class Threads(Words):
    """Reads what starts threads, and loops."""

    def async_with(self, frame: Frame, node: ast.AsyncWith) -> list[Part]:
        item = node.items[0]
        entered = self._without_name(frame, item.context_expr)
        word = self.word(frame, entered) if isinstance(entered, ast.Call) else None
        if word is vocabulary.timeout:
            return self._limited(frame, node)
        is_parallel = entered is item.context_expr and word is vocabulary.parallel
        if len(node.items) != 1 or not is_parallel or not isinstance(item.optional_vars, ast.Name):
            raise frame.source.mistake(
                node,
                "'async with' is only supported for branches and deadlines",
                "Write: async with parallel() as branch: branch.start(self.method()), or async with timeout(...). Use "
                "other resources in a step.",
            )
        name = item.optional_vars.id
        assert isinstance(item.context_expr, ast.Call)
        limit = self.limit(frame, item.context_expr)
        only = node.body[0]
        if len(node.body) == 1 and isinstance(only, ast.For) and not only.orelse:
            call = self._started(only.body[0], name) if len(only.body) == 1 else None
            if call is None:
                raise frame.source.mistake(
                    only, "this loop does more than to start a branch", "Leave only branch.start(...)."
                )
            return self.fork_each(frame, only, only.target, only.iter, call, limit, keeps=False)[0]
        if limit is not None:
            raise frame.source.mistake(
                node, "it has a limit, but no loop", "Write the start in a for, or omit the limit."
            )
        parts: list[Part] = []
        calls: list[Prepared] = []
        for statement in node.body:
            if (call := self._started(statement, name)) is not None:
                calls.append(self._branch_call(frame, call, parts))
            elif self.waits(frame, statement) or any(
                isinstance(part, ast.Name) and part.id == name for part in ast.walk(statement)
            ):
                raise frame.source.mistake(
                    statement,
                    f"only {name}.start(...) can stand in this 'async with', or one for with one start",
                    "Move the rest out of it.",
                )
            else:
                self.add(parts, self.inline(frame, statement))
        if not calls:
            raise frame.source.mistake(node, "it starts no branch", f"Write {name}.start(self.method()).")
        self._fork(frame, node, calls, "parallel", parts, keeps=False)
        return parts

    def _branch_call(self, frame: Frame, call: ast.expr, parts: list[Part]) -> Prepared:
        """Returns the call of a branch. What computes its arguments is added to ``parts``."""
        outer, self.is_branch = self.is_branch, True
        prepared = self.call(frame, call)
        self.is_branch = outer
        for part in prepared.before:
            self.add(parts, part)
        return prepared

    @staticmethod
    def _started(statement: ast.stmt, name: str) -> ast.expr | None:
        match statement:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(owner), "start"), [call], [])) if owner == name:
                return call
        return None

    def _go(self, frame: Frame, node: ast.Call) -> list[Part]:
        ids = [keyword.value for keyword in node.keywords if keyword.arg == "id"]
        if len(node.args) != 1 or len(ids) != len(node.keywords):
            raise frame.source.mistake(node, "go takes a call and an id", "Write go(self.method(), id=...).")
        prepared = self.call(frame, node.args[0])
        parts = list(prepared.before)
        parts.append(
            Spawn(
                frame=frame,
                line=node,
                derived=frame.derived,
                name=f"go {prepared.name}",
                id=ids[0] if ids else None,
                body=prepared.parts,
            )
        )
        return parts

    def fork(
        self, frame: Frame, node: ast.AST, calls: Sequence[ast.expr], word: str, *, keeps: bool
    ) -> tuple[list[Part], list[str]]:
        """Returns the parts of branches that run in parallel, and the variables of their results, if it keeps them."""
        given, self.given_name = self.given_name, ""
        parts: list[Part] = []
        prepared = [self._branch_call(frame, call, parts) for call in calls]
        self.given_name = given
        return parts, self._fork(frame, node, prepared, word, parts, keeps=keeps)

    def _fork(
        self,
        frame: Frame,
        node: ast.AST,
        calls: Sequence[Prepared],
        word: str,
        parts: list[Part],
        *,
        keeps: bool,
    ) -> list[str]:
        name = self.name(frame, node, self.given_name or f"{word} {', '.join(call.name for call in calls)}")
        self.given_name = ""
        branches: list[list[Part]] = []
        results: list[str] = []
        for number, call in enumerate(calls):
            branches.append(list(call.parts))
            if keeps:
                results.append(f".{name}[{number}]")
                self.add(branches[-1], self._passing_up(frame, call, results[-1], None, node))
        if not keeps:  # for debuggers and coverage: the line of the ``async with``
            here = at(ast.Pass(), node)
            self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=[here]))
        is_race = word == "race"
        parts.append(Fork(frame=frame, line=node, derived=frame.derived, name=name, branches=branches, is_race=is_race))
        return results

    def _passing_up(self, frame: Frame, call: Prepared, variable: str, each: str | None, line: ast.AST) -> Code:
        """Code of a branch that passes its result to the thread that waits for it."""
        self.passed[frame.key(f".up {variable}")] = (frame.key(variable), each)
        self.passed_types[variable] = call.gives
        result = load(RESULT, line) if call.result is None else call.result
        statement = assign(f".up {variable}", result, line)
        return Code(frame=frame, line=line, derived=frame.derived, statements=[statement])

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
        """Returns the parts of one branch for each item, and the variable with the list of the results."""
        parts: list[Part] = []
        given, self.given_name = self.given_name, ""
        collection = self.take_out(frame, iterable, parts)
        outer = frame.derived
        place = self.call_name(frame, call)
        name = self.name(frame, line, given or f"each {place}")
        items = self.items(frame, line, name, collection, parts)
        inner = self.item(frame, target, name, line, items)
        frame.derived = (*outer, inner)
        frame.others |= inner.names
        prepared = self.call(frame, call)
        frame.derived = outer
        variable = f".{name}[]"
        body = [*prepared.before, *prepared.parts]
        if keeps:
            outer_derived, frame.derived = frame.derived, (*outer, inner)
            self.add(body, self._passing_up(frame, prepared, variable, frame.key(name), line))
            frame.derived = outer_derived
            first = assign(variable, ast.Dict([], []), line)
            self.add(parts, Code(frame=frame, line=line, derived=outer, statements=[first]))
        parts.append(
            Each(
                frame=frame,
                line=line,
                derived=outer,
                name=name,
                items=items,
                body=body,
                parallel=True,
                limit=limit,
                inner=(inner,),
            )
        )
        return parts, variable

    # --- items -------------------------------------------------------------------------------

    def item(self, frame: Frame, target: ast.expr, name: str, line: ast.AST, items: ast.expr) -> Derived:
        """Returns how the variables of a loop get the current item."""
        for part in ast.walk(target):
            if not isinstance(part, (ast.Name, ast.Tuple, ast.List, ast.Starred, ast.expr_context)):
                raise frame.source.mistake(line, f"its loop assigns {ast.unparse(part)}", "Use local variables.")
        reads = keys_of(frame, frame.derived, Usage(frame.variables, [items]).reads)
        source = f".item of {name}"
        names = frozenset(part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        statement = ast.copy_location(ast.Assign([copied(target)], load(source, line)), line)
        return Derived(names, statement, source, frame.key(name), True, reads=reads, items=items)

    def items(self, frame: Frame, line: ast.AST, name: str, items: ast.expr, parts: list[Part]) -> ast.expr:
        """Returns an expression that can be computed for each item. A collection that a field or a local holds is read
        where it is, so that the body can change its items; any other one is stored."""
        inside = line.body if isinstance(line, ast.For) else [line]
        if self._is_live(frame, items, self.assigned(inside)):
            return items
        variable = f".{name}"
        if isinstance(items, ast.Call) and frame.source.resolve(items.func) is builtins.range and not items.keywords:
            stored: ast.expr = ast.List(items.args, ast.Load())
            again: ast.expr = ast.Call(items.func, [ast.Starred(load(variable, line), ast.Load())], [])
        else:
            stored = ast.Call(self.constant(list), [items], [])
            again = load(variable, line)
        statement = assign(variable, ast.copy_location(stored, line), line)
        self.add(parts, Code(frame=frame, line=line, derived=frame.derived, statements=[statement]))
        return ast.fix_missing_locations(ast.copy_location(again, line))

    def _is_live(self, frame: Frame, node: ast.expr, assigned: set[str]) -> bool:
        match node:
            case ast.Constant():
                return True
            case ast.Name(name):
                return name not in assigned
            case ast.Attribute(value):
                return self._is_live(frame, value, assigned)
            case ast.Subscript(value, index):
                return self._is_live(frame, value, assigned) and self._is_live(frame, index, assigned)
            case ast.Tuple(parts) | ast.List(parts):
                return all(isinstance(part, ast.Constant) for part in parts)
            case ast.Call(ast.Attribute(value, method), [], []) if method in _LIVE_METHODS:
                return self._is_live(frame, value, assigned)
            case ast.Call(function, arguments, []):
                called = frame.source.resolve(function)
                if called is builtins.range:
                    return all(isinstance(argument, ast.Constant) for argument in arguments)
                return called in _LIVE_CALLS and all(self._is_live(frame, part, assigned) for part in arguments)
        return False

    @staticmethod
    def assigned(body: Iterable[ast.AST]) -> set[str]:
        """Returns the names that some statements assign, or a pattern inside."""
        found: set[str] = set()
        for node in (inner for part in body for inner in ast.walk(part)):
            match node:
                case ast.Name(name, ast.Store()) | ast.MatchAs(_, str(name)) | ast.MatchStar(str(name)):
                    found.add(name)
                case ast.MatchMapping(rest=str(name)):
                    found.add(name)
        return found

    def inline(self, frame: Frame, statement: ast.stmt) -> Code:
        """See ``Scan``."""
        raise NotImplementedError
