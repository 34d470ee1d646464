"""Ad hoc chat rooms: what Cisco XCP Text Conference Manager takes from the console (guide 7757-7881, 7576-7594).

Names that begin with ``owners_change_`` say whether the owner of a room may change the setting before them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal['visitor', 'participant', 'moderator']


class RoomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Messaging > Group Chat and Persistent Chat. The limits hold for every room, the rest is what a new room begins
    with."""

    max_rooms: int = 5500
    """Rooms of one chat node, over all of its aliases."""
    members_only: bool = False
    moderators_invite: bool = True
    """To a members-only room only moderators invite; off: everybody in it does."""
    owners_change_members_only: bool = True
    """Off: also, once a room is configured, its owners change nothing any more (guide 7634-7635)."""
    owners_change_invite: bool = True
    self_membership: bool = False
    """Users can add themselves to a room as members."""
    owners_change_self_membership: bool = False
    absent_visible: bool = True
    """Members and administrators who are not in the room are shown in it."""
    owners_change_absent_visible: bool = True
    gc1: bool = False
    """Clients that speak Group Chat 1.0 may enter."""
    owners_change_gc1: bool = False
    anonymous: bool = False
    owners_change_anonymous: bool = False
    max_users: int = 1000
    """In one room at one time, hidden users counted."""
    max_hidden: int = 1000
    default_occupancy: int = 50
    owners_change_occupancy: bool = True
    private_level: Level = 'visitor'
    """Lowest role that may send a private message."""
    owners_change_private_level: bool = True
    subject_level: Level = 'participant'
    """Lowest role that may change the subject; never 'visitor'."""
    owners_change_subject_level: bool = True
    strip_xhtml: bool = False
    owners_change_xhtml: bool = False
    moderated: bool = False
    owners_change_moderated: bool = True
    archive_maximum: int = 100
    """Messages of a room that can be had back at most."""
    history_default: int = 15
    """Messages shown to who enters; at most ``archive_maximum``."""
    owners_change_history: bool = False


class ChatAlias(msgspec.Struct, frozen=True, kw_only=True):
    """A domain of chat rooms and the node that hosts them; ``primary``: made by the system."""

    alias: str
    node_id: int
    primary: bool = False


class ChatAdministrator(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who owns every room: a bare JID."""

    jid: str
    nickname: str = ''


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about chat rooms.

    ``settings`` and ``aliases`` are taken when Cisco XCP Text Conference Manager starts, ``administrators_enabled``
    when Cisco XCP Router does, the list of ``administrators`` at once (guide 5672).
    """

    settings: RoomSettings = RoomSettings()
    aliases: tuple[ChatAlias, ...] = ()
    administrators_enabled: bool = False
    administrators: tuple[ChatAdministrator, ...] = ()


def system_alias(node_id: int, cluster_id: str, domain: str) -> str:
    """The primary alias of a node, e.g. ``conference-3-mycup.cisco.com`` (guide 7582-7588)."""
    return f'conference-{node_id}-{cluster_id}.{domain}'.lower()
