"""Records the errors of functions that the interpreter asks before a statement begins, and that the definition catches.

Such a function computes an input, a delay or an id. An error of it is thrown at its statement, in the middle of a
transition, and the history does not tell of it. Whether the code has a mistake at that moment depends on the process
that runs it, so the executor cannot know. It is told, and throws the same error at the same statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from workflow_core import Execution, Thread
from workflow_core.machine import instructions
from workflow_core.machine.state import MachineState
from workflow_core.program.code import CodeOp, Instruction


@dataclass(eq=False)
class Catch:
    """An error that was caught: in which thread, and of which statement."""

    thread: str
    statement: str
    error: Exception
    is_written: bool = False


class Catches:
    """The errors that were caught in memory and are not yet written."""

    def __init__(self) -> None:
        self._by_execution: dict[int, tuple[Execution, list[Catch]]] = {}  # which stays alive, so its id is its own

    def of(self, execution: Execution) -> Sequence[Catch]:
        """Returns what was caught in the execution that is about to be written."""
        _, caught = self._by_execution.get(id(execution), (None, []))
        return tuple(catch for catch in caught if not catch.is_written)

    def saved_as(self, stored: Execution, execution: Execution) -> None:
        """What was caught in an execution is about to be written by a copy of it."""
        self._by_execution[id(stored)] = stored, list(self.of(execution))

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records what is caught inside of the block."""
        catch = instructions._caught

        def catching(machine: MachineState, thread: Thread, instruction: Instruction, error: BaseException) -> Any:
            landed = catch(machine, thread, instruction, error)
            assert isinstance(error, Exception)
            if isinstance(instruction, CodeOp):
                return landed  # a ``raise`` of a plain definition, which the tree of the model has, too
            _, caught = self._by_execution.setdefault(id(machine.execution), (machine.execution, []))
            told = type(error).__new__(type(error), *error.args)  # ``copy`` calls ``__init__``, which may take others
            told.__dict__.update(vars(error))
            told.__notes__ = []  # which have the name of the statement in this revision
            caught.append(Catch(thread.id, instruction.name, told))
            return landed

        with patch.object(instructions, "_caught", catching):
            yield
