"""The presence engine service."""

from __future__ import annotations

from collections.abc import Iterable

from engine.contract.services import PRESENCE_ENGINE
from engine.services.base import Service


class PresenceEngine(Service):
    """Contact lists, subscriptions and availability of the users of one node."""

    key = PRESENCE_ENGINE

    async def contact_lists_changed(self, ids: Iterable[int]) -> None:
        """Contact lists of these end users were written outside the engine: read them again, push what differs."""
        raise NotImplementedError
