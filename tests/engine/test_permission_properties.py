"""Random access, principals, states and requests: the engine against an independent oracle.

The oracle looks roles and answers up in tables, and knows nothing of the engine. Each request has the outcome of the
oracle, and changes the instance only if that is a permission. ``authorize`` never widens: what is permitted is also
permitted by the roles alone.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Cancel, SetFields
from cloud_adapter.errors import Forbidden, InstanceNotFound, Unauthenticated
from tests.engine.harness import World, do_not_sync
from workflow_core import (
    ANONYMOUS,
    ANYONE,
    AUTHENTICATED,
    EVERYONE,
    Access,
    Action,
    CreatedBy,
    EventNotAccepted,
    On,
    Principal,
    S,
    Select,
    Workflow,
    WorkflowError,
)

OK, FORBIDDEN, UNAUTHENTICATED, HIDDEN, NOT_ACCEPTED = "ok", "forbidden", "unauthenticated", "hidden", "not accepted"
OUTCOMES: Mapping[type[WorkflowError], str] = {
    Forbidden: FORBIDDEN,
    Unauthenticated: UNAUTHENTICATED,
    InstanceNotFound: HIDDEN,
    EventNotAccepted: NOT_ACCEPTED,
}
SELECTS = ("first", "second")
EVENTS = ("Both", "Free", "Early")


@dataclass(frozen=True)
class Rules:
    """What a definition says about access.

    Attributes:
        cases: the role of each event at each select, if the select waits for it.
        answers: what ``authorize`` returns; an exception is raised.
    """

    access: Access
    cases: Mapping[tuple[str, str], str | None]
    answers: Mapping[tuple[Action, str | None], Any]


def workflow_of(rules: Rules) -> type[Workflow]:
    class Ruled(Workflow, name="ruled"):
        owner: Annotated[str, CreatedBy] = ""
        access = rules.access

        def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
            answer = rules.answers.get((action, event))
            if isinstance(answer, Exception):
                raise answer
            return answer

        def go(self) -> None: ...

        definition = S(
            Select(
                "first",
                On("Both", go, role=rules.cases["first", "Both"]),
                On("Free", go, role=rules.cases["first", "Free"]),
            ),
            Select(
                "second",
                On("Both", go, role=rules.cases["second", "Both"]),
                On("Early", go, role=rules.cases["second", "Early"], buffered=True),
            ),
            Select("end", On("Both", go, role=rules.cases["first", "Both"])),
        )

    return Ruled


# --- the oracle ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Oracle:
    rules: Rules
    who: Principal
    select: str
    asks: bool = True
    """Whether ``authorize`` is asked."""

    def outcome(self, request: str) -> str:
        access = self.rules.access
        if request == "list":
            return OK if self.has(access.list) else self.denied
        if request == "create":
            return self.doing(Action.CREATE, access.create)
        if not self.has(access.read):
            return UNAUTHENTICATED if self.is_anonymous else HIDDEN
        if not self.agrees(Action.READ):
            return HIDDEN
        if request == "get":
            return OK
        if request == "cancel":
            return self.doing(Action.OPERATE, access.operate)
        if request == "set":
            return self.doing(Action.REPAIR, access.repair)
        return self.sending(request)

    def sending(self, event: str) -> str:
        roles = {select: self.needed(select, event) for select in SELECTS if (select, event) in self.rules.cases}
        if self.select in roles:
            return self.doing(Action.SEND, roles[self.select], event)
        if not any(self.has(some) for some in roles.values()):
            return self.denied
        return self.doing(Action.SEND, roles["second"], event) if event == "Early" else NOT_ACCEPTED

    def needed(self, select: str, event: str) -> Any:
        role = self.rules.cases[select, event]
        return self.rules.access.send if role is None else {role}

    def doing(self, action: Action, roles: Any, event: str | None = None) -> str:
        return OK if self.has(roles) and self.agrees(action, event) else self.denied

    def has(self, roles: Any) -> bool:
        own = {*self.who.roles, ANYONE} | ({AUTHENTICATED} if self.who.kind != "anonymous" else set())
        return self.who is EVERYONE or any(role in own for role in roles or ())

    def agrees(self, action: Action, event: str | None = None) -> bool:
        answer = self.rules.answers.get((action, event))
        return not self.asks or self.who is EVERYONE or answer is None or answer is True

    @property
    def is_anonymous(self) -> bool:
        return self.who.kind == "anonymous"

    @property
    def denied(self) -> str:
        return UNAUTHENTICATED if self.is_anonymous else FORBIDDEN


# --- the engine ------------------------------------------------------------------------------

REQUESTS: Mapping[str, Callable[[Engine, Principal, str], Awaitable[Any]]] = {
    "list": lambda engine, who, id: engine.list("ruled", principal=who),
    "create": lambda engine, who, id: engine.create("ruled", f"{id}-new", principal=who),
    "get": lambda engine, who, id: engine.get("ruled", id, principal=who),
    "cancel": lambda engine, who, id: engine.operate("ruled", id, Cancel(), principal=who),
    "set": lambda engine, who, id: engine.operate("ruled", id, SetFields(fields={"owner": who.id}), principal=who),
    "Both": lambda engine, who, id: engine.handle_event("ruled", id, "Both", principal=who),
    "Free": lambda engine, who, id: engine.handle_event("ruled", id, "Free", principal=who),
    "Early": lambda engine, who, id: engine.handle_event("ruled", id, "Early", principal=who),
}


async def check(rules: Rules, who: Principal) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), workflow_of(rules))
        try:
            await do_not_sync(world.store)
            for select in SELECTS:
                for request in REQUESTS:
                    await check_request(world, Oracle(rules, who, select), request)
        finally:
            await world.store.close()


async def check_request(world: World, oracle: Oracle, request: str) -> None:
    engine, id = world.process.engine, f"{oracle.select}-{request}"
    await engine.create("ruled", id)
    if oracle.select == "second":
        await engine.handle_event("ruled", id, "Both")
    before = await world.instance(id)
    try:
        found = await world.finish(REQUESTS[request](engine, oracle.who, id))
        outcome = OK
    except tuple(OUTCOMES) as error:
        outcome = OUTCOMES[type(error)]
    about = f"{request} at {oracle.select}"
    assert outcome == oracle.outcome(request), about
    if outcome == OK:
        assert replace(oracle, asks=False).outcome(request) == OK, about
    else:
        assert await world.instance(id) == before, about
    if request == "get" and outcome == OK:
        cases = oracle.rules.cases
        may = [event for event in EVENTS if (oracle.select, event) in cases and oracle.sending(event) == OK]
        assert [accepted.case.event for accepted in found.accepted] == may
        assert found.operator is (oracle.outcome("cancel") == OK)


# --- what is drawn ---------------------------------------------------------------------------

ROLES = ("a", "b", ANYONE, AUTHENTICATED)
some_roles = st.none() | st.sets(st.sampled_from(ROLES), min_size=1, max_size=3)
role = st.none() | st.sampled_from(ROLES)
answer: st.SearchStrategy[Any] = st.sampled_from(
    [None, None, None, True, True, False, False, RuntimeError("broken"), "yes", 1, [], (n for n in "ab")]
)
ASKED = [(action, None) for action in Action if action is not Action.SEND] + [(Action.SEND, event) for event in EVENTS]
CASES = [("first", "Both"), ("first", "Free"), ("second", "Both"), ("second", "Early")]

rules_drawn = st.builds(
    Rules,
    st.builds(Access, some_roles, some_roles, some_roles, some_roles, some_roles, some_roles),
    st.fixed_dictionaries(dict.fromkeys(CASES, role)),
    st.fixed_dictionaries(dict.fromkeys(ASKED, answer)),
)
principals = st.sampled_from([ANONYMOUS, EVERYONE]) | st.builds(
    Principal,
    st.just("login|ann"),
    kind=st.sampled_from(["user", "service"]),
    roles=st.frozensets(st.sampled_from(["a", "b", "*"]), min_size=1),
)


@pytest.mark.usefixtures("quarters")
@settings(max_examples=20)
@given(rules_drawn, principals)
def test_the_engine_decides_as_the_oracle(rules: Rules, who: Principal) -> None:
    asyncio.run(check(rules, who))
