"""Compiles a definition, once, into a ``Program``, and makes the checks that need the whole tree.

Nothing here depends on an instance or runs anything. Each kind of statement is compiled by its own function, which the
table ``COMPILERS`` in the file of its topic lists. A file is imported when a definition has a statement of its topic.

Theory of operation:

From tree to code. The definition is a tree of statements. The program is a flat list of instructions: tests and jumps
between the instructions that a thread can rest on. The statements of a section are compiled in their order. The code of
a thread that is started (``Go``, a branch) follows the code of all threads found earlier, and begins at an entry with
the name of the thread. Jumps are emitted before their target is known; ``land`` sets the target later. At the end,
``link`` links each instruction directly to its successors, so that a thread follows a reference and passes no jumps.

Names and rests. A thread rests only on instructions that ``park`` has emitted. These are the program's ``rests``, under
the qualified names of their statements (``prefix/name``). This name is the address that an instance stores; positions
in the code are never stored. A definition may therefore change while instances run: statements can be added, moved or
removed, and a stored instance still finds its statement by name or by ``renamed_from``. If the statement was removed,
the instance gets ``UnknownStatement``; it never continues at another statement. All other names that an instance stores
(for positions in a ``ForEach``, caught errors, pending exits) are names of statements in the same way.

Guards and regions. Each instruction is emitted with its surroundings: the innermost ``Try`` (``guard``; each guard
knows the next outer one), the ``finally_`` section (``region``), the ``except_`` section (``caught``) and the
``ForEach`` (``each``) around it. An error or a cancellation can occur wherever a thread rests, and the way out depends
only on these attributes. The ways of ``Return``, ``Break`` and ``Continue`` are known at compile time. They become a
jump or an end. If they cross a ``finally_`` section, they become a ``LeaveOp`` into the section and an exit after it.

Invariants. The version of a program is a digest of everything that determines where a stored instance continues: kinds,
names, order, nesting, schemas. It must not depend on anything else; otherwise a restart would look like a code change.
Names, including their prefixes, are checked to be unique, because two rests with one name would share one address.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.program.assembly import Assembly, Body, Compilers
from workflow_core.program.code import EndOp
from workflow_core.program.program import Program
from workflow_core.program.scope import Scope
from workflow_core.statements.basic import Section, Statement

_TOPICS = {
    f"workflow_core.statements.{topic}": f"workflow_core.program.{topic}"
    for topic in ("calls", "control", "failures", "fanout", "inline", "selects", "within")
}
"""The file that compiles the statements of each file."""


def compile_definition(workflow: str, definition: Any, scope: Scope, fields_version: int = 1) -> Program:
    """Compiles the definition of a workflow.

    Args:
        workflow: the name of the workflow.
        definition: its definition.
        scope: the workflow's class, as the functions of the definition see it.
        fields_version: the version of the workflow.

    Raises:
        DefinitionError: the definition has a mistake.
    """
    if not isinstance(definition, Section):
        raise DefinitionError(
            f"workflow {workflow!r}", f"its definition is {definition!r}", "Write definition = S(...)."
        )
    return _Compiler(workflow, definition, scope).compile(fields_version)


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
            tuple(self.outline),
            self.names.renamed.now,
            self.names.renamed_waits.now,
            fields_version,
            self.scope.methods,
            tuple(dict.fromkeys(self.scope.unwatched)),
            self.entry_locals,
        )

    def _thread(self, body: Body) -> None:
        self.names.restore(body.prefixes)
        self.region, self.shelter = body.region, body.shelter
        self.caught, self.each, self.cleanups = body.caught, body.each, ()
        self.thread = body.name
        self.entries[body.name] = len(self.code)
        self.note(f"thread {body.name}\n")
        if body.code is None:
            self.section(body.section)
        else:
            body.code(self)
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
        elif (compile := _compiler_of(type(statement))) is not None:
            compile(self, statement)
        else:
            raise DefinitionError(
                f"{statement!r}", "it is not a known statement", "Use the statements of workflow_core."
            )


def _compiler_of(kind: type[Statement]) -> Callable[[Assembly, Any], None] | None:
    """Returns the function that compiles a kind of statement; None if it is none of ours."""
    if (topic := _TOPICS.get(kind.__module__)) is None:
        return None
    compilers: Compilers = import_module(topic).COMPILERS
    return compilers.get(kind)
