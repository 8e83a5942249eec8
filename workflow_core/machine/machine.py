"""``Machine``: what users of this package hold. It puts the functions of the other files together, as methods."""

from __future__ import annotations

from workflow_core.machine import calls, events, instructions, operations, results, threads, unwinding, work
from workflow_core.machine.state import MachineState


class Machine(MachineState):
    """One instance in memory, and all that can happen to it; for the arguments see ``MachineState``.

    Theory of operation:

    It does no I/O, reads no clock and draws no random number, so that every history can be replayed with plain values.
    It never calls a user's step, setup or teardown by itself: ``next_work`` says what is due, the caller performs it
    with ``call`` and reports with ``done`` or ``failed``; ``run_alone`` is these in one, for a caller that awaits
    nothing. Conditions and condition handlers, which only look at fields and change them, are called here.

    1. A transition is one of: a thread starts (or starts anew), a condition was seen true, an event was handled, a
       step, a setup or a teardown was done or has failed, or an operator's action. Each adds 1 to the instance's
       pc; the state may be saved after any of them, and going on from there gives the same end. This holds because
       all that the machine knows is in the execution and the fields; what else it keeps (``allowances``) only
       says when to stop an endless loop.
    2. A thread comes to rest only on a step, a select or a wait for a condition. Its ``pc`` there is that of the
       transition that brought it, so thread id and pc name the visit uniquely: wait ids and idempotency keys are made
       of the two.
    3. What is not legal raises before anything is changed. Where a user's function raises in the midst of a
       transition, the caller discards the fields and the execution, and goes on from what was saved last.
    4. When an execution ends, by its main thread or by a failure, every event still set up is to be torn down.

    What breaks these: to change an execution without counting its pc; to keep something in the machine that the next
    transition depends on; to await between the first change of a transition and its last.
    """

    __slots__ = ()

    # What is due, and the user's code behind it
    next_work = work.next_work
    call = work.call
    is_async = work.is_async
    policy = work.policy

    # What became of it
    settle = results.settle
    take_in = results.take_in
    done = results.done
    failed = results.failed
    retry_errors = results.retry_errors
    drop = results.drop
    give_up = results.give_up
    fail = results.fail
    tick = results.tick

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
