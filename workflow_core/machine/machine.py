"""``Machine``: what users of this package hold. It puts the functions of the other files together, as methods.

Glossary. Each verb has one meaning in all files of the machine.

An event, a timeout or a result:

* accept: find the wait that it is for. Changes nothing. ``accept`` raises if there is none; what says who waits
  (``accepted``, ``accepted_by``, ``activity``, ``child``) gives nothing then.
* handle: call the user's handler with it (``handle``, ``handle_json``, ``handle_result``). May change the fields, never
  the execution.
* handled: the report that it was handled. The thread leaves its wait and moves on.
* buffer: keep an event for a later wait (``buffers`` says whether it is kept at all). ``first_buffered`` is delivered
  next; ``unbuffer`` takes it out when it was delivered, or was refused by its handler (``drop``).

Work:

* call: call the user's code behind it.
* done: the report that it was performed.
* failed: the report that one attempt has failed (``failed``, ``activity_failed``, noted by ``note_failed_step`` and
  ``note_failed_attempt``). Another attempt may follow. A child that has failed is not started again: for
  ``child_failed`` no attempt follows.
* give up: the report that no attempt follows.
* fail: an error without a further attempt takes effect: for a statement (``fail_statement``: its thread goes on where
  the error is caught), for a branch, and, if nothing catches it, for the instance (``fail_instance``; ``fail`` for a
  caller that says so).

Threads:

* run: move a thread through instructions until it rests.
* park: let it rest on a wait. leave: end that wait.
* depart: walk out of the sections around a statement, because of an error or a cancellation. ``catches`` says before
  whether an error would be caught.
"""

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
    handle_result = results.handle_result
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
    buffered_signature = events.buffered_signature
    is_behind_buffered = events.is_behind_buffered
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
