"""Scan: reads the source of ``run`` and of the sections that it calls, and makes the tree of parts.

What contains no ``await`` stays Python code and runs at once. Everything else becomes parts: an ``if`` with an
``await`` inside becomes a ``Branch``, and so on. An ``await`` inside of an expression is taken out of it: what stands
before it is computed first, as Python does, and kept in a variable of the compiler.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from workflow_core.plain import vocabulary
from workflow_core.plain.field_types import UNCHANGING, field_type
from workflow_core.plain.parts import (
    NOW,
    RETURNED,
    Branch,
    Code,
    Derived,
    Each,
    Exit,
    Frame,
    Guarded,
    Handler,
    Loop,
    Part,
)
from workflow_core.plain.source import UNKNOWN, source_of
from workflow_core.plain.syntax import (
    assign,
    at,
    copied,
    escapes_of,
    load,
    noting_breaks,
    replace_bare_raise,
    with_escapes,
)
from workflow_core.plain.threads import Threads
from workflow_core.plain.usage import Usage, every_node, is_read_outside, own_nodes
from workflow_core.retry import check_error_types
from workflow_core.stored_parts import LeaveKind


def _span(node: ast.Call) -> tuple[Any, ...]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


class _WithTime(ast.NodeTransformer):
    """Replaces the calls of ``now``, which stand at these places."""

    def __init__(self, calls: set[tuple[Any, ...]]) -> None:
        self._calls = calls

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _span(node) in self._calls and not node.args:
            return load(NOW, node)
        return self.generic_visit(node)


class Scan(Threads):
    """Reads the functions of one workflow class. For the arguments, see ``Reading``."""

    def run(self, function: types.FunctionType) -> tuple[Frame, list[Part]]:
        """Returns the frame and the parts of the method ``run``."""
        frame = Frame(source_of(function), "")
        arguments = frame.source.node.args
        if len(arguments.args) != 1 or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
            raise frame.source.mistake(frame.source.node, "run has parameters", "Declare fields in the class instead.")
        if frame.source.node.decorator_list:
            raise frame.source.mistake(frame.source.node, "run is decorated", "Remove the decorator.")
        return frame, self.body(frame)

    def body(self, frame: Frame) -> list[Part]:
        """Returns the parts of a whole function."""
        self.stack.append(frame.source.function)
        self.sections.add(frame.source.function.__name__)
        self.check_refused(frame)
        node = frame.source.node
        is_branch, self.is_branch = self.is_branch, False
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        parts = self.statements(frame, self._with_time(frame, body))
        self.is_branch = is_branch
        self.stack.pop()
        return parts

    def _with_time(self, frame: Frame, body: list[ast.stmt]) -> list[ast.stmt]:
        """Returns statements that read the time from a variable."""
        calls = {
            _span(node)
            for statement in body
            for node in every_node(statement)
            if isinstance(node, ast.Call) and self.word(frame, node) is vocabulary.now
        }
        self.types[frame.key(NOW)] = [datetime]
        return [_WithTime(calls).visit(copied(statement)) for statement in body] if calls else body

    # --- statements --------------------------------------------------------------------------

    def statements(self, frame: Frame, body: Iterable[ast.stmt]) -> list[Part]:
        """Returns the parts of some statements."""
        parts: list[Part] = []
        for statement in body:
            if self._runs_at_once(frame, statement):
                self.add(parts, self.inline(frame, statement))
                continue
            outer, frame.place = frame.place, self._place(frame, statement)
            for part in self._statement(frame, statement):
                self.add(parts, part)
            frame.place = outer
        return parts

    def _place(self, frame: Frame, statement: ast.stmt) -> str:
        """Returns the name of the first call that a statement awaits."""
        calls = (node.value for node in own_nodes(statement) if isinstance(node, ast.Await))
        return next((name for call in calls if (name := self.call_name(frame, call))), "")

    def _runs_at_once(self, frame: Frame, statement: ast.stmt) -> bool:
        """Whether a statement is only code. An exit is not, nor an ``if`` with an exit inside: diagrams show where the
        thread continues."""
        if self.waits(frame, statement):
            return False
        if isinstance(statement, ast.If):
            return not escapes_of(statement)
        return not isinstance(statement, (ast.Break, ast.Continue, ast.Return))

    def inline(self, frame: Frame, statement: ast.stmt) -> Code:
        """Returns the part of a statement that runs at once."""
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            self.note_annotation(frame, statement.target.id, statement.annotation)
        self.note_default(frame, statement)
        exits = escapes_of(statement)
        statements = [statement]
        errors = [part.source for part in frame.derived if not part.is_item]
        if errors:
            statements = replace_bare_raise(statements, errors[-1])
        if exits:
            statements = with_escapes(statements, RETURNED)
        return Code(frame=frame, line=statement, derived=frame.derived, statements=statements, exits=exits)

    def _statement(self, frame: Frame, node: ast.stmt) -> Sequence[Part]:
        match node:
            case ast.If():
                return self._if(frame, node)
            case ast.Break():
                return [self._line(frame, node), self._exit(frame, node, LeaveKind.BREAK)]
            case ast.Continue():
                return [self._line(frame, node), self._exit(frame, node, LeaveKind.CONTINUE)]
            case ast.While():
                return self._while(frame, node)
            case ast.For():
                return self._for(frame, node)
            case ast.Try():
                return self._try(frame, node)
            case ast.Match():
                return self._match(frame, node)
            case ast.AsyncWith():
                return self.async_with(frame, node)
            case ast.Return(value):
                return self._return(frame, node, value)
            case ast.Expr(ast.Call() as call) if self.word(frame, call) is vocabulary.go:
                return self._go(frame, call)
            case ast.Expr() | ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Raise() | ast.Assert():
                return self._simple(frame, node)
            case ast.With():
                raise frame.source.mistake(
                    node,
                    "'with' around an await: an instance cannot keep a resource open while it sleeps",
                    "Use the resource inside of a step.",
                )
            case ast.AsyncFor():
                raise frame.source.mistake(node, "'async for' cannot be saved", "Fetch a list in a step, and use for.")
        what = "a function inside" if isinstance(node, ast.AsyncFunctionDef) else f"'{type(node).__name__}'"
        raise frame.source.mistake(node, f"an await in {what} is not supported", "Move it to a method of the workflow.")

    def _simple(self, frame: Frame, node: Any) -> list[Part]:
        """A statement that consists of expressions."""
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.note_annotation(frame, node.target.id, node.annotation)
        parts: list[Part] = []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await):
            self.unused |= {node.value.value, *ast.iter_child_nodes(getattr(node.value.value, "func", node))}
            prepared = self.call(frame, node.value.value)
            for part in (*prepared.before, *prepared.parts):
                self.add(parts, part)
            return parts
        node = copied(node)
        for place in (*getattr(node, "targets", ()), getattr(node, "target", None), getattr(node, "msg", None)):
            if place is not None and self.waits(frame, place):
                what = "message of an assert" if place is getattr(node, "msg", None) else "target of an assignment"
                raise frame.source.mistake(node, f"an await in the {what}", "Assign its result to a local first.")
        before = self._read_first(frame, node, parts) if isinstance(node, ast.AugAssign) else None
        for name in ("test", "value", "exc", "cause"):
            if isinstance(value := getattr(node, name, None), ast.expr):
                setattr(node, name, self.take_out(frame, value, parts))
        if before is not None:
            node = at(ast.Assign([node.target], ast.BinOp(before, node.op, node.value)), node)
        self.add(parts, self.inline(frame, node))
        return parts

    def _read_first(self, frame: Frame, node: ast.AugAssign, parts: list[Part]) -> ast.expr | None:
        """For ``self.total += await ...``: reads the field before the await, as Python does. Returns its value; None
        for an object that is changed in place, because that is the same before and after."""
        kind = field_type(self.cls, frame.source.self_name, node.target)
        if kind not in UNCHANGING:
            return None
        name = frame.temporary()
        self.types[frame.key(name)] = [kind]
        value: Any = copied(node.target)
        value.ctx = ast.Load()
        self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=[assign(name, value, node)]))
        return load(name, node)

    def _return(self, frame: Frame, node: ast.Return, value: ast.expr | None) -> list[Part]:
        parts: list[Part] = [self._line(frame, node)] if value is None else []
        if value is not None:
            result = self.take_out(frame, value, parts)
            if frame.outer is None:
                known = isinstance(value, ast.Await) and isinstance(result, ast.Name)
                gives = self.types[frame.key(result.id)][-1] if known and isinstance(result, ast.Name) else UNKNOWN
                result = self.no_result(frame, node, result, gives)
            statement = assign(RETURNED, result, node)
            self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=[statement]))
        return [*parts, self._exit(frame, node, LeaveKind.RETURN)]

    # --- branches and loops ------------------------------------------------------------------

    def _if(self, frame: Frame, node: ast.If) -> list[Part]:
        parts: list[Part] = []
        test = self.take_out(frame, node.test, parts)
        parts.append(self.branch(frame, node, test, self.label(frame, "if", node.test, node), node.body, node.orelse))
        return parts

    def branch(
        self,
        frame: Frame,
        line: ast.AST,
        test: ast.expr,
        label: str,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt] = (),
    ) -> Branch:
        """Returns an ``if`` with statements inside."""
        inside, other = self.statements(frame, body), self.statements(frame, orelse)
        return Branch(frame=frame, line=line, derived=frame.derived, test=test, label=label, body=inside, orelse=other)

    def _line(self, frame: Frame, node: ast.stmt) -> Code:
        """Code that does nothing, so that debuggers stop at the line of an exit."""
        return Code(frame=frame, line=node, derived=frame.derived, statements=[ast.copy_location(ast.Pass(), node)])

    def _exit(self, frame: Frame, line: ast.AST, kind: LeaveKind) -> Exit:
        return Exit(frame=frame, line=line, derived=frame.derived, kind=kind)

    def _while(self, frame: Frame, node: ast.While) -> list[Part]:
        label = self.label(frame, "while", node.test, node)
        first: list[Part] = []
        test = self.take_out(frame, node.test, first)
        body, after = self._with_else(frame, node)
        forever = bool(first) or (isinstance(node.test, ast.Constant) and bool(node.test.value))
        if first:
            ends = Branch(
                frame=frame,
                line=node,
                derived=frame.derived,
                test=ast.copy_location(ast.UnaryOp(ast.Not(), test), node),
                label=self.label(frame, "end of while", node.test),
                body=[self._exit(frame, node, LeaveKind.BREAK)],
                orelse=[],
            )
            body = [*first, ends, *body]
        loop = Loop(
            frame=frame, line=node, derived=frame.derived, test=None if forever else test, label=label, body=body
        )
        return [*after[:1], loop, *after[1:]]

    def _with_else(self, frame: Frame, node: ast.While | ast.For) -> tuple[list[Part], list[Part]]:
        """Returns the body of a loop, and for its ``else`` what comes before the loop and after it."""
        if not node.orelse:
            return self.statements(frame, node.body), []
        flag = frame.temporary()
        body = self.statements(frame, noting_breaks(node.body, flag))
        reset = Code(
            frame=frame, line=node, derived=frame.derived, statements=[assign(flag, ast.Constant(False), node)]
        )
        test = ast.copy_location(ast.UnaryOp(ast.Not(), load(flag, node)), node)
        return body, [reset, self.branch(frame, node, test, self.label(frame, "else", node), node.orelse)]

    def _for(self, frame: Frame, node: ast.For) -> list[Part]:
        parts: list[Part] = []
        name = self.loop_name(frame, node)
        items = self.take_out(frame, node.iter, parts)
        items = self.items(frame, node, name, items, parts)
        derived = self.item(frame, node.target, name, node, items)
        outer = frame.derived
        later = {name for name in derived.names if is_read_outside(frame.source.node, name)}
        looped, frame.looped = frame.looped, frame.looped | derived.names
        stored = ((self.assigned(node.body) | looped) & derived.names) | later
        frame.derived = (*outer, derived)
        if stored:  # assigned in the body, or read after the loop or in one around it: it is stored like any other
            frame.derived = outer
            source = replace(derived, names=frozenset())
            first: list[Part] = [Code(frame=frame, line=node, derived=(*outer, source), statements=[derived.statement])]
            frame.derived = (*outer, source)
        else:
            first = []
        body, after = self._with_else(frame, node)
        for part in body:
            self.add(first, part)
        inner, frame.derived, frame.looped = frame.derived, outer, looped
        each = Each(frame=frame, line=node, derived=outer, name=name, items=items, body=first, inner=inner[-1:])
        parts += [*after[:1], each, *after[1:]]
        return parts

    # --- match -------------------------------------------------------------------------------

    def _match(self, frame: Frame, node: ast.Match) -> list[Part]:
        parts: list[Part] = []
        number = frame.temporary()
        subject = self.take_out(frame, node.subject, parts)
        cases = []
        for index, case in enumerate(node.cases):
            if case.guard is not None and self.waits(frame, case.guard):
                raise frame.source.mistake(case.guard, "an await in the guard of a case", "Await it before the match.")
            chosen: list[ast.stmt] = [assign(number, ast.Constant(index), case.pattern)]
            cases.append(ast.match_case(copied(case.pattern), copied(case.guard), chosen))
        none = assign(number, ast.Constant(-1), node)
        match = ast.copy_location(ast.Match(subject, cases), node)
        self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=[none, match]))
        chain: list[Part] = []
        for index, case in reversed(list(enumerate(node.cases))):
            test = ast.Compare(load(number, node), [ast.Eq()], [ast.Constant(index)])
            ast.fix_missing_locations(ast.copy_location(test, case.pattern))
            label = self.label(frame, "case", case.pattern)
            branch = self.branch(frame, case.pattern, test, label, case.body)
            branch.orelse = chain
            branch.given = frozenset(Usage(frame.variables, [case.pattern]).may_write)
            chain = [branch]
        return parts + chain

    # --- errors ------------------------------------------------------------------------------

    def _try(self, frame: Frame, node: ast.Try) -> list[Part]:
        done = frame.temporary() if node.orelse else ""
        here = at(ast.Pass(), node)  # for debuggers and coverage: the line of the ``try``
        parts: list[Part] = [Code(frame=frame, line=node, derived=frame.derived, statements=[here])]
        body = self.statements(frame, node.body)
        if node.orelse:
            flags = [assign(done, ast.Constant(value), node) for value in (False, True)]
            self.add(parts, Code(frame=frame, line=node, derived=frame.derived, statements=flags[:1]))
            self.add(body, Code(frame=frame, line=node, derived=frame.derived, statements=flags[1:]))
        before = len(parts)
        name = self.try_name(frame, node, body)
        handlers = [self._handler(frame, handler, name, number) for number, handler in enumerate(node.handlers)]
        if handlers:
            parts.append(
                Guarded(
                    frame=frame, line=node, derived=frame.derived, name=name, body=body, handlers=handlers, final=None
                )
            )
        else:
            parts += body
        if node.orelse:
            label = self.label(frame, "try else", node)
            parts.append(self.branch(frame, node, load(done, node), label, node.orelse))
        if not node.finalbody:
            return parts
        final = self.statements(frame, node.finalbody)
        name = f"{name} finally" if handlers else name
        inside, parts[before:] = parts[before:], []
        parts.append(
            Guarded(frame=frame, line=node, derived=frame.derived, name=name, body=inside, handlers=[], final=final)
        )
        return parts

    def _handler(self, frame: Frame, node: ast.ExceptHandler, name: str, number: int) -> Handler:
        kinds: Any = BaseException if node.type is None else self.static(frame, node.type)
        if kinds is UNKNOWN:
            raise frame.source.mistake(
                node, f"the class {ast.unparse(node.type or node)!r} is not known at import", "Name error classes."
            )
        classes = check_error_types(frame.source.place(node), kinds)
        if node.name is not None and any(issubclass(cls, BaseExceptionGroup) for cls in classes):
            raise frame.source.mistake(
                node,
                f"{node.name!r} would be no ExceptionGroup: of its errors, only the classes and the text are stored",
                "Write except ExceptionGroup: without 'as', or handle the group in the step that raises it.",
            )
        section = f"{name} except {number + 1}"
        source = f".error {section}"
        bound = node.name or source
        statement = assign(bound, load(source, node), node)
        outer = frame.derived
        if node.name in self.assigned(node.body):
            reason = f"the except assigns {node.name!r}, which is the name of its error"
            raise frame.source.mistake(node, reason, "Use another variable.")
        frame.derived = (
            *outer,
            Derived(frozenset((bound, source)), statement, source, frame.key(section), False, classes),
        )
        body = self.statements(frame, node.body)
        frame.derived = outer
        return Handler(name=section, types=classes, body=body)
