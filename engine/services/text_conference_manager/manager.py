"""The service: while it runs, the group chat server aliases of this node have rooms."""

from __future__ import annotations

from typing import ClassVar

from engine.contract.services import TEXT_CONFERENCE_MANAGER
from engine.services.base import Service


class TextConferenceManager(Service):
    """The chat node of this node."""

    key: ClassVar[str] = TEXT_CONFERENCE_MANAGER
