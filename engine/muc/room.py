"""One room."""

from __future__ import annotations

Outgoing = list[tuple[str, bytes]]
"""Whole stanzas with ``from`` and ``to``, each with the JID it goes to, in order."""


class Room:
    """A room and who is in it."""
