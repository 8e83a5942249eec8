"""The connections of one process to a database: how they are opened, how they fail, and what is tried again.

This module contains no queries: callers pass them in.

Theory of operation. Every call is one statement, and PostgreSQL commits a single statement by itself. It is therefore
one round trip, applied completely or not at all, and holds no lock while it waits for this process. The connections
have no state of their own, so a pooler may hand each statement to another connection of the server.

A read that fails because its connection was lost is made again on a new one, and the others are replaced too. A write
is not: it may have been applied. It raises ``Unavailable``, and the caller finds out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from cloud_adapter.database_urls import POSTGRESQL_SCHEMES, hosts_and_path, shown_url, url_scheme
from cloud_adapter.errors import InvalidRequest, SettingsError, Unavailable
from cloud_adapter.postgresql.schema import create_or_upgrade, stored_version

CONNECTIONS_MAX: Final = 10
"""How many connections a process opens at most by default."""

CALL_SECONDS_MAX: Final = 10.0
"""How long a call waits for a connection, and then for the answer."""

_WRONG_SETTINGS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.SyntaxOrAccessError,  # when it creates or upgrades the tables
    asyncpg.exceptions.ClientConfigurationError,
)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
_UNAVAILABLE = (asyncpg.PostgresError, *_LOST)

_T = TypeVar("_T")


class Connections:
    """A pool of connections. Use it in one event loop only. It connects with the first call.

    Args:
        url: ``postgresql://user:password@host:port/database``, with the parameters of ``libpq`` that ``asyncpg``
            supports, such as ``sslmode=verify-full``. Two parameters are of this class: ``connections``, the most
            connections of the process, and ``prepared_statements=off``, for a pooler that does not support them.

    Raises:
        SettingsError: the URL is invalid.
    """

    def __init__(self, url: str) -> None:
        self.place, self._dsn, self._options = read_url(url)
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._calls = 0

    @property
    def busy(self) -> bool:
        """Whether a call waits for the database."""
        return self._calls > 0

    async def open(self) -> None:
        """Connects, and creates or upgrades the tables. Otherwise, the first call does.

        Raises:
            SettingsError: the database cannot be used. The message gives the reason and the fix.
            Unavailable: it does not answer.
        """
        self._check_usable()
        async with self._opening:
            if self._pool is None:
                self._pool = await self._open()

    async def stored_version(self) -> int:
        """Returns the version of the tables, 0 if there are none. Changes nothing.

        Raises:
            SettingsError, Unavailable: see ``open``.
        """
        return await self._with_first(stored_version)

    async def read(self, query: str, *values: object) -> Sequence[Any]:
        """Runs a query that changes nothing, and returns its rows."""
        with self._errors():
            try:
                return await self._run(query, values)
            except TimeoutError:
                raise
            except _LOST:
                # What ended one connection, such as a restart of the server, has probably ended all of them.
                if self._pool is not None:
                    await self._pool.expire_connections()
                return await self._run(query, values)

    async def write(self, query: str, *values: object) -> Sequence[Any]:
        """Runs a statement that changes something, and returns its rows.

        Raises:
            InvalidRequest: PostgreSQL cannot store one of the values.
            Unavailable: it is unknown whether the statement was applied.
            asyncpg.IntegrityConstraintViolationError: it was not, because of a constraint.
        """
        with self._errors():
            return await self._run(query, values)

    async def close(self) -> None:
        """Closes the connections, after all earlier calls have completed. Later calls raise ``Unavailable``."""
        self._closed = True
        async with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _run(self, query: str, values: Sequence[object]) -> Sequence[Any]:
        self._calls += 1
        try:
            await self.open()
            assert self._pool is not None
            async with self._pool.acquire(timeout=CALL_SECONDS_MAX) as connection:
                try:
                    rows: Sequence[Any] = await connection.fetch(query, *values)
                except asyncpg.InternalClientError:
                    # The server has said that it stops, which the client expects only as an answer.
                    connection.terminate()
                    raise
                return rows
        except asyncpg.ReadOnlySQLTransactionError:
            # After a failover, a connection may still lead to the server that was the primary one.
            if self._pool is not None:
                await self._pool.expire_connections()
            raise
        finally:
            self._calls -= 1

    async def _open(self) -> asyncpg.Pool:
        # Without `min_size`, a pool opens no connection, so this first one reports what is wrong.
        await self._with_first(create_or_upgrade)
        with self._errors():
            return await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                timeout=CALL_SECONDS_MAX,
                command_timeout=CALL_SECONDS_MAX,
                reset=_keep,
                **self._options,
            )

    async def _with_first(self, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        """Does the work with a connection that is opened for it."""
        with self._errors():
            try:
                first = await asyncpg.connect(self._dsn, timeout=CALL_SECONDS_MAX, statement_cache_size=0)
                try:
                    return await work(first)
                finally:
                    await first.close(timeout=CALL_SECONDS_MAX)
            except _WRONG_SETTINGS as error:
                raise SettingsError(
                    f"the database {self.place} cannot be used: {error}. Check the user, the password, the database "
                    f"and its rights in the URL"
                ) from error
            except SettingsError as error:
                raise SettingsError(f"{self.place}: {error}") from None

    def _check_usable(self) -> None:
        if self._closed:
            raise Unavailable(f"the store {self.place} is closed")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.IntegrityConstraintViolationError:
            raise
        except (asyncpg.DataError, asyncpg.exceptions.DataError, UnicodeError) as error:
            raise InvalidRequest(f"PostgreSQL cannot store this value: {error}") from error
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise Unavailable(
                f"the pooler at {self.place} does not keep prepared statements: add prepared_statements=off to the URL"
            ) from error
        except _UNAVAILABLE as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"PostgreSQL could not use {self.place}: {why}") from error


def check(url: str) -> None:
    """Connects to a database once, and creates or upgrades its tables, so that a wrong setting is found before anything
    is served.

    Raises:
        SettingsError, Unavailable: see ``Connections.open``.
    """

    async def run() -> None:
        connections = Connections(url)
        try:
            await connections.open()
        finally:
            await connections.close()

    # In a thread, because the caller may have an event loop, and the connections belong to theirs.
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(asyncio.run, run()).result()


async def _keep(connection: object) -> None:
    """Resets nothing, because statements leave no state in a connection. It would cost a round trip after each."""


def read_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """Returns how messages name the database, its URL for ``asyncpg``, and the options of the pool.

    Raises:
        SettingsError: the URL is invalid. The message does not contain its password.
    """
    if url_scheme(url) not in POSTGRESQL_SCHEMES:
        raise SettingsError("the URL of a PostgreSQL database begins with postgresql://")
    try:
        hosts, path = hosts_and_path(url)
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"the URL of the PostgreSQL database is wrong: {error}") from None
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    connections = given.pop("connections", str(CONNECTIONS_MAX))
    prepared = given.pop("prepared_statements", "on")
    if not connections.isdecimal() or not 1 <= int(connections) <= 1_000:
        raise SettingsError(f"connections={connections} in the URL of the database must be a number from 1 to 1000")
    if prepared not in ("on", "off"):
        raise SettingsError(f"prepared_statements={prepared} in the URL of the database must be on or off")
    options: dict[str, Any] = {"max_size": int(connections)}
    if prepared == "off":
        options["statement_cache_size"] = 0
    shown = ",".join(host if re.search(r":\d+$", host) else f"{host.rstrip(':')}:5432" for host in hosts.split(","))
    place = f"postgresql://{given.get('host', shown if hosts else 'localhost:5432')}{path}"
    return place if "@" not in path else shown_url(url), parts._replace(query=urlencode(given)).geturl(), options
