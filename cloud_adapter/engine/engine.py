"""The engine: moves instances safely. This module is its public interface.

The engine depends only on the ports, never on an adapter. Its guarantees, and why they hold:

* The effect of an event is committed exactly once. The handler works on a copy in memory, and the commit succeeds only
  if the stored document is still the version that was loaded. If another commit came first, the instance is loaded
  again and the decision is made again.
* No wake-up is lost. The tasks that a state needs are created before the commit that needs them. A task that is
  delivered before its commit is redelivered later. A task whose commit was never made, or that is delivered late or
  twice, finds nothing to do. Names of tasks contain the commit's random token, so that the tasks of a lost commit do
  not block those of another one. Tasks of retries, of recovery, and tasks that were postponed are named after their
  purpose and time.
* A step runs under a lease. Taking a lease is a commit like any other. Each commit of the holder is compared too, so a
  holder that has lost its lease can no longer write.
* Each commit writes a random token. If its reply is lost, the token in the document shows that it was applied.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from datetime import timedelta

from cloud_adapter.callbacks import Callbacks
from cloud_adapter.clock import SystemClock
from cloud_adapter.document import KeyRecord
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Leased
from cloud_adapter.engine.events import BUFFERED, LATER, SentEvent
from cloud_adapter.engine.inbox import Inbox
from cloud_adapter.engine.kept_events import KeptEvents, Outcome, TakeEvents
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.listing import Listing
from cloud_adapter.engine.operations import Operation
from cloud_adapter.engine.permissions import callback_of
from cloud_adapter.engine.recovery import Recovery
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.registry import by_name, served, without
from cloud_adapter.engine.requests import Requests
from cloud_adapter.engine.running_calls import RunningCalls
from cloud_adapter.engine.secrets import Secrets
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.tasks import ActivityTask, CollectTask, InstanceTask, ResumeTask, TimeoutTask
from cloud_adapter.engine.timers import TimeOut
from cloud_adapter.engine.user_code import RunSync
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy
from cloud_adapter.names import check_key
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.audit import Audit
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import PAGE_SIZE, Clock, Codec, Order, Page, Store, TaskQueue
from workflow_core import Action, Callback, ExecutionError, Principal, Workflow
from workflow_core.access import is_everyone


class Engine:
    """Moves the instances of the given workflows.

    Args:
        workflows: the workflow classes to serve. Their names must differ.
        internal: those of them that no client may address. Only other workflows start them, as children.
        callbacks: makes and checks the URLs of callbacks; None: there are none.
        rng: generates tokens and jitter. With a seeded generator, a run is repeatable.
        run_sync: runs synchronous steps; by default, in a thread.
        run_activity_sync: runs synchronous activities; by default, ``run_sync``.
        codec: encrypts secrets before they are stored; by default, they are stored as they are.

    Attributes:
        running: the calls of user code that run at the moment.
        addressable: the workflows that are not internal, by name.

    Raises:
        DefinitionError: the workflows cannot be served together; see ``by_name``.
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
        internal: Iterable[type[Workflow]] = (),
        codec: Codec | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.options = options or EngineOptions()
        self.store = store
        self.queue = queue
        self.workflows: Mapping[str, type[Workflow]] = by_name(workflows)
        self.addressable: Mapping[str, type[Workflow]] = without(self.workflows, internal)
        self.callbacks = callbacks
        secrets, rng = Secrets(codec, self.workflows), rng or random.SystemRandom()
        urls = None if callbacks is None else self._callback_url
        self._committer = Committer(store, queue, self.clock, self.options, rng, secrets, urls)
        audit = Audit(self.clock)
        self.lanes = Lanes(self._committer, KeptEvents(self._committer, audit))
        self._inbox = Inbox(self._committer, self.lanes)
        self._inbox.register(TakeEvents.kind, lambda data: TakeEvents())
        children = Children(self._committer, self.lanes, self._inbox, self.workflow)
        self._requests = Requests(self._committer, self.lanes, self._inbox, audit, self.workflow)
        self.running = RunningCalls(self.clock)
        self._stepper = Stepper(self._committer, self.lanes, children, run_sync, self.running)
        self.recovery = Recovery(self._committer, self._inbox, self.workflows)
        self._activities = Activities(
            self._committer, self.lanes, self._inbox, run_activity_sync or run_sync, self.running
        )

    def workflow(self, name: str, principal: Principal | None = None) -> type[Workflow]:
        """Returns the workflow of that name.

        Raises:
            WorkflowNotFound: this engine does not serve it, or it is internal and the principal is a client. Outside
                systems may send callbacks to internal workflows.
        """
        if principal is None or callback_of(principal, name) is not None:
            return served(self.workflows, name)
        return served(self.addressable, name, names=is_everyone(principal))

    # --- requests of clients -------------------------------------------------------------

    def check_role(self, workflow: str, action: Action, principal: Principal | None, *, id: str = "") -> type[Workflow]:
        """Checks whether the roles of a principal allow to read, list or create instances at all. Call it before
        anything about the workflow can show in an answer, such as an error of a form or a query. Returns the workflow.

        Raises:
            WorkflowNotFound, InvalidRequest
            InstanceNotFound, Forbidden, Unauthenticated: they do not. This is logged.
        """
        cls = self.workflow(workflow, principal)
        if principal is not None:
            self._requests.check_role(InstanceRef.checked(cls, id) if id else InstanceRef(cls, id), action, principal)
        return cls

    async def create(
        self,
        workflow: str,
        id: str,
        fields: bytes = b"",
        *,
        key: str | None = None,
        principal: Principal | None = None,
    ) -> View:
        """Creates an instance and moves it to its first step or wait. The queue then runs its steps.

        Args:
            fields: a JSON object of initial fields; empty: their defaults. A principal may only set ``create_fields``.
            key: an idempotency key. If the request is repeated, it returns the instance instead of an error.
            principal: who creates it; None: code of this process, which may do everything.

        Raises:
            InstanceExists, InvalidRequest, InvalidInput, WorkflowNotFound, TooLarge, Unavailable
            Forbidden, Unauthenticated: the principal may not create it.
            UserCodeError: a condition of the workflow raised.
        """
        cls = self.workflow(workflow, principal)
        with logs.about(workflow, id), telemetry.request(f"start {workflow}", workflow, id) as span:
            ref = InstanceRef.checked(cls, id)
            return await self._requests.create(ref, fields, check_key(key), span, principal)

    async def get(self, workflow: str, id: str, *, principal: Principal | None = None) -> View:
        """Returns the current state of the instance.

        Raises:
            InstanceNotFound: also if the principal may not read it.
            WorkflowNotFound, Unauthenticated, DamagedDocument, Unavailable
            InvalidFields: its fields no longer match their types.
        """
        return await self._requests.get(self._requests.ref(workflow, id, principal), principal)

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, str] | None = None,
        order: str = Order.UPDATED,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
        principal: Principal | None = None,
    ) -> Page:
        """Lists the instances of a workflow. A page has at most ``PAGE_SIZE_MAX`` instances.

        Args:
            search: returns only instances with these values in their search fields. Each value is a text that the
                field's type can parse.
            order: the value of an ``Order``.
            principal: who asks. The list then contains only instances that are ``visible`` to it.

        Raises:
            InvalidRequest, WorkflowNotFound, Unavailable
            Forbidden, Unauthenticated: the principal may not list instances.
            UserCodeError: ``visible`` of the workflow is wrong.
        """
        cls = self.check_role(workflow, Action.LIST, principal)
        listing = Listing.checked(cls, status, search or {}, order, limit, cursor)
        return await self._requests.list(listing, principal)

    async def recorded(
        self, workflow: str, id: str, key: str, *, principal: Principal | None = None
    ) -> KeyRecord | None:
        """Returns the record of an earlier request on an instance, by its idempotency key; None if there is none or it
        has expired. A principal finds only its own requests.

        Raises:
            InvalidRequest, WorkflowNotFound, Unavailable
            InstanceNotFound, Unauthenticated: the principal may not read the instance.
        """
        ref = self._requests.ref(workflow, id, principal)
        check_key(key)
        return await self._requests.recorded(ref, key, principal)

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
        principal: Principal | None = None,
        outcome: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Delivers an event: runs its handler, moves the instance to its next steps or waits, and commits.

        Args:
            body: the input as JSON; empty for none.
            key: an idempotency key. If the request is repeated, it returns the first response and changes nothing.
                Principals do not share keys.
            thread_id: selects a thread, if several wait for the event.
            wait_id: selects a wait. A later wait for the same event does not match.
            principal: who sends it; None: code of this process, which may send everything. For a callback, its own key,
                thread and wait count.
            headers: the headers of the request, for ``On(..., verify=...)``.
            outcome: if the instance is busy for long, the event may be decided later, and ``outcome`` returns what has
                become of it under this text. Pass the same text with each attempt, and for no other request.

        Returns:
            The handler's output as JSON; ``BUFFERED``, which is empty, if the event was buffered; or ``LATER``.

        Raises:
            EventNotAccepted, CallbackNotAccepted, EventRejected, InvalidInput, IdempotencyKeyReused, InstanceNotFound,
            WorkflowNotFound, InvalidRequest, TooLarge, Forbidden, Unauthenticated: nothing was changed.
            UserCodeError, InvalidFields, InvalidOutput, ExecutionError: the workflow's code has an error. Nothing was
            changed.
            Busy: the instance was busy for too long. Nothing was changed.
            Unavailable: it is unknown whether the instance was changed. Try again with the same key.
        """
        with logs.about(workflow, id, statement=event), telemetry.event(workflow, id, event, self.workflows) as span:
            ref = self._requests.ref(workflow, id, principal)
            request = SentEvent(event, body, check_key(key), thread_id, wait_id, outcome, headers or {}).sent_by(
                principal
            )
            response = await self._requests.handle_event(ref, request, span, principal)
            if response in (BUFFERED, LATER) and not span.outcome:
                span.outcome = "later" if response else "buffered"
            return response

    async def outcome(
        self, workflow: str, id: str, outcome: str, *, principal: Principal | None = None
    ) -> Outcome | None:
        """Returns what has become of an event that was accepted for later; None if it is unknown, or was forgotten, or
        was sent by somebody else than the principal, unless that is an operator.

        Raises:
            WorkflowNotFound, InvalidRequest, Unavailable
            InstanceNotFound, Unauthenticated: the principal may not read the instance.
        """
        return await self._requests.outcome(self._requests.ref(workflow, id, principal), outcome, principal)

    def _callback_url(self, callback: Callback, expires: timedelta) -> str:
        """Returns the URL of a callback. Steps and setups call it."""
        assert self.callbacks is not None
        program = self.workflows[callback.workflow].__program__
        if program.event(callback.event) not in program.events:
            events = ", ".join(map(repr, program.events)) or "none"
            raise ExecutionError(f"callback_url: unknown event {callback.event!r}. Available: {events}")
        return self.callbacks.url(callback, expires)

    # --- requests of operators -----------------------------------------------------------

    async def operate(
        self, workflow: str, id: str, operation: Operation, *, principal: Principal | None = None
    ) -> View:
        """Carries out an operation, such as ``Cancel(by="ann")``. Returns the instance after it; with ``dry_run``, as
        it would be.

        Raises:
            InstanceEnded, RepairRefused: the operation is not possible in the instance's state. Nothing was changed.
            Forbidden, Unauthenticated: the principal may not request it. Nothing was changed.
            InstanceNotFound, WorkflowNotFound, UnknownStatement, UserCodeError, TooLarge, Busy, Unavailable
        """
        cls = self.workflow(workflow, principal)
        with logs.about(workflow, id), telemetry.request(f"{operation.name} {workflow}", workflow, id):
            return await self._requests.operate(InstanceRef.checked(cls, id), operation, principal)

    # --- requests of tasks ---------------------------------------------------------------

    async def resume(self, body: ResumeTask) -> None:
        """Runs an instance until nothing is due.

        Raises:
            NotYet: the commit that the task belongs to is not complete yet.
            UnknownStatement: the instance is at a statement that the definition no longer has.
            Unavailable: try again.
        """
        ref, began = self._ref_of(body), self.clock.now()
        await self._stepper.resume(ref, body)
        if self.clock.now() - began >= self.options.keeps_after:
            await self._inbox.try_collect(ref)  # what could not wait for the lease's end was posted to the inbox

    async def handle_timeout(self, body: TimeoutTask) -> None:
        """Delivers a timeout, if its thread still waits for it. A late or duplicate task changes nothing. An early task
        is scheduled again.

        Raises:
            NotYet: the commit that the task belongs to is not complete yet.
            UnknownStatement: the instance is at a statement that the definition no longer has.
            Unavailable: try again.
        """
        ref = self._ref_of(body)
        timeout = TimeOut(body, self.options, self._activities)
        try:
            again = await self.lanes.decide(ref, timeout)
            if timeout.wants_inbox:
                # The result may be in the inbox. While an entry cannot be processed, the attempt is not over.
                again = await self._inbox.collect(ref)
                if again is None:
                    timeout = TimeOut(body, self.options, self._activities, has_collected=True)
                    again = await self.lanes.decide(ref, timeout)
        except Busy as error:
            again = error.until if isinstance(error, Leased) else self.clock.now()
        if again is not None:
            await self.queue.create(body.later(again, self.clock.now(), timeout.pc))

    async def run_activity(self, body: ActivityTask) -> None:
        """Runs an attempt of an activity and delivers its result, unless the attempt is over.

        Raises:
            NotYet: the commit that the task belongs to is not complete yet.
            Unavailable: try again.
        """
        await self._activities.run(self._ref_of(body), body)

    async def collect(self, body: CollectTask) -> None:
        """Processes the entries in an instance's inbox.

        Raises:
            Unavailable: try again.
        """
        await self._inbox.run(self._ref_of(body), body)

    async def check_store(self) -> None:
        """Checks the store with one read. Raises ``Unavailable`` if it does not answer."""
        await self.store.ping()

    async def recover(
        self, *, ahead: timedelta = timedelta(), limit: int = 1000, seconds: float = 3600, try_postponed: bool = False
    ) -> int:
        """Schedules instances again that should be moving but are not: after a crash, a lost task, or a purged queue.

        Instances that this code cannot move are logged and skipped: the definition no longer has their statement or
        timeout, their fields no longer match their types, a condition raises, or this engine does not serve their
        workflow. They are postponed (see ``recovery.py``), unless they change, or code in a new process can move them.

        Args:
            ahead: also schedules instances that will be due within this time.
            limit: the most instances to schedule, the longest overdue first. The next call goes on after them. At most
                half of the limit is for postponed instances.
            seconds: after this time, no more instances are looked at. The next call goes on.
            try_postponed: also tries the postponed instances, even if this is not the first call.

        Returns: the number of scheduled instances.

        Raises:
            Unavailable: try again.
        """
        return await self.recovery.run(ahead, limit, seconds, try_postponed)

    def _ref_of(self, body: InstanceTask) -> InstanceRef:
        """Returns the reference of a task's instance.

        Raises:
            WorkflowNotFound: this engine does not serve its workflow.
        """
        return InstanceRef(self.workflow(body.workflow), body.id)
