"""Shapes of definitions that a feature of the simulation needs, beside those of ``tests.core.generate``."""

from __future__ import annotations

from tests.core.generate import ERRORS, LOG_MAX, Spec, Tape
from tests.simulation.rare import loop_of_items


def to_repair(data: bytes, *, calm: bool = False) -> list[Spec]:
    """Loops that are left early, and cleanups that wait and fail: what is hard to repair."""
    tape = Tape(data, calm=calm)

    def step() -> Spec:
        return ("step", tape.effect(), tape.of((True, False)))

    def wait() -> Spec:
        return ("select", [("A", tape.of(("none", "int", "object")), tape.effect(), []), ("", "timeout", ("x", 1), [])])

    def loop() -> Spec:
        item: Spec = ("risky", tape.effect(), ("log", "x", LOG_MAX), 0)  # which logs the number of the item
        leave = ("if", [(("log", "x", 2 + tape.below(4)), [("break",)])], None)
        return ("each", (3,), 0, [item, *tape.of(([], [wait()])), leave, step()])

    def risky() -> Spec:
        return step() if calm else ("risky", tape.effect(), tape.cond(), tape.below(len(ERRORS)))

    cleanup = [tape.of((wait, step))(), *tape.many(0, 1, risky), wait()]
    fails: list[Spec] = [] if calm else [("fail", 0)]
    body = [tape.of((loop, wait, step))(), tape.of((risky(), wait(), *fails))]
    excepts = [(tape.below(len(ERRORS) + 2), [step()])] if tape.below(2) else []
    attempt: Spec = ("try", body, excepts, cleanup)
    return [step(), *tape.of(([loop(), attempt], [attempt, loop()])), wait(), step()]


def loops(data: bytes, *, calm: bool = False) -> list[Spec]:
    """Loops whose items are not unique, and threads that are named after them, inside of statements that catch errors
    and clean up."""
    tape = Tape(data, calm=calm)

    def attempt(body: list[Spec]) -> Spec:
        excepts = tape.many(0, 1, lambda: (len(ERRORS) + 1, tape.block(0, in_loop=False, least=0)))
        cleanup = tape.thread_body(0, in_cleanup=True) if tape.below(2) or not excepts else None
        return ("try", body, excepts, cleanup)

    def loop() -> Spec:
        kind, count, form, parallel, body = loop_of_items(tape, 1, ("list", "twice", "twice", "iterator"))
        if tape.below(2):
            body.append(("go of number", [tape.select(0, in_loop=False)]))
        if not calm and tape.below(3) == 0:
            body.append(tape.of_kind("risky", 0))
        return (kind, count, form, parallel, [attempt(body)] if tape.below(3) == 0 else body)

    whole = [attempt([loop(), *tape.many(0, 1, lambda: tape.of_kind("each", 1))]), *tape.many(0, 1, loop)]
    if tape.below(2):
        whole = [("while", None, tape.select(0, in_loop=True), whole)]
    return [*whole, *tape.block(0, in_loop=False)]
