"""Lower: makes the tree of statements of the parts. Their functions are blocks that see the locals of their thread."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workflow_core.error_texts import STORED, Place
from workflow_core.errors import Failure
from workflow_core.plain.blocks import expression_block, frame_of, kind_of, statements_block
from workflow_core.plain.cases import Asked, bodies_of, with_asked, with_bodies
from workflow_core.plain.expressions import Reading
from workflow_core.plain.flow import entry_of, keys_of
from workflow_core.plain.local_types import LocalTypes
from workflow_core.plain.parts import (
    NOW,
    RESULT,
    Branch,
    Called,
    Code,
    Derived,
    Each,
    Exit,
    Fork,
    Guarded,
    Limited,
    Loop,
    Part,
    Spawn,
    Wait,
)
from workflow_core.plain.source import constant_delay
from workflow_core.plain.usage import LOCALS, Usage, every_node, is_hidden
from workflow_core.signatures import OfFrame
from workflow_core.statements.basic import Delay, Section, Statement
from workflow_core.statements.control import Branch as IfBranch
from workflow_core.statements.control import Break, Continue, Go, If, Return, While
from workflow_core.statements.inline import CallOf, Entry, Inline, Local, Resting
from workflow_core.statements.selects import Select
from workflow_core.stored_parts import ErrorInfo, LeaveKind

if TYPE_CHECKING:
    from workflow_core.statements.failures import Try
    from workflow_core.statements.within import Within

_EXITS = {LeaveKind.BREAK: Break, LeaveKind.CONTINUE: Continue, LeaveKind.RETURN: Return}


class Lowering:
    """Makes statements.

    Args:
        reading: what the scan has found.
        types: the types of the locals.
    """

    def __init__(self, reading: Reading, types: LocalTypes) -> None:
        self._reading = reading
        self._types = types
        self._excepts: list[str] = []
        """The ``except`` clauses around the part at hand, the innermost last."""
        self._errors_read: set[str] = set()
        """The ``except`` clauses whose error something reads."""

    def section(self, parts: Iterable[Part]) -> Section:
        """Returns parts as a section."""
        made: list[Statement] = []
        for part in with_asked(parts):
            made += self._asked(part) if isinstance(part, Asked) else [self._statement(part)]
        return Section(tuple(made))

    def _statement(self, part: Part) -> Statement:
        match part:
            case Code():
                lines, next_line = _lines_of(part.statements)
                return Inline(self._place(part), self._code(part), part.exits, lines, next_line)
            case Branch():
                return self._branch(part)
            case Loop():
                test = part.test if part.test is not None else ast.copy_location(ast.Constant(True), part.line)
                return While(self._label(part), self.expression(part, test), *self._body(part.body))
            case Each():
                return self._each(part)
            case Guarded():
                return self._guarded(part)
            case Limited():
                return self._limited(part)
            case Exit():
                return _EXITS[part.kind]()
            case Wait():
                if part.takes_context:
                    self._errors_read.update(self._excepts[-1:])
                return Resting(
                    part.make(lambda node: self.expression(part, node)), self._locals(part, part.live), part.place
                )
            case Called():
                return CallOf(Section(self._body(part.body), prefix=part.name, renamed_from=part.renamed_from))
            case Fork():
                return self._fork(part)
            case Spawn():
                id = None if part.id is None else self.expression(part, part.id)
                return Go(part.name, *self._thread(part, part.body), id=id)
        raise TypeError(part)

    def _body(self, parts: Iterable[Part]) -> tuple[Statement, ...]:
        return self.section(parts).statements

    def _place(self, part: Part) -> str:
        return f"line {getattr(part.line, 'lineno', '?')}"

    def _label(self, part: Branch | Loop) -> str:
        taken = part.frame.prefix + part.label in self._reading.taken
        return f"{part.label} (condition)" if taken else part.label

    def _locals(self, part: Part, keys: Iterable[str]) -> tuple[Local, ...]:
        where = f"in {part.frame.source.place(part.line)}"
        assigned = part.assigned or ()
        return tuple(
            replace(self._types.local(key, where, is_stored=True), is_assigned=key in assigned) for key in sorted(keys)
        )

    # --- statements --------------------------------------------------------------------------

    def _branch(self, part: Branch) -> If:
        branches = [IfBranch(self._label(part), self.expression(part, part.test), Section(self._body(part.body)))]
        if part.orelse:
            branches.append(IfBranch("", None, Section(self._body(part.orelse))))
        made = object.__new__(If)
        object.__setattr__(made, "branches", tuple(branches))
        return made

    def _asked(self, part: Asked) -> list[Statement]:
        rest, code = self._statement(part.wait), self._statement(part.code)
        assert isinstance(rest, Resting)
        select = rest.statement
        bodies = bodies_of(part, select, self._reading.cls) if isinstance(select, Select) else None
        if bodies is None:
            return [rest, code, self._branch(part.branch)]
        assert isinstance(select, Select)
        statements = {event: (code, *self._body(body)) for event, body in bodies.items()}
        return [Resting(with_bodies(select, statements), rest.locals, rest.place)]

    # Many definitions need none of the following statements. Each is imported where it is made.

    def _fork(self, part: Fork) -> Resting:
        from workflow_core.statements.fanout import Parallel, Race

        branches = [Section(self._thread(part, branch)) for branch in part.branches]
        fork = Race(part.name, *branches) if part.is_race else Parallel(part.name, *branches)
        return Resting(fork, self._locals(part, part.live), part.place)

    def _each(self, part: Each) -> Statement:
        from workflow_core.statements.fanout import ForEach

        body = self._thread(part, part.body) if part.parallel else self._body(part.body)
        items = self.expression(part, part.items)
        if not part.parallel:
            return ForEach(part.name, items, *body)
        made = ForEach(part.name, items, *body, parallel=True, limit=part.limit)
        return Resting(made, self._locals(part, part.live), part.place)

    def _guarded(self, part: Guarded) -> Try:
        from workflow_core.statements.failures import Try

        made = Try(part.name, *self._body(part.body))
        for handler in part.handlers:
            self._excepts.append(key := part.frame.key(handler.name))
            made = made.except_(handler.types, *self._body(handler.body), name=handler.name)
            self._excepts.pop()
            if key not in self._errors_read:
                made = made.with_error_unread()
        return made if part.final is None else made.finally_(*self._body(part.final))

    def _limited(self, part: Limited) -> Within:
        from workflow_core.statements.within import Within

        delay: Delay | None = constant_delay(part.frame.source, part.delay)
        if delay is None:
            keys = keys_of(part.frame, part.derived, Usage(part.frame.variables, [part.delay]).reads)
            delay = replace(self.expression(part, part.delay), locals=self._locals(part, keys))
        return Within(part.name, delay, *self._body(part.body))

    def _thread(self, part: Part, body: Sequence[Part]) -> tuple[Statement, ...]:
        """Returns the statements of a thread that is started, and what it needs from the thread that starts it."""
        statements = self._body(body)
        return (Entry(self._locals(part, entry_of(body))), *statements)

    # --- functions ---------------------------------------------------------------------------

    def expression(self, part: Part, node: ast.expr) -> OfFrame:
        """Returns an expression as a function of the workflow and the frame."""
        usage = Usage(part.frame.variables, [node])
        inputs = _Inputs(self, part, usage.reads)
        written = sorted(usage.may_write)
        value = node
        if written:
            variables = ast.Call(ast.Name(LOCALS, ast.Load()), [], [])
            value = ast.fix_missing_locations(ast.copy_location(ast.Tuple([node, variables], ast.Load()), node))
        block = expression_block(part.frame.source, inputs.names, inputs.before, value, self._reading.constants)
        if not written:
            constant = bool(node.value) if isinstance(node, ast.Constant) else None
            compute = lambda workflow, frame: block(workflow, *inputs.of(frame))  # noqa: E731
            return OfFrame(compute, place=part.place, constant=constant)
        outputs = self._outputs(part, written)

        def compute_and_assign(workflow: Any, frame: Any) -> Any:
            result, variables = block(workflow, *inputs.of(frame))
            outputs.put(frame, variables)
            return result

        return OfFrame(compute_and_assign, place=part.place)

    def _code(self, part: Code) -> OfFrame:
        """Returns statements as a function of the workflow and the frame that returns how they are left."""
        usage = Usage(part.frame.variables, part.statements)
        inputs = _Inputs(self, part, (usage.reads | part.kept) - part.unbound)
        block = statements_block(
            part.frame.source, inputs.names, inputs.before, part.statements, self._reading.constants
        )
        outputs = self._outputs(part, sorted(usage.may_write))
        name = getattr(self._reading.cls, "__workflow_name__", self._reading.cls.__name__)

        def run(workflow: Any, frame: Any) -> LeaveKind | None:
            given = inputs.of(frame)
            try:
                kind, variables = block(workflow, *given)
            except Exception as error:
                raised = frame_of(error, block)
                if raised is not None:
                    line = raised.tb_lineno
                    outputs.put(frame, dict(raised.tb_frame.f_locals))
                    error.add_note(Place(f"line {line}", f"raised in line {line} of workflow {name!r}"))
                raise
            outputs.put(frame, variables)
            return kind_of(kind)

        return OfFrame(run, place=part.place, ends=usage.ends)

    def _outputs(self, part: Part, names: Iterable[str]) -> _Outputs:
        where = f"in {part.frame.source.place(part.line)}"
        outputs = _Outputs()
        for name in names:
            key = part.frame.key(name)
            if (passed := self._reading.passed.get(key)) is not None:
                outputs.up.append((name, self._types.local(passed[0], where, is_stored=True), passed[1]))
            elif not any(name in derived.names for derived in part.derived):
                outputs.own.append((name, self._types.local(key, where)))
        return outputs

    def input_of(self, part: Part, name: str) -> Any:
        """Returns a function of the frame that returns a variable."""
        if name == RESULT:
            return lambda frame: frame.result
        if name == NOW:
            return lambda frame: frame.now
        for derived in part.derived:
            if name == derived.source:
                if not derived.is_item:
                    self._errors_read.add(derived.name)
                return _source(derived)
        local = self._types.local(part.frame.key(name), f"in {part.frame.source.place(part.line)}")
        return lambda frame: frame.get(local)


class _Inputs:
    """The variables that a block reads."""

    def __init__(self, lowering: Lowering, part: Part, reads: Iterable[str]) -> None:
        names = set(reads)
        self.before: list[ast.stmt] = []
        for derived in reversed(part.derived):  # inner ones are computed from outer ones
            if names & derived.names:
                names = (names - derived.names) | {derived.source}
                self.before.insert(0, derived.statement)
        self.names = sorted(names)
        self._inputs = [lowering.input_of(part, name) for name in self.names]

    def of(self, frame: Any) -> list[Any]:
        return [value(frame) for value in self._inputs]


class _Outputs:
    """The variables that a block assigns: its own, and those of the thread that waits for it."""

    def __init__(self) -> None:
        self.own: list[tuple[str, Local]] = []
        self.up: list[tuple[str, Local, str | None]] = []

    def put(self, frame: Any, variables: dict[str, Any]) -> None:
        for name, local in self.own:
            if name in variables:
                frame.put(local, variables[name])
        for name, local, each in self.up:
            if name in variables:
                frame.pass_up(local, each, variables[name])


def _lines_of(statements: Sequence[ast.stmt]) -> tuple[tuple[int, int], int]:
    """Returns ``lines`` and ``next_line`` of ``Inline``."""
    own = [statement for statement in statements if not (_prepares(statement) or _takes_result(statement))]
    lines = (own[0].lineno, own[-1].end_lineno or own[-1].lineno) if own else (0, 0)
    return lines, statements[-1].lineno if _prepares(statements[-1]) else 0


def _prepares(statement: ast.stmt) -> bool:
    """Whether a statement does nothing but mark the line of what follows, or assigns a variable of the compiler."""
    match statement:
        case ast.Assign([ast.Name(name)]):
            return is_hidden(name)
    return isinstance(statement, ast.Pass)


def _takes_result(statement: ast.stmt) -> bool:
    """Whether a statement assigns what the compiler has kept, such as the result of an ``await``."""
    match statement:
        case ast.Assign([ast.Name()], value):
            read = {node.id for node in every_node(value) if isinstance(node, ast.Name)}
            return bool(read) and all(name.startswith((".", "/")) for name in read)
    return False


def _source(derived: Derived) -> Any:
    if derived.is_item:
        return lambda frame: frame.item(derived.name)
    return lambda frame: rebuilt(frame.error(derived.name), derived.types)


def rebuilt(error: ErrorInfo, types: tuple[type[BaseException], ...]) -> BaseException:
    """Returns a stored error as an instance of its class, or of the class that was caught; as a ``Failure`` if neither
    can be made of its message. Its ``__cause__`` is a ``Failure`` with the text of
    the cause. If it is raised again, it is the stored error."""
    made = next(filter(None, (_made(cls, error, types) for cls in (*map(_found, error.bases), *types))), None)
    made = made or Failure(error.text)
    setattr(made, STORED, error)
    if error.cause is not None:
        made.__cause__ = _cause(error.cause)
    return made


def _cause(error: ErrorInfo) -> Failure:
    """Returns a stored cause: only its text is stored, and that of its own cause."""
    made = Failure(error.text)
    made.__cause__ = None if error.cause is None else _cause(error.cause)
    return made


def _found(name: str) -> Any:
    """Returns a class by its module and its name."""
    module, _, rest = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, outer = module.rpartition(".")
        rest = f"{outer}.{rest}"
    found: Any = sys.modules.get(module)
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found


def _made(cls: Any, error: ErrorInfo, types: tuple[type[BaseException], ...]) -> BaseException | None:
    if not (isinstance(cls, type) and issubclass(cls, types)):
        return None
    try:
        made = cls(*([error.message] if error.args is None else error.args))
        return made if str(made) == error.message else None
    except Exception:
        return None
