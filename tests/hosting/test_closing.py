"""What was opened is closed when what follows raises."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from pizza import PizzaOrder

from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.hosting import dev_server
from cloud_adapter.hosting.cloud import CloudRuntime
from cloud_adapter.hosting.dev_server import open_server, running
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.authenticators.keys import IssuerKeys
from cloud_adapter.observability import logs
from cloud_adapter.ports import Task
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.issuer import issuing
from tests.open_files import nothing_stays_open
from workflow_core import Child, DefinitionError, On, S, Select, Workflow


class Broken(Exception):
    """What a test lets fail."""


def broken(*_: Any, **__: Any) -> Any:
    raise Broken


async def broken_call(*_: Any, **__: Any) -> Any:
    raise Broken


class Taken(Workflow, name="taken"):
    definition = S(Select("wait", On("cancel", lambda w: None)))


class Elsewhere(Workflow, name="elsewhere"):
    definition = S(Select("wait", On("Go", lambda w: None)))


class Parent(Workflow, name="parent"):
    definition = S(Child("other", Elsewhere))


class Namesake(Workflow, name="pizza"):
    definition = S(Select("wait", On("Go", lambda w: None)))


REFUSED = ([Taken], [Parent], [PizzaOrder, Namesake])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db=tmp_path / "closing.db")


async def assert_closed(runtime: EmbeddedRuntime) -> None:
    """Neither the store nor the queue takes calls any more."""
    for call in (runtime.store.load("pizza", "1"), runtime.queue.create(Task("a", "/resume", {}))):
        with pytest.raises(Unavailable, match="is closed"):
            await call


# --- the runtimes ----------------------------------------------------------------------------


@pytest.mark.parametrize("workflows", REFUSED, ids=["event", "child", "name"])
def test_workflows_that_are_refused_open_no_database(settings: Settings, workflows: list[type[Workflow]]) -> None:
    with nothing_stays_open(), pytest.raises(DefinitionError) as refused:
        EmbeddedRuntime(iter(workflows), settings)
    assert refused.value.fix
    assert not settings.db.exists()


def test_a_runtime_that_was_not_started_can_be_closed_twice(settings: Settings) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([PizzaOrder], settings)
        await runtime.close()
        await assert_closed(runtime)
        await runtime.close()

    with nothing_stays_open():
        asyncio.run(main())


@pytest.mark.parametrize("started", [False, True])
def test_a_queue_that_cannot_be_closed_does_not_keep_the_store_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([PizzaOrder], settings)
        if started:
            await runtime.start()
        with monkeypatch.context() as patch:
            patch.setattr(runtime.queue, "close", broken_call)
            with pytest.raises(Broken):
                await runtime.close()
        await runtime.close()
        await assert_closed(runtime)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with nothing_stays_open():
        asyncio.run(main())


def test_closing_that_is_canceled_closes_the_store(settings: Settings) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([PizzaOrder], settings)
        await runtime.start()
        await asyncio.sleep(0)
        closing = asyncio.create_task(runtime.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await assert_closed(runtime)

    with nothing_stays_open():
        asyncio.run(main())


def test_a_runtime_that_cannot_start_leaves_nothing_running(settings: Settings) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([PizzaOrder], settings)
        await runtime.close()
        with pytest.raises(RuntimeError, match="can be started only once: create a new one"):
            await runtime.start()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with nothing_stays_open():
        asyncio.run(main())


def test_a_store_that_cannot_be_closed_does_not_keep_the_queue_open(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"project": "p", "location": "l", "worker_url": "https://w", "tasks_account": "t@p"}

    async def main() -> None:
        runtime = CloudRuntime([PizzaOrder], Settings(backend="cloud", **values))
        monkeypatch.setattr(runtime.store, "close", broken_call)
        with pytest.raises(Broken):
            await runtime.close()
        with pytest.raises(Unavailable, match="the queue is closed"):
            await runtime.queue.create(Task("a", "/resume", {}))

    asyncio.run(main())


# --- what serves them ------------------------------------------------------------------------


def test_a_service_whose_engine_does_not_start_closes_it_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GORCHESTRATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GORCHESTRATE_DB", str(tmp_path / "service.db"))
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    request: Any = None

    async def main() -> None:
        served = Service(PizzaOrder)
        start, started = EmbeddedRuntime.start, list[EmbeddedRuntime]()

        async def starting(runtime: EmbeddedRuntime, context: Context) -> None:
            await start(runtime, context)
            started.append(runtime)

        monkeypatch.setattr(EmbeddedRuntime, "start", starting)
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedRuntime, "start", broken_call)
            for _ in range(2):
                with nothing_stays_open(), pytest.raises(Broken):
                    await served.api(request)
        await served.api(request)
        (runtime,) = started
        await runtime.close()

    with nothing_stays_open():
        asyncio.run(main())


def test_a_server_that_never_runs(settings: Settings) -> None:
    with nothing_stays_open(), pytest.raises(Broken) as error, open_server([PizzaOrder], settings):
        raise Broken
    assert error


def test_a_server_whose_application_cannot_be_made(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_server, "create_api", broken)
    with nothing_stays_open():
        listener = listen("127.0.0.1", 0)
        with pytest.raises(Broken) as error, running([PizzaOrder], settings, listener):
            pass
    assert error


def test_a_server_whose_runtime_cannot_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedRuntime, "start", broken_call)
    with nothing_stays_open(), listen("127.0.0.1", 0) as listener, open_server([PizzaOrder], settings) as unstarted:
        with suppress(SystemExit):  # of later uvicorns
            unstarted.run(sockets=[listener])
        assert not unstarted.started


@pytest.mark.parametrize("workflows", REFUSED, ids=["event", "child", "name"])
def test_workflows_that_are_refused_close_the_listener(settings: Settings, workflows: list[type[Workflow]]) -> None:
    with nothing_stays_open():
        listener = listen("127.0.0.1", 0)
        with pytest.raises(DefinitionError) as error, running(workflows, settings, listener):
            pass
    assert error


# --- sockets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("a" * 64 + ".org", 0)])
def test_an_address_that_cannot_be_one(host: str, port: int) -> None:
    with (
        nothing_stays_open(),
        pytest.raises(SettingsError, match=r"^cannot listen on .*another --port or --host$") as error,
    ):
        listen(host, port)
    assert error


def test_an_issuer_that_answers_with_an_error() -> None:
    with issuing() as issuer:
        issuer.keys = False
        with pytest.raises(Unavailable, match="404") as refused:
            IssuerKeys(issuer.url).fetch()
    response = refused.value.__cause__
    assert isinstance(response, HTTPError)
    assert response.closed
