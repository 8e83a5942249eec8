"""Compiles a definition, once, into a ``Program``. The checks that take the whole tree are made here.

Nothing here knows an instance or runs anything. Each kind of statement is compiled by a function of its own, in the
file of its topic; ``_COMPILED_BY`` is the list.

Theory of operation:

From tree to code. The definition is a tree of statements; the program is a flat list of instructions, as of a simple
machine: tests and jumps between the places where a thread can rest. The statements of a section are compiled in their
order, one behind the other. A thread that is started (``Go``, a branch) has code of its own, behind that of all threads
found before, and begins at an entry with its name. Jumps are emitted before their target is known, and ``land`` lets
them end there. At the end ``link`` joins each instruction to the one that a thread reaches from it, so that moving on
follows a reference and jumps to jumps cost nothing.

Names and rests. A thread rests only on instructions that ``park`` has emitted; these are the program's ``rests``, each
under the qualified name of its statement (``prefix/name``). That name is the address that an instance stores. Positions
in the code are never stored. So a definition may be changed while instances run: statements can be added, moved or
removed, and a stored instance still finds the one it stands on, under its name or by ``renamed_from``. If a statement
is gone, that instance gets ``UnknownStatement``; it never goes on at another one. Everything else that an instance
stores by name (positions in a ``ForEach``, caught errors, pending exits) is named by its statement in the same way.

Guards and regions. Each instruction is stamped, when it is emitted, with what stands around it: the innermost ``Try``
(``guard``; each guard knows the next outer one), the ``finally_`` section that it is in (``region``), the ``except_``
section (``caught``) and the ``ForEach`` (``each``). An error or a cancellation can strike wherever a thread rests, and
finds its way out by these stamps alone. ``Return``, ``Break`` and ``Continue`` are known here: they become a jump or an
end, and where a ``finally_`` section lies on their way, a ``LeaveOp`` into it and an exit behind it.

What must hold. The version of a program is a digest of all that decides where a stored instance goes on: kinds, names,
order, nesting, schemas. It must not depend on anything else, or instances would seem to have moved to other code after
a restart. Names are checked to be unique after all prefixes, as two rests with one name would be one address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.program import calls, control, failures, fanout, selects
from workflow_core.program.assembly import Assembly, Body
from workflow_core.program.code import EndOp
from workflow_core.program.program import Program
from workflow_core.statements.basic import Section, Statement
from workflow_core.statements.calls import Activity, Child
from workflow_core.statements.control import Break, Continue, Go, If, Return, Step, Switch, WaitFor, While
from workflow_core.statements.failures import Fail, Try
from workflow_core.statements.fanout import ForEach, Parallel
from workflow_core.statements.selects import Select, Sleep


def compile_definition(
    workflow: str, definition: Any, namespace: Mapping[str, Any], fields_version: int = 1
) -> Program:
    """Compiles the definition of the workflow of that name.

    Args:
        namespace: names that handlers' annotations may use beside their globals.
        fields_version: the version of the workflow.

    Raises:
        DefinitionError: there is a mistake in it.
    """
    if not isinstance(definition, Section):
        raise DefinitionError(
            f"workflow {workflow!r}", f"its definition is {definition!r}", "Write definition = S(...)."
        )
    return _Compiler(workflow, definition, namespace).compile(fields_version)


class _Compiler(Assembly):
    def compile(self, fields_version: int) -> Program:
        while self.bodies:
            self._thread(self.bodies.pop(0))
        self.names.check(self.events.keys())
        self.link()
        return Program(
            self.workflow,
            self.definition,
            tuple(self.code),
            self.rests,
            self.entries,
            {event: tuple(cases) for event, cases in self.events.items()},
            tuple(self.async_parts),
            self.outline.hexdigest()[:12],
            self.names.renamed.now,
            self.names.renamed_waits.now,
            fields_version,
        )

    def _thread(self, body: Body) -> None:
        self.names.restore(body.prefixes)
        self.region, self.shelter = body.region, body.shelter
        self.caught, self.each = body.caught, body.each
        self.entries[body.name] = len(self.code)
        self.note(f"thread {body.name}\n")
        self.section(body.section)
        self.emit(EndOp())

    def section(self, section: Section) -> None:
        """Compiles the statements of a section."""
        outer = self.names.enter(section)
        self.note("(\n")
        for statement in section.statements:
            self._statement(statement)
        self.note(")\n")
        self.names.restore(outer)

    def _statement(self, statement: Statement) -> None:
        if isinstance(statement, Section):
            self.section(statement)
        elif (compiled_by := _COMPILED_BY.get(type(statement))) is not None:
            compiled_by(self, statement)
        else:
            raise DefinitionError(f"{statement!r}", "it is no statement known here", "Use those of workflow_core.")


_COMPILED_BY: dict[type[Statement], Callable[[Assembly, Any], None]] = {
    Step: control.step,
    If: control.if_,
    Switch: control.switch,
    While: control.while_,
    Break: control.break_or_continue,
    Continue: control.break_or_continue,
    Return: control.return_,
    WaitFor: control.wait_for,
    Go: control.go,
    Select: selects.select,
    Sleep: selects.sleep,
    Activity: calls.activity,
    Child: calls.child,
    Try: failures.try_,
    Fail: failures.fail,
    ForEach: fanout.for_each,
    Parallel: fanout.parallel,
}
