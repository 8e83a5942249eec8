"""Which runtime serves a database, and the runtime on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
from pizza import PizzaOrder
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.hosting import runtimes
from cloud_adapter.hosting.cloud import CloudRuntime
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.postgresql import PostgresqlRuntime
from cloud_adapter.hosting.runtimes import Runtime, check_factory, runtime_for
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.callers import AllowedCallers
from cloud_adapter.settings import Settings
from tests.http_target import asgi_server
from tests.lossy_proxy import LossyProxy
from tests.postgresql import Server
from workflow_core import Execution, On, S, Select, Step, StepContext, Timeout, Workflow

URL = "postgresql://ann:secret@db.example/orders"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GORCHESTRATE_") or name == "K_SERVICE":
            monkeypatch.delenv(name)


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("db", "file", "url"),
    [
        ("orders.db", "orders.db", ""),
        ("", "gorchestrate.db", ""),
        ("sqlite:///orders.db", "orders.db", ""),
        ("sqlite:////var/orders.db", "/var/orders.db", ""),
        (URL, "gorchestrate.db", URL),
    ],
)
def test_the_database_is_a_file_or_a_url(monkeypatch: pytest.MonkeyPatch, db: str, file: str, url: str) -> None:
    for settings in (Settings(db=db), Settings.load(db=db)):
        assert (str(settings.db), settings.database_url) == (file, url)
    monkeypatch.setenv("GORCHESTRATE_DB", db)
    settings = Settings.load()
    assert (str(settings.db), settings.database_url) == (file, url)
    assert Settings.load(db="another.db").db == Path("another.db")


def test_a_file_that_is_given_wins_over_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_DB", URL)
    assert Settings.load(db=Path("here.db")).database_place == "here.db"
    monkeypatch.setenv("GORCHESTRATE_DB", "here.db")
    monkeypatch.setenv("GORCHESTRATE_DB_URL", "postgresql://elsewhere/x")
    assert Settings.load().database_place == "postgresql://elsewhere/x"
    assert Settings.load(db=Path("here.db")).database_place == "here.db"
    assert Settings.load(db=URL).database_place == "postgresql://db.example/orders"


def test_the_password_is_not_shown() -> None:
    settings = Settings.load(db=URL)
    assert "ann:" not in f"{settings!r} {settings} {settings.database_place}"
    assert settings.database_place == "postgresql://db.example/orders"


@pytest.mark.parametrize("db", ["firestore://project/database", "sqlite://orders.db"])
def test_a_url_that_is_no_database_is_rejected(db: str) -> None:
    with pytest.raises(SettingsError, match=r"DB_URL.*is not a URL such as postgresql://"):
        Settings.load(db=db)


def test_postgresql_may_be_used_on_cloud_run_and_is_not_open_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not AllowedCallers.from_settings(Settings.load(db=URL)).remote
    monkeypatch.setenv("K_SERVICE", "api")
    with pytest.raises(SettingsError, match="GORCHESTRATE_DB to the URL of a PostgreSQL database"):
        Settings.load()
    settings = Settings.load(db=URL)
    assert (settings.is_open, settings.serves_ui) == (False, False)
    assert AllowedCallers.from_settings(settings).remote
    monkeypatch.setenv("GORCHESTRATE_DB", URL)
    with pytest.raises(SettingsError, match="has no authenticators"):
        Service(PizzaOrder)
    monkeypatch.setenv("GORCHESTRATE_ACCESS", "open")
    assert Service(PizzaOrder).workflows == (PizzaOrder,)


# --- the choice ------------------------------------------------------------------------------


def test_the_runtime_is_that_of_the_database() -> None:
    assert runtime_for(Settings.load()) is EmbeddedRuntime
    assert runtime_for(Settings.load(db=URL)) is PostgresqlRuntime
    assert runtime_for(Settings.load(db=URL.replace("postgresql", "postgres"))) is PostgresqlRuntime
    cloud = {"project": "p", "location": "l", "worker_url": "https://w", "tasks_account": "t@p"}
    assert runtime_for(Settings.load(backend="cloud", **cloud)) is CloudRuntime


def test_another_package_may_have_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("files", "cloud_adapter.hosting.embedded:EmbeddedRuntime", runtimes.GROUP),
        EntryPoint("broken", "no_such_package:Runtime", runtimes.GROUP),
    ]
    monkeypatch.setattr(runtimes, "entry_points", lambda group: entries if group == runtimes.GROUP else [])
    assert runtime_for(Settings.load(db="files://here")) is EmbeddedRuntime
    with pytest.raises(SettingsError, match="of broken:// cannot be imported: No module named 'no_such_package'"):
        runtime_for(Settings.load(db="broken://here"))
    with pytest.raises(SettingsError, match=r"mysql://\.\.\. Available: broken, files, postgres, postgresql, sqlite"):
        runtime_for(Settings.load(db="mysql://here"))


def test_the_name_of_an_entry_point_may_have_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("CockroachDB", "cloud_adapter.hosting.embedded:EmbeddedRuntime", runtimes.GROUP)
    monkeypatch.setattr(runtimes, "entry_points", lambda group: [entry])
    for db in ("CockroachDB://here", "cockroachdb://here"):
        assert runtime_for(Settings.load(db=db)) is EmbeddedRuntime


def without_internal(workflows: object, settings: object) -> None: ...


def with_more(workflows: object, settings: object, url: str, *, internal: object = ()) -> None: ...


async def asynchronous(workflows: object, settings: object, *, internal: object = ()) -> None: ...


MODULE = 7


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("without_internal", "cannot be called: got an unexpected keyword argument 'internal'"),
        ("with_more", "cannot be called: missing a required argument: 'url'"),
        ("asynchronous", "is async"),
        ("MODULE", "is not a function or a class"),
    ],
)
def test_what_cannot_make_a_runtime_is_named(name: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("other", f"{__name__}:{name}", runtimes.GROUP)
    monkeypatch.setattr(runtimes, "entry_points", lambda group: [entry])
    expected = re.escape(f"{problem}. Write def make_runtime(workflows, settings, *, internal=())")
    with pytest.raises(SettingsError, match=f"the runtime {entry.value} of other:// {expected}"):
        runtime_for(Settings.load(db="other://here"))
    with pytest.raises(SettingsError, match=f"Service: runtime=.* {expected}"):
        Service(PizzaOrder, runtime=globals()[name])


def test_what_has_no_signature_may_make_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_signature(function: object) -> None:
        raise ValueError("no signature found")

    monkeypatch.setattr("inspect.signature", no_signature)
    check_factory(with_more, "a function in C")


def test_a_service_may_bring_its_runtime(tmp_path: Path) -> None:
    made: list[Runtime] = []

    def make(workflows, settings, *, internal=()):  # type: ignore[no-untyped-def]
        made.append(EmbeddedRuntime(workflows, settings.model_copy(update={"db": tmp_path / "own.db"})))
        return made[-1]

    service = Service(PizzaOrder, runtime=make)

    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await service.api(Request(scope, receive))
            await response(scope, receive, send)

        async with asgi_server(app) as url, httpx.AsyncClient(base_url=url) as http:
            assert (await http.post("/wf/pizza/order-1")).status_code == 201
        await made[0].close()

    asyncio.run(main())
    assert len(made) == 1
    assert (tmp_path / "own.db").exists()


# --- PostgreSQL ------------------------------------------------------------------------------


class Counter(Workflow, name="counter"):
    """Counts events and steps; every run of a step is noted outside."""

    counted: int = 0
    stepped: int = 0

    def count(self) -> int:
        self.counted += 1
        return self.counted

    def step(self, step: StepContext) -> None:
        RUNS.append(step.idempotency_key)
        self.stepped += 1

    definition = S(
        Select("count", On("Count", count), Timeout("late", timedelta(hours=1))),
        Step("first", step),
        Step("second", step),
        Select("again", On("Again", count), Timeout("soon", timedelta(seconds=0.3))),
        Step("third", step),
    )


RUNS: list[str] = []


def on_postgresql(url: str, work: Callable[[PostgresqlRuntime], Awaitable[None]]) -> None:
    async def main() -> None:
        RUNS.clear()
        runtime = PostgresqlRuntime([Counter], Settings.load(db=url, lease_seconds=2, recover_seconds=1))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runtime.close)
            await runtime.start()
            await work(runtime)

    asyncio.run(main())


LEFT = "SELECT 1 FROM gorchestrate.tasks WHERE ended_at IS NULL"
"""The tasks that have not ended."""


async def ended(runtime: PostgresqlRuntime, id: str = "a") -> Execution:
    async with asyncio.timeout(30):
        while True:
            try:
                execution = (await runtime.store.load("counter", id)).execution
            except Unavailable:
                continue
            if execution.ended:
                return execution
            await asyncio.sleep(0.02)


def test_events_steps_and_timers(postgresql_server: Server, postgresql_url: str) -> None:
    async def work(runtime: PostgresqlRuntime) -> None:
        await runtime.engine.create("counter", "a")
        assert await runtime.engine.handle_event("counter", "a", "Count") == b"1"
        assert (await ended(runtime)).status == "finished"
        async with asyncio.timeout(30):  # no timer is left; the task that has finished it still has to end
            while True:
                if not await asyncio.to_thread(postgresql_server.execute, LEFT):
                    break
                await asyncio.sleep(0.02)

    on_postgresql(postgresql_url, work)
    assert len(RUNS) == len(set(RUNS)) == 3


def test_lost_replies_of_commits_lose_nothing_and_do_nothing_twice(
    postgresql_server: Server, postgresql_url: str
) -> None:
    ids = [f"i-{number}" for number in range(10)]

    async def main() -> None:
        RUNS.clear()
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(LossyProxy(postgresql_server.port).running())
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
            runtime = await asyncio.to_thread(
                PostgresqlRuntime, [Counter], Settings.load(db=url, lease_seconds=1, recover_seconds=1)
            )
            stack.push_async_callback(runtime.close)
            await runtime.start()
            for number, id in enumerate(ids):
                await runtime.engine.create("counter", id)
                proxy.replies_lost, proxy.requests_lost = number % 3, number % 2
                async with asyncio.timeout(30):
                    while True:
                        try:
                            key = f"key-{id}"
                            answer = await runtime.engine.handle_event("counter", id, "Count", key=key)
                        except Unavailable:
                            continue
                        break
                assert answer == b"1"
                proxy.replies_lost += 1
            for id in ids:
                assert (await ended(runtime, id)).status == "finished"
                fields = Counter.model_validate_json((await runtime.store.load("counter", id)).fields)
                assert (fields.counted, fields.stepped) == (1, 3), id

    asyncio.run(main())
    assert len(set(RUNS)) == 30


def test_a_database_that_cannot_be_used_is_found_at_once(postgresql_server: Server) -> None:
    with pytest.raises(SettingsError, match='"nowhere" does not exist'):
        PostgresqlRuntime([Counter], Settings.load(db=postgresql_server.url("nowhere")))
