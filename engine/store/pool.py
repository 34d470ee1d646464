"""The connection pool that all store modules share."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Unavailable = (psycopg.OperationalError, psycopg.InterfaceError, OSError)
"""What is raised while the database cannot be reached (``psycopg_pool.PoolTimeout`` is an OperationalError)."""

SIZE = 8
WAIT_S = 10.0


async def _check(connection: Connection) -> None:
    """Raise OperationalError for a connection that the server has closed while it was idle.

    Nothing may come from the server then, not even a notice: an idle connection that can be read has ended or has news.
    Only that one is asked with a statement; asking each time cost as much as the statement it was for.
    """
    if connection.closed:
        raise psycopg.OperationalError('the connection is closed')
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


class Store:
    """Asynchronous pool of autocommit connections.

    ``url`` is a libpq URL (``?host=/directory`` names a Unix socket directory). Every method raises one of
    ``Unavailable`` when the database cannot be reached within ``WAIT_S`` seconds; the pool reconnects by itself.
    """

    def __init__(self, url: str, size: int = SIZE) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=size,
            timeout=WAIT_S,
            open=False,
            check=_check,
            kwargs={'autocommit': True, 'application_name': 'imp-engine', 'connect_timeout': 5},
        )

    async def open(self) -> None:
        """Start the pool; does not wait for a connection."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode: every statement stands for itself."""
        async with self._pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end of the block, rolled back on an exception."""
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of one statement."""
        async with self._pool.connection() as connection:
            return await (await connection.execute(sql, values)).fetchall()

    async def fetch_one(self, sql: LiteralString, *values: Any) -> tuple[Any, ...] | None:
        """The first row of one statement, or None."""
        async with self._pool.connection() as connection:
            return await (await connection.execute(sql, values)).fetchone()

    async def execute(self, sql: LiteralString, *values: Any) -> int:
        """Run one statement; the number of rows it touched."""
        async with self._pool.connection() as connection:
            return (await connection.execute(sql, values)).rowcount

    async def execute_many(self, sql: LiteralString, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for every row, in one round trip and one transaction."""
        async with self._pool.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(sql, rows)
