"""``Machine``: the class that users of this package work with. Its methods are the functions of the other files.

Glossary. Each verb has one meaning in all files of the machine.

For an event, a timeout or a result:

* accept: find the wait that it is for. Changes nothing. If there is no such wait, ``accept`` raises an error; the
  functions that only look it up (``find``, ``find_all``, ``accepted``, ``accepted_by``, ``activity``, ``child``) return
  nothing.
* handle: call the user's handler with it (``handle``, ``handle_json``, ``handle_result``). May change the fields, never
  the execution.
* handled: report that it was handled. The thread leaves its wait and moves on.
* buffer: keep an event for a later wait. ``buffers`` says whether an event may be buffered. ``first_buffered`` is
  delivered next; ``unbuffer`` removes it after it was delivered or its handler rejected it (``drop``).

For work:

* call: call the user's code.
* done: report that the work was performed.
* failed: report that one attempt has failed (``failed``, ``activity_failed``, stored by ``note_failed_step`` and
  ``note_failed_attempt``). Another attempt may follow. A failed child is not started again: after ``child_failed``, no
  attempt follows.
* give up: report that no attempt follows.
* fail: apply an error that has no further attempt: to a statement (``fail_statement``: the thread continues where the
  error is caught), to a branch, and, if nothing catches it, to the instance (``fail_instance``; callers use ``fail``).

For threads:

* run: move a thread through instructions until it rests.
* park: let it rest on a wait.
* leave: end that wait.
* depart: walk out of the sections around a statement, because of an error or a cancellation. ``catches`` tells in
  advance whether an error would be caught.
"""

from __future__ import annotations

from workflow_core.machine import (
    calls,
    due,
    events,
    instructions,
    operations,
    results,
    saves,
    stored_values,
    threads,
    unwinding,
)
from workflow_core.machine.state import MachineState


class Machine(MachineState):
    """One instance in memory, and everything that can happen to it. For the arguments, see ``MachineState``.

    Theory of operation:

    The machine does no I/O, reads no clock and draws no random numbers, so tests can replay every history with plain
    values. It never calls a user's step, setup or teardown on its own: ``next_work`` returns what is due, the caller
    performs it with ``call`` and reports the result with ``done`` or ``failed``. ``alone.py`` does all of this in one
    call, for a caller that awaits nothing. The machine does call conditions and their handlers itself, because they
    only read or change fields.

    1. A transition is one of the following: a thread starts or restarts; a condition is true; an event was handled; a
       step, a setup or a teardown was done or has failed; an operator changed the instance. Each adds 1 to the pc of
       the instance. The state may be saved after any of them, and continuing from that save leads to the same result.
       The reason: the machine knows nothing but the execution and the fields; ``allowances`` only stops endless loops.
    2. A thread rests only on a step, a select or a wait for a condition. Its ``pc`` there is the pc of the transition
       that brought it there, so the thread id and the pc identify the visit. Wait ids and idempotency keys are derived
       from these two.
    3. An illegal call raises an error before anything is changed. If a user's function raises an error in the middle of
       a transition, the caller discards the fields and the execution, and continues from the last save.
    4. When an execution ends, by its main thread or by a failure, every event that is still set up is torn down.

    These properties break if an execution is changed without counting its pc, if the machine keeps any other state that
    a later transition depends on, or if the caller awaits something between the first and the last change of a
    transition.
    """

    __slots__ = ()

    # What is due, and how to perform it
    next_work = due.next_work
    settle = due.settle
    call = results.call
    is_async = results.is_async
    policy = results.policy

    # The results of work
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
    find = events.find
    find_all = events.find_all
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
    report = calls.report
    activity_failed = calls.activity_failed
    child = calls.child
    result = calls.result
    child_failed = calls.child_failed

    # Operations
    cancel = operations.cancel
    terminate = operations.terminate
    pause = operations.pause
    unpause = operations.unpause
    retry = operations.retry
    goto = operations.goto

    # Threads and instructions
    run = instructions.run
    start_of = threads.start_of
    check = threads.check
    check_values = stored_values.check_values
    note_version = stored_values.note_version
    tries_again = unwinding.tries_again
    catches = unwinding.catches
