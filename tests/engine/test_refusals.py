"""What is told and logged about requests that are refused."""

from __future__ import annotations

import logging

import pytest

from cloud_adapter.document import Lease
from cloud_adapter.engine import permissions
from cloud_adapter.engine.decisions import NotNow, check_lease
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import begin
from cloud_adapter.observability.line_limit import LINES_MAX, LineLimit
from gorchestrate.testing.clock import START
from tests.engine.harness import ID, World, in_world
from workflow_core import Access, Action, On, Principal, S, Select, Workflow, WorkflowError


class Broken(Workflow, name="broken"):
    access = Access(create={"customer"}, read={"customer"})

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        if action is Action.READ:
            raise RuntimeError("broken")
        return None

    definition = S(Select("wait", On("Go", lambda w: None)))


ANN = Principal("login|ann", "Ann", roles=frozenset(("customer",)))


def test_a_client_of_a_busy_instance_is_told_what_runs() -> None:
    session = begin(InstanceRef(Broken, "a"), b"", START, salt=str)
    session.instance = session.instance.with_values(lease=Lease("other", START))
    check_lease(session, START)
    with pytest.raises(NotNow) as raised:
        check_lease(session, START.replace(year=START.year - 1))
    assert str(raised.value.error) == "'a' is busy: a step is running; try again"


@in_world(Broken)
async def test_failures_of_authorize_do_not_flood_the_log(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = world.process.engine
    await world.finish(engine.create("broken", ID, principal=ANN))
    monkeypatch.setattr(permissions, "FAILURES", LineLimit(now=lambda: world.now - START))
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        for calls in (LINES_MAX + 5, 1):
            for _ in range(calls):
                with pytest.raises(WorkflowError):
                    await engine.get("broken", ID, principal=ANN)
            await world.clock.advance(1)
    lines = [record.fields for record in caplog.records if "authorize failed" in record.getMessage()]  # type: ignore[attr-defined]
    assert [line.get("left_out") for line in lines] == [None] * LINES_MAX + [5]
    assert all("in authorize\n" in line["exception"] for line in lines), "the stack trace shows where"
