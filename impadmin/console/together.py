"""Many rows in one go: what is the same for every row is done once for all of them.

``with rows():`` opens a savepoint around several rows instead of one around each. Inside, ``once`` keeps what was read
and ``merged`` gathers what can wait for the end (audit entries, deletions, announcements). A row that is refused
before it wrote is told and the next one goes on; a refusal after that raises Apart: everything is taken back, and the
caller does the rows one by one. So the outcome is that of single rows, only the common case costs less.

Outside of ``rows``, and inside a savepoint of a writer's own, everything happens at once: what a savepoint takes back
was never gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, connection, transaction


class Apart(Exception):
    """A row was refused after it had begun to write: the rows must be done one by one."""


@dataclass(slots=True)
class _Rows:
    savepoints: list[str]
    """The savepoints that were open at the beginning: deeper inside, nothing is kept or gathered."""
    kept: dict[str, Any] = field(default_factory=dict)
    gathered: dict[Callable[[list[Any]], Any], list[Any]] = field(default_factory=dict)
    wrote: bool = False
    """Whether the present row has begun to write."""


_rows: ContextVar[_Rows | None] = ContextVar('rows', default=None)


def _here() -> _Rows | None:
    found = _rows.get()
    return found if found is not None and found.savepoints == connection.savepoint_ids else None


@contextmanager
def rows() -> Iterator[None]:
    """Do rows together; at the end what was gathered is done, in the order of its first item. Raises Apart."""
    with transaction.atomic():
        found = _Rows(list(connection.savepoint_ids))
        outer = _rows.set(found)
        try:
            yield
        finally:
            _rows.reset(outer)
        try:
            for do, items in found.gathered.items():
                do(items)
        except Exception as error:
            raise Apart from error


@contextmanager
def row() -> Iterator[None]:
    """Around one row: its savepoint, or among ``rows`` none. What fails after ``writes`` raises Apart there."""
    found = _here()
    if found is None:
        with transaction.atomic():
            yield
        return
    found.wrote = False
    try:
        yield
    except Exception as error:
        if found.wrote or isinstance(error, DatabaseError):
            raise Apart from error
        raise


def writes() -> None:
    """The present row begins to write."""
    if (found := _here()) is not None:
        found.wrote = True


@contextmanager
def savepoint() -> Iterator[None]:
    """For a writer that expects a refusal of the database: a savepoint, or among ``rows`` none but Apart."""
    if _here() is None:
        with transaction.atomic():
            yield
        return
    try:
        yield
    except DatabaseError as error:
        raise Apart from error


def once(name: str, read: Callable[[], Any]) -> Any:
    """The result of ``read``, among ``rows`` that of the first call."""
    if (found := _here()) is None:
        return read()
    if name not in found.kept:
        value = read()
        found.kept[name] = value
    return found.kept[name]


def forget() -> None:
    """What ``once`` kept is read again: a lock was taken, and what was read before it may be old."""
    if (found := _here()) is not None:
        found.kept.clear()


def merged(do: Callable[[list[Any]], Any], items: Iterable[Any]) -> None:
    """Call ``do`` with a list of ``items``: now, or among ``rows`` once at their end with those of all rows."""
    if (found := _here()) is None:
        do(list(items))
    else:
        found.gathered.setdefault(do, []).extend(items)
