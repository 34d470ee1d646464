"""A dictionary that keeps the newest entries."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar('K')
V = TypeVar('V')


def remember(cache: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """``key`` is the newest entry; the oldest one goes when there are more than ``most``."""
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > most:
        cache.popitem(last=False)
