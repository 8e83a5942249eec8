"""Shapes of definitions that a feature of the simulation needs, beside those of ``tests.core.generate``."""

from __future__ import annotations

from tests.core.generate import ERRORS, LOG_MAX, Spec, Tape


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
