"""What a thread has stored about the sections around it, after the code has changed.

A thread stores its position in a loop, the error that an ``except_`` section has caught, and why it is in a
``finally_`` section, each under the name of the section. Statements may be put into a new section while threads are at
them: such a thread has nothing stored for it, and counts as being at its first item. But if a section has got another
name, what is stored under the former one would no longer be found: the loop would do its first items again, and the
error that waits for the end of a ``finally_`` section would be lost. The instance must wait until the code has that
name again, as when the statement itself is missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from workflow_core.errors import UnknownStatement
from workflow_core.execution import Thread
from workflow_core.program.code import Instruction, loops_around
from workflow_core.program.program import Program


def check_surroundings(program: Program, thread: Thread, instruction: Instruction) -> None:
    """Checks that what a thread has stored belongs to the sections that are around it.

    Raises:
        UnknownStatement: a section has no longer the name under which the thread has stored something.
    """
    _check_former(program, thread, "finally_ of the Try", thread.pending)
    if any(each.name not in thread.positions for each in loops_around(instruction)):
        _check_former(program, thread, "ForEach", thread.positions)
    if any(name not in thread.errors for name in instruction.caught):
        _check_former(program, thread, "except_", thread.errors)


def _check_former(program: Program, thread: Thread, kind: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in program.sections:
            raise UnknownStatement(
                f"an instance of {program.workflow!r} is at {thread.step!r} in the {kind} {name!r}, which the "
                f"definition no longer has around it. Restore it (in run, a loop has the name of its variable, a try "
                f"that of its first call), set renamed_from={name!r} on the statement that replaces it, or repair the "
                f"instance"
            )
