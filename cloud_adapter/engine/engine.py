"""The engine: how one instance moves, safely. This file holds what the outside may ask of it.

It knows the ports alone, never an adapter. Its promises, and what they rest on:

* An event's effect is committed exactly once: the handler works on a copy in memory, and the commit succeeds only
  on the version that was loaded. Whoever loses loads again and decides anew.
* No wake-up is lost: the tasks that a state needs are created before the commit that needs them. A task that comes
  before its commit asks to be sent again; one whose commit never came, or that comes late or twice, finds nothing
  to do. Task names carry the commit's random token, so an attempt that lost cannot stand in another one's way; those
  of retries, of recovery and of tasks that put themselves off are named after what they are for and when.
* A step runs under a lease, which is a commit like any other; each commit of its holder is compared too, so a
  holder that lost its lease can no longer write.
* Each commit writes a random token. If its reply is lost, the token in the document tells that it was applied.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from datetime import timedelta

from cloud_adapter.clock import SystemClock
from cloud_adapter.document import KeyRecord
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.decisions import Leased
from cloud_adapter.engine.events import BUFFERED, SendEvent, SentEvent
from cloud_adapter.engine.idempotency import record_of, replay
from cloud_adapter.engine.inbox import Inbox
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.operations import Operation, operate
from cloud_adapter.engine.recovery import Recovery
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.registry import by_name, served
from cloud_adapter.engine.session import begin
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.tasks import ActivityTask, CollectTask, InstanceTask, ResumeTask, TimeoutTask
from cloud_adapter.engine.timers import TimeOut
from cloud_adapter.engine.user_code import RunSync
from cloud_adapter.engine.view import View, view_of
from cloud_adapter.errors import (
    Busy,
    DuplicateKey,
    InstanceExists,
    InvalidRequest,
    Unavailable,
)
from cloud_adapter.names import check_key
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Span
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import PAGE_SIZE, PAGE_SIZE_MAX, Clock, Page, Store, TaskQueue
from cloud_adapter.stores.search import search_values
from workflow_core import Status, Workflow, WorkflowError
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key

KEY_ATTEMPTS_MAX = 5
"""How often an event finds that its key was recorded, and has expired since."""


class Engine:
    """Moves the instances of some workflows.

    Args:
        workflows: the classes that are served; their names must differ.
        rng: gives tokens and jitter; a seeded one makes a run repeatable.
        run_sync: runs synchronous steps; by default in a thread.
        run_activity_sync: runs synchronous activities; by default as steps.

    Raises:
        DefinitionError: they cannot be served together, see ``by_name``.
    """

    def __init__(
        self,
        workflows: Iterable[type[Workflow]],
        store: Store,
        queue: TaskQueue,
        *,
        clock: Clock | None = None,
        options: EngineOptions | None = None,
        rng: random.Random | None = None,
        run_sync: RunSync = asyncio.to_thread,
        run_activity_sync: RunSync | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.options = options or EngineOptions()
        self.store = store
        self.queue = queue
        self.workflows: Mapping[str, type[Workflow]] = by_name(workflows)
        self._committer = Committer(store, queue, self.clock, self.options, rng or random.SystemRandom())
        self.lanes = Lanes(self._committer)
        self._inbox = Inbox(self._committer, self.lanes)
        children = Children(self._committer, self.lanes, self._inbox, self.workflow)
        self._stepper = Stepper(self._committer, self.lanes, children, run_sync)
        self._recovery = Recovery(self._committer, self._inbox, self.workflows)
        self._activities = Activities(self._committer, self.lanes, self._inbox, run_activity_sync or run_sync)

    def workflow(self, name: str) -> type[Workflow]:
        """The workflow of that name.

        Raises:
            WorkflowNotFound: none is served here.
        """
        return served(self.workflows, name)

    # --- what clients ask ----------------------------------------------------------------

    async def create(self, workflow: str, id: str, fields: bytes = b"", *, key: str | None = None) -> View:
        """Creates an instance and moves it to its first step or wait; steps are then run through the queue.

        Args:
            fields: a JSON object of initial fields; empty: their defaults.
            key: an idempotency key: the same request made again gets the instance, not an error.

        Raises:
            InstanceExists, InvalidRequest, InvalidInput, WorkflowNotFound, TooLarge, Unavailable
            UserCodeError: a condition of the workflow raised.
        """
        cls = self.workflow(workflow)
        with logs.about(workflow, id), telemetry.request(f"start {workflow}", workflow, id) as span:
            return await self._create(InstanceRef.checked(cls, id), fields, check_key(key), span)

    async def _create(self, ref: InstanceRef, fields: bytes, key: str | None, span: Span) -> View:
        now = self.clock.now()
        session = begin(ref, fields, now)
        fingerprint = stable_key("create", fields.decode("utf-8", "replace"))
        record = record_of(key, fingerprint, "", now, self.options.key_ttl)
        try:
            await self._committer.create(session, record)
        except Superseded:
            return await self._get(ref)
        except (InstanceExists, DuplicateKey):
            if await self._replay(ref, record) is None:
                raise
            span.outcome = "replayed"
            return await self._get(ref)
        return view_of(session)

    async def get(self, workflow: str, id: str) -> View:
        """The instance as it is now.

        Raises:
            InstanceNotFound, WorkflowNotFound, DamagedDocument, Unavailable
            InvalidFields: its fields do not fit their types any more.
        """
        return await self._get(self._ref(workflow, id))

    async def _get(self, ref: InstanceRef) -> View:
        return view_of(await self._committer.load(ref))

    def _ref(self, workflow: str, id: str) -> InstanceRef:
        """The instance that somebody asks for.

        Raises:
            WorkflowNotFound, InvalidRequest
        """
        return InstanceRef.checked(self.workflow(workflow), id)

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, str] | None = None,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """The instances of a workflow, those that were updated last first; at most ``PAGE_SIZE_MAX`` a page.

        Args:
            search: only those with these values in their search fields; each a text that the field's type takes.

        Raises:
            InvalidRequest, WorkflowNotFound, Unavailable
        """
        values = search_values(self.workflow(workflow), search or {})
        if status is not None and status not in set(Status):
            raise InvalidRequest(f"unknown status {status!r}. Available: {', '.join(Status)}")
        if not 1 <= limit <= PAGE_SIZE_MAX:
            raise InvalidRequest(f"limit is {limit}: give 1 to {PAGE_SIZE_MAX}")
        return await self.store.list(workflow, status=status, search=values, limit=limit, cursor=cursor)

    async def response(self, workflow: str, id: str, key: str) -> bytes | None:
        """What was answered to a request on an instance, by its idempotency key; None if it is not known (any more).

        Raises:
            InvalidRequest, WorkflowNotFound, Unavailable
        """
        ref = self._ref(workflow, id)
        check_key(key)
        stored = await self.store.load_key(ref.workflow, ref.id, key, self.clock.now())
        return None if stored is None else stored.response.encode()

    async def handle_event(
        self,
        workflow: str,
        id: str,
        event: str,
        body: bytes = b"",
        *,
        key: str | None = None,
        thread_id: str | None = None,
        wait_id: str | None = None,
    ) -> bytes:
        """Delivers an event: runs its handler, moves the instance on to its next steps or waits, and commits.

        Args:
            body: the input as JSON; empty for none.
            key: an idempotency key: the same request made again gets the first one's response and changes nothing.
            thread_id: the thread that is meant, where several wait for the event.
            wait_id: the wait that is meant; a later one for the same event does not count.

        Returns:
            The handler's output, as JSON; ``BUFFERED``, which is empty, if the event was kept until it is waited for.

        Raises:
            EventNotAccepted, EventRejected, InvalidInput, IdempotencyKeyReused, InstanceNotFound, WorkflowNotFound,
            InvalidRequest, TooLarge: nothing was changed.
            UserCodeError, InvalidFields, InvalidOutput, ExecutionError: the workflow's code is wrong; nothing was
            changed.
            Busy: the instance was busy for too long; nothing was changed.
            Unavailable: whether it was changed is not known; try again with the same key.
        """
        program = self.workflows[workflow].__program__ if workflow in self.workflows else None
        known = program is not None and program.event(event) in program.events
        with logs.about(workflow, id, statement=event), telemetry.event(workflow, id, event, known=known) as span:
            ref = self._ref(workflow, id)
            request = SentEvent(event, body, check_key(key), thread_id, wait_id)
            response = await self._handle_event(ref, request, span)
            if response == BUFFERED and not span.outcome:
                span.outcome = "buffered"
            return response

    async def _handle_event(self, ref: InstanceRef, request: SentEvent, span: Span) -> bytes:
        known = request.known_as("", self.clock.now(), self.options.key_ttl)

        async def replayed() -> bytes | None:
            stored = await self._replay(ref, known)
            if stored is not None:
                span.outcome = "replayed"
            return stored

        for attempt in range(KEY_ATTEMPTS_MAX):
            sending = SendEvent(request, self.clock, self.options, span, replayed)
            try:
                response: bytes = await self.lanes.decide(ref, sending)
                return response
            except Unavailable:
                raise
            except WorkflowError as error:
                # Made again, a request gets its response, even where it would be refused by now.
                stored = await replayed()
                if stored is not None:
                    return stored
                if not isinstance(error, DuplicateKey):
                    raise
            await self._committer.pause(attempt)  # its key was recorded, and has expired since
        raise Unavailable(f"the idempotency key {request.key!r} of {ref.id!r} changes again and again: try again")

    # --- what operators ask --------------------------------------------------------------

    async def operate(self, workflow: str, id: str, operation: Operation) -> View:
        """Carries out what an operator asks for, as ``Cancel(by="ann")``; gives the instance as it is then, or with
        ``dry_run`` as it would be.

        Raises:
            InstanceEnded, RepairRefused: it cannot be done with the instance as it is. Nothing was changed.
            InstanceNotFound, WorkflowNotFound, UnknownStatement, UserCodeError, TooLarge, Busy, Unavailable
        """
        cls = self.workflow(workflow)
        with logs.about(workflow, id), telemetry.request(f"{operation.name} {workflow}", workflow, id):
            ref = InstanceRef.checked(cls, id)
            session = await operate(self.lanes, ref, operation)
            if not operation.dry_run:
                await self._collect(ref)  # what could not come in before can now, or is of no use any more
            return view_of(session)

    async def _collect(self, ref: InstanceRef) -> None:
        """Takes an instance's inbox in, as far as that works: recovery sees to the rest."""
        try:
            await self._inbox.collect(ref)
        except WorkflowError as error:
            text = error_text(error)[:500]
            logs.transition("inbox not collected", ref.workflow, ref.id, level=logging.WARNING, error=text)

    # --- what tasks ask ------------------------------------------------------------------

    async def resume(self, body: ResumeTask) -> None:
        """Runs an instance until nothing is due.

        Raises:
            NotYet: the commit that the task belongs to has not landed yet.
            UnknownStatement: the instance stands on a statement that the definition no longer has.
            Unavailable: try again.
        """
        ref, began = self._ref_of(body), self.clock.now()
        await self._stepper.resume(ref, body)
        if self.clock.now() - began >= self.options.max_wait:
            await self._collect(ref)  # what could not wait for the lease's end has been posted

    async def handle_timeout(self, body: TimeoutTask) -> None:
        """Delivers a timeout, if its thread still waits for it. A late or duplicate one changes nothing, an early
        one is scheduled again.

        Raises:
            NotYet: the commit that the task belongs to has not landed yet.
            UnknownStatement: the instance stands on a statement that the definition no longer has.
            Unavailable: try again.
        """
        ref = self._ref_of(body)
        timeout = TimeOut(body, self.options, self._activities)
        try:
            again = await self.lanes.decide(ref, timeout)
            if timeout.wants_inbox:
                # The result may be there: while some of it cannot be taken in, the attempt is not over.
                again = await self._inbox.collect(ref)
                if again is None:
                    timeout = TimeOut(body, self.options, self._activities, has_collected=True)
                    again = await self.lanes.decide(ref, timeout)
        except Busy as error:
            again = error.until if isinstance(error, Leased) else self.clock.now()
        if again is not None:
            await self.queue.create(body.later(again, self.clock.now(), timeout.pc))

    async def run_activity(self, body: ActivityTask) -> None:
        """Runs an attempt of an activity and brings its result in, unless it is over.

        Raises:
            NotYet: the commit that the task belongs to has not landed yet.
            Unavailable: try again.
        """
        await self._activities.run(self._ref_of(body), body)

    async def collect(self, body: CollectTask) -> None:
        """Takes in what was posted to an instance's inbox.

        Raises:
            Unavailable: try again.
        """
        await self._inbox.run(self._ref_of(body), body)

    async def check_store(self) -> None:
        """Reads once.

        Raises:
            Unavailable: the store does not answer.
        """
        await self.store.ping()

    async def recover(self, *, ahead: timedelta = timedelta(), limit: int = 1000) -> int:
        """Schedules again what should be moving and is not: after a crash, a lost task, a purged queue.

        What cannot be moved by this code is logged and passed over: it stands on a statement that is gone, or waits for
        a timeout that is, its fields no longer fit, a condition raises, or its workflow is not served here.

        Args:
            ahead: also what will be due within that time.
            limit: how many instances are scheduled at most, the longest overdue first.

        Returns:
            How many instances were scheduled.

        Raises:
            Unavailable: try again.
        """
        return await self._recovery.run(ahead, limit)

    def _ref_of(self, body: InstanceTask) -> InstanceRef:
        """The instance that a task is for.

        Raises:
            WorkflowNotFound: its workflow is not served here.
        """
        return InstanceRef(self.workflow(body.workflow), body.id)

    async def _replay(self, ref: InstanceRef, record: KeyRecord | None) -> bytes | None:
        return await replay(self.store, self.clock, ref, record)
