"""Cisco XCP Directory Service: while it runs, XMPP clients find people by name (XEP-0055).

The protocol stands in engine/features/search.py. It searches the end users of this cluster; LDAP directories join with
the settings for third-party clients.
"""

from __future__ import annotations

from typing import ClassVar

from engine.contract.services import DIRECTORY
from engine.services.base import Service


class DirectoryService(Service):
    """The switch of the directory, and its parameters."""

    key: ClassVar[str] = DIRECTORY
