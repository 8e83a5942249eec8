"""The clients of a simulation. They create and view instances, send events, and repeat requests, with and without
idempotency keys.

They compare the responses with what was committed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.events import BUFFERED, LATER
from cloud_adapter.engine.operations import ACTIONS, Operation
from cloud_adapter.engine.view import View
from cloud_adapter.errors import (
    Busy,
    DamagedDocument,
    IdempotencyKeyReused,
    InstanceEnded,
    InstanceExists,
    InstanceNotFound,
    TooLarge,
    Unavailable,
    UserCodeError,
)
from tests.core.generate import EVENTS
from tests.simulation.actors import Actor, Operator
from tests.simulation.flows import ADDED, BROKEN, REJECTED
from tests.simulation.mistakes import MISTAKEN
from tests.simulation.model.events import KEPT
from tests.simulation.model.instance import Model
from tests.simulation.model.violations import require
from tests.simulation.outcomes import ask_for_outcome
from tests.simulation.principals import member
from tests.simulation.processes import Process
from tests.simulation.requests import LOST, Call, Group, Request
from tests.simulation.typed import drawn
from workflow_core import DuplicateThread, EventNotAccepted, EventRejected, InvalidInput, NewerVersion, UnknownStatement

if TYPE_CHECKING:
    from tests.simulation.world import World

PATIENCE_SECONDS = 45.0
"""How long a client waits for an answer."""


class Client:
    """One client of one instance; what it does is drawn from a stream of its own.

    Args:
        creates: it begins by creating the instance.
        operates: how often it cancels or pauses it.
    """

    def __init__(
        self,
        world: World,
        model: Model,
        name: str,
        *,
        creates: bool = True,
        operates: float = 0.06,
    ) -> None:
        self.world = world
        self.model = model
        self.name = name
        self.rng = world.scenario.stream(f"client {name}")
        self.late = world.scenario.stream(f"late repetitions of {name}")
        self.spoilt = world.scenario.stream(f"spoilt events of {name}")
        self.patient = world.scenario.stream(f"patience of {name}")
        self.odd = world.scenario.stream(f"odd events of {name}")
        self.principal = member(world.scenario, world.settings, name)
        self.outcomes = world.scenario.stream(f"outcomes of {name}")
        self.requests = min(self.rng.randrange(1, 9), world.scenario.requests)
        self.creates = creates
        self.operates = operates
        self.calls = 0

    async def run(self) -> None:
        if self.creates:
            await self.create()
        for number in range(self.requests):
            await self.world.wait(self.rng.expovariate(1 / self.world.settings.pause_seconds))
            point = self.rng.random()
            if point < self.operates and not self.world.settings.is_peaceful:
                await self.operate("cancel" if point < self.operates / 2 else "pause")
                if point >= self.operates / 2:
                    await self.world.wait(self.rng.expovariate(1 / 60))
                    await self.operate("unpause")
            request = await self.choose(f"{self.name}-{number}")
            if self.rng.random() < 0.2:
                await self.burst(request)
                continue
            twins = 2 if request.key is not None and self.rng.random() < 0.1 else 1
            await self.world.all(self.insist(request) for _ in range(twins))
            if request.key is not None and self.rng.random() < 0.2:
                await self.insist(request)  # whose answer has got lost on the way to a user
            elif request.key is not None and self.rng.random() < 0.05:
                other = Request(self.model, request.event, b"2", key=request.key, group=request.group)
                other.outcome = request.outcome and f"{request.outcome}-other"
                request.group.requests += 1
                await self.insist(other)
            if request.key is not None and self.world.settings.has_short_keys and self.late.random() < 0.5:
                await self.world.wait(self.late.uniform(0, 3) * self.world.settings.options.key_ttl.total_seconds())
                await self.insist(request)  # whose key may have expired

    async def create(self) -> None:
        body = self.rng.choice((b"", b"{}", b'{"x": 2}', b'{"y": -1, "x": 1}'))
        key = f"{self.name}-create" if self.rng.random() < 0.5 else None
        if self.world.settings.has_rare_statements:
            await self.insist(Request(self.model, "", b'{"x": "many"}', key=key))  # which is invalid
        if self.world.settings.has_typed_fields:
            body = json.dumps(json.loads(body or b"{}") | drawn(self.odd)).encode()
        await self.insist(Request(self.model, "", body, key=key))

    async def choose(self, key: str) -> Request:
        """An event that is accepted, or was, or any other."""
        rng = self.rng
        event, takes_input = rng.choice(EVENTS), rng.random() < 0.5
        thread_id = wait_id = None
        inputs: tuple[int, ...] = (-3, -2, -1, 0, 1, 2, 3)
        kept = self.model.events.keepable
        if kept and rng.random() < 0.3:
            event, takes_input = rng.choice(kept), True
            if self.spoilt.random() < 0.4:
                inputs = REJECTED, BROKEN  # which is seen when it is delivered
        elif rng.random() < 0.75:
            view = await self.look()
            if view is not None and view.accepted:
                one = rng.choice(view.accepted)
                event = one.case.event
                takes_input = one.case.signature is not None and one.case.signature.takes_input
                way = rng.random()
                thread_id = one.thread.id if way < 0.3 else None
                wait_id = one.wait_id if 0.2 < way < 0.5 else None
        body = str(rng.choice(inputs)).encode() if takes_input else b""
        if rng.random() < 0.15:
            body = rng.choice((b'{"wrong": 1}', b"nonsense", b"", b"1", str(REJECTED).encode(), str(BROKEN).encode()))
        if event == ADDED:
            event = EVENTS[0]
        if self.world.settings.has_rare_statements and self.model.exists and self.odd.random() < 0.2:
            timed = [name for _, (_, name, _) in self.model.executor.timed_waits()]
            event = self.odd.choice([event, *timed])  # which no client may send
        if self.world.settings.has_limit and takes_input and self.odd.random() < 0.2:
            body = b"1" + b"0" * self.odd.randrange(300, 1_000)
        outcome = f"{key}-later" if self.patient.random() < 0.5 else ""
        return Request(self.model, event, body, thread_id, wait_id, key if rng.random() < 0.6 else None, outcome)

    async def burst(self, first: Request) -> None:
        """Sends several requests at once to one process, so that they meet in its lane."""
        requests = [first]
        for number in range(self.rng.randrange(1, 6)):
            key = f"{self.name}-{self.calls}-{number}"
            if self.rng.random() < 0.7:
                key_or_none = key if self.rng.random() < 0.6 else None
                outcome = first.outcome and f"{key}-later"
                requests.append(replace(first, key=key_or_none, wait_id=None, outcome=outcome, group=Group()))
            else:
                requests.append(await self.choose(key))
        process = self.world.hosting.any_process(self.rng)
        await self.world.all(self.insist(request, process) for request in requests)

    async def operate(self, action: str) -> None:
        """Cancels, pauses or unpauses, until there is an answer."""
        for _ in range(8):
            process = self.world.hosting.any_process(self.rng)
            if process is not None:
                seen, started, commits = self.pc, self.world.timeline.now, self.model.commits
                actor = Operator(process, f"{process.name} {action} for {self.name}", principal=self.principal)
                operate = partial(self.operation, process, ACTIONS[action]())
                answer = await self.ask(actor, operate)
                if isinstance(answer, View):
                    self.check_view(answer, seen)
                    return
                if isinstance(answer, UnknownStatement):
                    require(process.knows_none, f"{action} is answered by {answer!r}")
                if isinstance(answer, InstanceEnded):
                    had_ended = self.model.executor.ended or self.model.commits > commits  # it may have been retried
                    require(had_ended, f"{action} is refused, and it has not ended: {answer}")
                    return
                if not (answer is LOST or isinstance(answer, (Unavailable, Busy, NewerVersion, UnknownStatement))):
                    known = isinstance(answer, (InstanceNotFound, DuplicateThread))
                    known = known or self.meets_damage(answer, started)
                    known = known or (self.world.settings.has_mistakes and isinstance(answer, MISTAKEN))
                    known = known or (
                        isinstance(answer, TooLarge) and action == "unpause" and self.world.settings.has_limit
                    )
                    require(known, f"{action} is answered by {answer!r}")
                    return
            await self.world.wait(self.rng.uniform(0.1, 20))

    async def operation(self, process: Process, operation: Operation) -> View:
        """The request for an operation, as the process serves it."""
        ref = self.model.workflow, self.model.id
        return await process.engine.operate(*ref, operation, principal=self.principal)

    async def look(self) -> View | None:
        process = self.world.hosting.any_process(self.rng)
        started, seen = self.world.timeline.now, self.pc
        if process is None:
            return None
        actor = Actor(process, f"{process.name} view for {self.name}")
        ref = self.model.workflow, self.model.id
        answer = await self.ask(actor, lambda: process.engine.get(*ref, principal=self.principal))
        if isinstance(answer, View):
            self.check_view(answer, seen)
            return answer
        known = self.model.events.states and self.model.events.states[0][0] < started
        require(
            answer is LOST
            or isinstance(answer, (Unavailable, NewerVersion))
            or self.meets_damage(answer, started)
            or (isinstance(answer, InstanceNotFound) and not known),
            f"{self.name} looks at it and gets {answer!r}",
        )
        return None

    def check_view(self, view: View, seen: int) -> None:
        pc = view.instance.execution.pc
        require(pc >= seen, f"{self.name} sees the state of pc {pc}, which is older than {seen}")
        if view.problem:
            require(self.world.disturbances.was_badly_deployed, f"{self.name} is told {view.problem}")
            return
        shown = {(one.case.event, one.thread.id, one.wait_id) for one in view.accepted if one.case.event != ADDED}
        expected = {one for one in self.model.events.accepted_at[pc] if one[0] in EVENTS and one[1]}
        require(shown == expected, f"{self.name} is shown {shown} at pc {pc}, and {expected} is accepted")

    def meets_damage(self, answer: Any, since: float) -> bool:
        """Whether it is told that the document is damaged, as it is, or was."""
        return isinstance(answer, DamagedDocument) and self.world.disturbances.damage.met(self.model.id, since)

    @property
    def pc(self) -> int:
        return max(self.model.events.accepted_at, default=-1)

    # --- sending -------------------------------------------------------------------------

    async def insist(self, request: Request, first: Process | None = None) -> None:
        """Sends until there is an answer, to the process ``first`` at first; without a key, another attempt would be
        another request."""
        for _ in range(8):
            process, first = first or self.world.hosting.any_process(self.rng), None
            if process is not None and (request.event or not process.knows_none):
                answer = await self.send(process, request)
                if not (answer is LOST or isinstance(answer, (Unavailable, Busy, NewerVersion, UnknownStatement))):
                    return
                if request.key is None:
                    if not isinstance(answer, Busy) and self.rng.random() < 0.7:
                        return
                    about = request.thread_id, request.wait_id
                    outcome = request.outcome and f"{request.outcome}-again"
                    request = Request(self.model, request.event, request.body, *about, outcome=outcome)
            await self.world.wait(self.rng.uniform(0.1, 20) if self.rng.random() < 0.5 else 0.1)

    async def send(self, process: Process, request: Request) -> Any:
        self.calls += 1
        name = f"{process.name} {request.event or 'create'} for {self.name}.{self.calls}"
        about = {"request": request, "started": self.world.timeline.now, "seen_pc": self.pc}
        call = Call(process, name, principal=self.principal, **about)  # type: ignore[arg-type]
        landed_before = list(request.group.commits)
        engine = process.engine

        async def perform() -> Any:
            if not request.event:
                new = self.model.workflow, self.model.id, request.body
                return await engine.create(*new, key=request.key, principal=self.principal)
            return await engine.handle_event(
                self.model.workflow,
                self.model.id,
                request.event,
                request.body,
                key=request.key,
                thread_id=request.thread_id,
                wait_id=request.wait_id,
                outcome=request.outcome,
                principal=self.principal,
            )

        answer = await self.ask(call, perform)
        if answer is LOST:
            return answer
        if isinstance(answer, Exception):
            self.check_error(call, answer, landed_before)
        else:
            self.check_answer(call, answer)
            if answer == LATER and self.outcomes.random() < 0.5:
                await ask_for_outcome(self, request)
        return answer

    async def ask(self, actor: Actor, perform: Any) -> Any:
        """The answer: what ``perform`` returns or raises, or ``LOST``."""
        self.world.say("%s %s", actor.name, actor.request.what if isinstance(actor, Call) else "")
        future = self.world.loop.create_future()

        def answered(answer: Any) -> None:
            if not future.done():
                text = repr(answer) if isinstance(answer, (bytes, Exception)) else "lost" if answer is LOST else "done"
                self.world.say("%s gets: %.150s", actor.name, text)
                future.set_result(answer)

        self.world.hosting.serve(actor, perform, answered)
        self.world.timeline.after(PATIENCE_SECONDS, answered, LOST)
        return await future

    # --- what answers must be ------------------------------------------------------------

    def check_answer(self, call: Call, answer: Any) -> None:
        request = call.request
        commits = request.group.commits
        is_new = not commits or (commits[0][1] is not KEPT and self.may_have_expired(request))
        if answer == LATER or (answer == BUFFERED and is_new):
            require(
                answer == BUFFERED or request.outcome, f"{request.what} is answered later, which it did not ask for"
            )
            self.world.kept.answer(call)
            return
        if request.group.earlier and isinstance(answer, bytes):
            outputs = [output for _, output in (*commits, *request.group.earlier)]
            known = [b"" if output is KEPT else json.loads(json.dumps(output)) for output in outputs]
            require((answer and json.loads(answer)) in known, f"{request.what} is answered by {answer!r}, not {known}")
            return
        require(commits, f"{request.what} is answered by success, and has not taken effect")
        (author, output), *more = commits
        require(not more, f"{request.what} has taken effect {len(commits)} times")
        if isinstance(answer, View):
            self.check_view(answer, 0)
            return
        same = (author.request.body, author.request.event) == (request.body, request.event)
        require(same, f"{request.what} is answered by success, and {author.request.what} has taken effect")
        require(
            answer == BUFFERED if output is KEPT else answer and json.loads(answer) == json.loads(json.dumps(output)),
            f"{request.what} is answered by {answer!r}, its output was {output!r}",
        )

    def may_have_expired(self, request: Request) -> bool:
        """Whether a process may no longer know the key of the request."""
        return request.group.may_have_expired(self.world.now + timedelta(seconds=2 * self.world.settings.skew))

    def check_error(self, call: Call, error: Exception, landed_before: list[Any]) -> None:
        """Checks an error that promises that nothing was changed. This must stay true, and the error must have a
        reason."""
        request, model = call.request, self.model
        if isinstance(error, Unavailable):
            require(
                not self.world.settings.is_peaceful, f"{request.what} is answered by {error!r}, and nothing has failed"
            )
            return
        call.refused = True
        mine = [author for author, _ in request.group.commits if author is call]
        require(not mine, f"{request.what} is answered by {error!r}, and has taken effect")
        if isinstance(error, Busy) or self.meets_damage(error, call.started):
            return
        if isinstance(error, NewerVersion):
            require(
                call.process.revision < self.world.disturbances.deployed, f"{request.what} is answered by {error!r}"
            )
            return
        if isinstance(error, UnknownStatement):
            require(call.process.knows_none, f"{request.what} is answered by {error!r}")
            return
        if isinstance(error, IdempotencyKeyReused):
            require(request.group.requests, f"{request.what}: its key is said to be another one's")
            return
        same = [one for one in landed_before if one[0].request.body == request.body]
        if self.may_have_expired(request):
            same = []
        require(not same, f"{request.what} had taken effect, and is answered by {error!r} when it is sent again")
        if isinstance(error, InstanceExists):
            require(not request.event and model.events.states, f"it is said to exist: {error}")
        elif isinstance(error, InstanceNotFound):
            require(not model.events.states or model.events.states[0][0] > call.started, f"it exists: {error}")
        elif isinstance(error, EventNotAccepted):
            event, thread_id, wait_id = request.event, request.thread_id, request.wait_id
            always = event in EVENTS and model.events.accepted_all_along(call.started, event, thread_id, wait_id)
            require(not always, f"{request.event} was accepted, or to be kept, all along: {error}")
        elif isinstance(error, EventRejected):
            require(request.body == str(REJECTED).encode(), f"{request.what} is rejected: {error}")
        elif isinstance(error, MISTAKEN) and self.world.settings.has_mistakes:
            pass
        elif isinstance(error, UserCodeError):
            require(request.body == str(BROKEN).encode(), f"{request.what} fails: {error!r}")
        else:
            bad = isinstance(error, (InvalidInput, DuplicateThread))
            bad = bad or (isinstance(error, TooLarge) and self.world.settings.has_limit)
            require(bad, f"{request.what} is answered by {error!r}")
