"""``Machine``: what users of this package hold. It puts the functions of the other files together, as methods."""

from __future__ import annotations

from workflow_core.machine import calls, due, events, instructions, operations, results, saves, threads, unwinding
from workflow_core.machine.state import MachineState


class Machine(MachineState):
    """One instance in memory, and everything that can happen to it; for the arguments see ``MachineState``.

    Theory of operation:

    The machine does no I/O, reads no clock and draws no random number, so tests can replay every history with plain
    values. It never calls a user's step, setup or teardown on its own: ``next_work`` says what is due, the caller
    performs it with ``call`` and reports with ``done`` or ``failed``. ``run_alone`` does all of this in one call, for
    a caller that awaits nothing. Conditions and condition handlers are called here: they only read or change fields.

    1. A transition is one of: a thread starts (or starts anew), a condition was seen true, an event was handled, a
       step, a setup or a teardown was done or has failed, an operator did something. Each adds 1 to the pc of the
       instance. The state may be saved after any of them, and going on from that save gives the same end. This holds
       because the execution and the fields are all that the machine knows; ``allowances`` only stops endless loops.
    2. A thread rests only on a step, a select or a wait for a condition. Its ``pc`` there is that of the transition
       that brought it, so thread id and pc identify the visit. Wait ids and idempotency keys are made of the two.
    3. An illegal call raises an error before anything is changed. If a user's function raises in the middle of a
       transition, the caller discards the fields and the execution, and goes on from the last save.
    4. When an execution ends, by its main thread or by a failure, every event that is still set up is torn down.

    These break if an execution is changed without counting its pc, if the machine keeps anything that a later
    transition depends on, or if the caller awaits something between the first and the last change of a transition.
    """

    __slots__ = ()

    # What is due, and the user's code behind it
    next_work = due.next_work
    settle = due.settle
    call = results.call
    is_async = results.is_async
    policy = results.policy

    # What became of it
    take_in = results.take_in
    done = results.done
    failed = results.failed
    retry_errors = results.retry_errors
    drop = results.drop
    give_up = results.give_up
    fail = results.fail
    tick = results.tick
    saved = saves.saved

    # Events
    accepted = events.accepted
    accept = events.accept
    accepted_names = events.accepted_names
    handle = events.handle
    handle_json = events.handle_json
    handled = events.handled
    buffers = events.buffers
    kept_as = events.kept_as
    comes_later = events.comes_later
    buffer = events.buffer

    # Activities and children
    activity = calls.activity
    call_activity = calls.call_activity
    heartbeat = calls.heartbeat
    activity_failed = calls.activity_failed
    child = calls.child
    result_json = calls.result_json
    child_failed = calls.child_failed

    # Operations
    cancel = operations.cancel
    pause = operations.pause
    unpause = operations.unpause
    retry = operations.retry
    goto = operations.goto

    # Threads and instructions
    run = instructions.run
    run_alone = instructions.run_alone
    start_of = threads.start_of
    check = threads.check
    tries_again = unwinding.tries_again
    catches = unwinding.catches
