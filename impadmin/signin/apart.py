"""Work that stays done when the transaction around it is rolled back: counting guesses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection
from django.utils import translation

Answer = TypeVar('Answer')
LONGEST_WAIT = '5s'
"""For a lock that the transaction around holds: better an error than both waiting for ever."""


def apart(work: Callable[[], Answer]) -> Answer:
    """What ``work()`` returns, from a thread with a database connection of its own."""
    language = translation.get_language() or 'en'

    def run() -> Answer:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [LONGEST_WAIT])
            with translation.override(language):
                return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
