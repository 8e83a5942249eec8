"""Expressions with an ``await`` inside: the await is taken out, and what stands before it is computed before it."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Sequence
from typing import Any

from workflow_core.plain import vocabulary
from workflow_core.plain.asyncio_functions import INSTEAD_OF_ASYNCIO, of_asyncio
from workflow_core.plain.flow import all_parts
from workflow_core.plain.parts import RESULT, Branch, Code, Frame, Part
from workflow_core.plain.source import UNKNOWN
from workflow_core.plain.syntax import assign, at, copied, load
from workflow_core.plain.usage import COMPREHENSIONS, CONSTANT, after_first_items, inner_nodes, own_nodes

_LABEL_CHARS = 60
_TAKING_CALLS = (vocabulary.gather, vocabulary.race, vocabulary.go, vocabulary.named)
_WORDS = {id(word): word for word in vocabulary.WORDS}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Reading:
    """What the parts of the scan share.

    Attributes:
        cls: the workflow's class.
        hints: returns the annotations of a function as types.
        hints_in: returns those of a function of another workflow class.
        evaluate: returns the type of an annotation in a function's source.
        sections: the names of the methods whose statements were read.
        stack: the functions that are being read, from ``run`` inwards.
        types: the types of variables that are known, by key.
        constants: objects that compiled code uses, by the name of their variable.
        passed: for each variable of a branch's result, its key in the thread that waits, and the loop of the branch.
        former: the former prefixes of each prefix, and the former keys of variables.
        is_branch: whether the call that is being read is a branch: its arguments are then computed before it starts.
        taken: the names of all statements, with the prefixes of their sections.
        given_name: the name from ``named`` for the call that is being read.
        unused: the calls whose results nothing uses.
    """

    def __init__(
        self,
        cls: type,
        hints: Callable[[Callable[..., Any]], dict[str, Any]],
        hints_in: Callable[[type, Callable[..., Any]], dict[str, Any]],
        evaluate: Callable[[Frame, ast.expr], Any],
    ) -> None:
        self.cls = cls
        self.hints = hints
        self.hints_in = hints_in
        self.evaluate = evaluate
        self.sections: set[str] = set()
        self.stack: list[types.FunctionType] = []
        self.types: dict[str, list[Any]] = {}
        self.annotated: dict[str, Any] = {}
        self.defaults: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        self.passed: dict[str, tuple[str, str | None]] = {}
        self.passed_types: dict[str, Any] = {}
        self.labels: dict[str, int] = {}
        self.former: dict[str, tuple[str, ...]] = {}
        self.is_branch = False
        self.taken: set[str] = set()
        self.given_name = ""
        self.unused: set[ast.AST] = set()

    # --- what is what ------------------------------------------------------------------------

    def word(self, frame: Frame, node: ast.Call) -> Any:
        """Returns the word of the vocabulary that a call calls; None if it calls something else."""
        return _WORDS.get(id(frame.source.resolve(node.func)))

    def waits(self, frame: Frame, node: ast.AST) -> bool:
        """Whether some code cannot run at once."""
        for part in own_nodes(node):
            if isinstance(part, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
                return True
            if isinstance(part, ast.comprehension) and part.is_async:
                return True
            if isinstance(part, ast.Call) and self.word(frame, part) is vocabulary.go:
                return True
        return False

    def check_refused(self, frame: Frame) -> None:
        """Refuses what cannot be stored or continued."""
        mistake = frame.source.mistake
        for statement in frame.source.node.body:
            for node in own_nodes(statement):
                if isinstance(node, (ast.Yield, ast.YieldFrom)):
                    raise mistake(node, "it is a generator", "Return a list.")
                if isinstance(node, (ast.Global, ast.Nonlocal)):
                    word = type(node).__name__.lower()
                    raise mistake(
                        node, f"'{word}' changes a variable outside of the instance", "Use a field of the workflow."
                    )
                if isinstance(node, ast.Delete) and any(isinstance(target, ast.Name) for target in node.targets):
                    raise mistake(node, "'del' of a local variable", "Assign None to it.")
                if isinstance(node, ast.TryStar) and self.waits(frame, node):
                    raise mistake(node, "'except*' around an await is not supported", "Use except.")
                parts = after_first_items(node) if isinstance(node, COMPREHENSIONS) else ()
                if any(self.waits(frame, part) for part in parts):
                    raise mistake(
                        node, "an await in a comprehension cannot be saved", "Use a for loop, or gather(*(...))."
                    )
            self._check_awaited(frame, statement)

    def _check_awaited(self, frame: Frame, node: ast.AST, *, is_awaited: bool = False, taker: str = "") -> None:
        """Refuses calls that only work with ``await``, because without it they would do nothing.

        Args:
            taker: the function of asyncio whose argument the node is.
        """
        if isinstance(node, ast.Call):
            if not is_awaited and self.needs_await(frame, node):
                name = ast.unparse(node.func)
                if taker:
                    fix = f"Use {INSTEAD_OF_ASYNCIO[taker]} of gorchestrate."
                    raise frame.source.mistake(node, f"{name} cannot be passed to asyncio.{taker}", fix)
                raise frame.source.mistake(node, f"{name} is not awaited, so it would do nothing", "Write await.")
            taker = of_asyncio(frame.source.resolve(node.func))
            takes_calls = isinstance(node.func, ast.Attribute) and node.func.attr in ("start", "named")
            is_awaited = takes_calls or self.word(frame, node) in _TAKING_CALLS
        elif not isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.Starred, ast.Attribute, ast.comprehension)):
            is_awaited = isinstance(node, ast.Await)
        for inner in inner_nodes(node):
            if not isinstance(inner, _SCOPES):
                self._check_awaited(frame, inner, is_awaited=is_awaited, taker=taker)

    def needs_await(self, frame: Frame, node: ast.Call) -> bool:
        """See ``workflow_core.plain.calls``."""
        raise NotImplementedError

    def static(self, frame: Frame, node: ast.expr) -> Any:
        """Returns the value of an expression that is known at import; ``UNKNOWN`` for others."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Tuple):
            values = tuple(self.static(frame, part) for part in node.elts)
            return UNKNOWN if any(value is UNKNOWN for value in values) else values
        return frame.source.resolve(node)

    def constant(self, value: Any) -> ast.expr:
        """Returns a node that means an object."""
        name = f"{CONSTANT}{len(self.constants)}"
        self.constants[name] = value
        return ast.Name(name, ast.Load())

    # --- names -------------------------------------------------------------------------------

    def name(self, frame: Frame, node: ast.AST, name: str) -> str:
        """Takes a name in a function.

        Raises:
            DefinitionError: it is taken.
        """
        line = getattr(node, "lineno", 0)
        if name in frame.names:
            raise frame.source.mistake(
                node,
                f"the name {name!r} is taken by line {frame.names[name]}. Names are the addresses at which instances "
                f"resume",
                "Give one of the loops another variable."
                if isinstance(node, ast.For)
                else f"Give one a name: self.method(...).named('second {name}'), or named('second {name}', ...).",
            )
        frame.names[name] = line
        self.taken.add(frame.prefix + name)
        return name

    def loop_name(self, frame: Frame, node: ast.For) -> str:
        return self.name(frame, node, f"for {ast.unparse(node.target)}")

    def try_name(self, frame: Frame, node: ast.Try, body: Sequence[Part]) -> str:
        """Returns the name of a ``try``: that of the first statement inside that has one. A second one that begins with
        an ``if`` or with code has that of the first statement deeper inside, or in a handler."""
        first = next((name for part in body if (name := getattr(part, "name", ""))), "")
        if not first and "try" in frame.names:
            first = next((name for part in all_parts(body) if (name := getattr(part, "name", ""))), frame.place)
        return self.name(frame, node, f"try {first}".strip())

    def label(self, frame: Frame, word: str, node: ast.AST, line: ast.AST | None = None) -> str:
        """Returns the label of a branch or a loop: the comment above its line, or its source text.

        Labels are not addresses: nothing that is stored depends on them.

        Args:
            line: the statement.
        """
        lines = {"else": "else", "try else": "else"}
        comment = "" if line is None else frame.source.comment_above(line)
        text = comment or lines.get(word) or f"{word} {ast.unparse(node)}"
        text = " ".join(text.split())
        text = text if len(text) <= _LABEL_CHARS else f"{text[: _LABEL_CHARS - 3]}..."
        key = frame.prefix + text
        count = self.labels[key] = self.labels.get(key, 0) + 1
        return text if count == 1 else f"{text} #{count}"

    # --- parts -------------------------------------------------------------------------------

    def add(self, parts: list[Part], part: Part) -> None:
        """Appends a part. Code that follows code runs together with it."""
        last = parts[-1] if parts else None
        if isinstance(part, Code) and isinstance(last, Code) and not last.exits and last.derived == part.derived:
            last.statements = [*last.statements, *part.statements]
            last.exits = part.exits
        else:
            parts.append(part)

    def note_default(self, frame: Frame, node: ast.stmt) -> None:
        """Notes the default of a variable that is assigned from ``local``."""
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call) or self.word(frame, call) is not vocabulary.local:
            return
        match call:
            case ast.Call(_, [ast.Constant(name)], [ast.keyword("default", default)]) if (
                isinstance(target, ast.Name) and name == target.id
            ):
                self.defaults[frame.key(target.id)] = self._constant_of(frame, default)
                return
        raise frame.source.mistake(
            node, "local is used in another way", 'Write reminders = local("reminders", default=0), with its own name.'
        )

    def _constant_of(self, frame: Frame, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError:
            found = self.static(frame, node)
        if found is UNKNOWN:
            raise frame.source.mistake(node, "its default is not a constant", "Write a literal, such as 0 or [].")
        return found

    def note_annotation(self, frame: Frame, name: str, annotation: ast.expr) -> None:
        """Notes the declared type of a variable."""
        self.annotated[frame.key(name)] = self.evaluate(frame, annotation)


class Expressions(Reading):
    """Takes the awaits out of expressions."""

    def take_out(self, frame: Frame, node: ast.expr, parts: list[Part]) -> ast.expr:
        """Returns an expression without awaits. What must run before it is added to ``parts``."""
        if not self.waits(frame, node):
            return node
        match node:
            case ast.Await(value):
                return self._result(frame, node, value, parts)
            case ast.NamedExpr(ast.Name(name), value):
                inner = self.take_out(frame, value, parts)
                self._store(frame, name, inner, node, parts)
                return load(name, node)
            case ast.BoolOp(operator, values):
                return self._either(frame, node, operator, values, parts)
            case ast.IfExp(test, body, orelse):
                name = frame.temporary()
                test = self.take_out(frame, test, parts)
                ways: list[list[Part]] = [[], []]
                for way, value in zip(ways, (body, orelse), strict=True):
                    self._store(frame, name, self.take_out(frame, value, way), value, way)
                parts.append(self._branch(frame, node, test, ways[0], ways[1]))
                return load(name, node)
            case ast.Compare(_, operators) if len(operators) > 1:
                raise frame.source.mistake(node, "an await in a chain of comparisons", "Assign its result first.")
            case (
                ast.ListComp(_, loops) | ast.SetComp(_, loops) | ast.DictComp(_, _, loops) | ast.GeneratorExp(_, loops)
            ):
                node = copied(node)
                node.generators[0].iter = self.take_out(frame, loops[0].iter, parts)  # Python computes it first
                return node
            case ast.Call() if self.word(frame, node) is not None:
                raise frame.source.mistake(node, f"{ast.unparse(node.func)} is not awaited", "Write await before it.")
        return self._in_order(frame, node, parts)

    def _in_order(self, frame: Frame, node: ast.expr, parts: list[Part]) -> ast.expr:
        """Takes the awaits out of the operands. Those before an await are computed before it."""
        node = copied(node)
        places = list(_operands(node))
        last = max((number for number, (_, _, part) in enumerate(places) if self.waits(frame, part)), default=-1)
        if last < 0:
            raise frame.source.mistake(node, "an await in this place", "Assign its result to a local first.")
        for number, (owner, place, operand) in enumerate(places[: last + 1]):
            value = self.take_out(frame, operand, parts)
            if number < last and not _is_stable(owner, place, value):
                name = frame.temporary()
                self._store(frame, name, value, operand, parts)
                value = load(name, operand)
            _replace(owner, place, value)
        return node

    def _either(
        self, frame: Frame, node: ast.BoolOp, operator: ast.boolop, values: list[ast.expr], parts: list[Part]
    ) -> ast.expr:
        name = frame.temporary()
        self._store(frame, name, self.take_out(frame, values[0], parts), node, parts)
        inside: list[Part] = []
        rest = values[1] if len(values) == 2 else at(ast.BoolOp(operator, values[1:]), values[1])
        self._store(frame, name, self.take_out(frame, rest, inside), rest, inside)
        test = load(name, node)
        if isinstance(operator, ast.Or):
            test = at(ast.UnaryOp(ast.Not(), test), node)
        parts.append(self._branch(frame, node, test, inside, []))
        return load(name, node)

    def _branch(self, frame: Frame, node: ast.expr, test: ast.expr, body: list[Part], orelse: list[Part]) -> Branch:
        label = self.label(frame, "if", node)
        return Branch(frame=frame, line=node, derived=frame.derived, test=test, label=label, body=body, orelse=orelse)

    def _store(self, frame: Frame, name: str, value: ast.expr, line: ast.AST, parts: list[Part]) -> None:
        statement = assign(name, value, line)
        self.add(parts, Code(frame=frame, line=line, derived=frame.derived, statements=[statement]))

    def _result(self, frame: Frame, node: ast.Await, value: ast.expr, parts: list[Part]) -> ast.expr:
        prepared = self.call(frame, value)
        for part in (*prepared.before, *prepared.parts):
            self.add(parts, part)
        name = frame.temporary()
        self.types.setdefault(frame.key(name), []).append(prepared.gives)
        result = at(copied(prepared.result), node) if prepared.result is not None else load(RESULT, node)
        self._store(frame, name, result, node, parts)
        return load(name, node)

    def call(self, frame: Frame, node: ast.expr) -> Any:
        """See ``workflow_core.plain.calls``."""
        raise NotImplementedError


def _operands(node: ast.expr) -> list[tuple[ast.AST, Any, ast.expr]]:
    """Returns the operands of an expression in the order of their evaluation, with their places."""
    if isinstance(node, ast.Dict):
        pairs = zip(range(len(node.keys)), node.keys, node.values, strict=True)
        found: list[tuple[ast.AST, Any, ast.expr]] = []
        for index, key, value in pairs:
            found += [] if key is None else [(node, ("keys", index), key)]
            found.append((node, ("values", index), value))
        return found
    result: list[tuple[ast.AST, Any, ast.expr]] = []
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.expr):
            result += _inside(node, (field, None), value)
        elif isinstance(value, list):
            for index, part in enumerate(value):
                if isinstance(part, ast.expr):
                    result += _inside(node, (field, index), part)
                elif isinstance(part, ast.keyword):
                    result.append((part, ("value", None), part.value))
    return result


def _inside(owner: ast.AST, place: Any, value: ast.expr) -> list[tuple[ast.AST, Any, ast.expr]]:
    if isinstance(value, (ast.Starred, ast.FormattedValue)):
        return [(value, ("value", None), value.value)]
    if isinstance(owner, ast.Call) and place[0] == "func" and isinstance(value, ast.Attribute):
        return [(value, ("value", None), value.value)]  # the object is computed first, the method is found later
    return [(owner, place, value)]


def _is_stable(owner: ast.AST, place: Any, value: ast.expr) -> bool:
    """Whether an operand has the same value after an await, so that it need not be stored: constants, variables, and
    the object whose method is called."""
    if isinstance(value, (ast.Constant, ast.Name)):
        return True
    return isinstance(owner, ast.Attribute) and _is_path(value)


def _is_path(value: ast.expr) -> bool:
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name)


def _replace(owner: ast.AST, place: tuple[str, int | None], value: ast.expr) -> None:
    field, index = place
    if index is None:
        setattr(owner, field, value)
    else:
        getattr(owner, field)[index] = value
