"""One room: who is in it, who may what. The other modules here are what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from precis_i18n import get_profile

from engine.contract.chat import Level, RoomSettings
from engine.muc.history import History

Outgoing = list[tuple[str, bytes]]
"""Whole stanzas with ``from`` and ``to``, each with the JID it goes to, in order."""
Halves = tuple[bytes, bytes]
"""A stanza around the place of its addressee."""
Affiliation = Literal['outcast', 'none', 'member', 'admin', 'owner']
Role = Literal['none', 'hidden', 'visitor', 'participant', 'moderator']
AFFILIATIONS: Final[tuple[Affiliation, ...]] = ('outcast', 'none', 'member', 'admin', 'owner')
"""From lowest to highest."""
ROLES: Final[tuple[Role, ...]] = ('none', 'hidden', 'visitor', 'participant', 'moderator')
LISTED: Final = frozenset(('member', 'admin', 'owner'))
RULING: Final = frozenset(('admin', 'owner'))

NICK: Final = 255
"""Most characters of a nickname."""
TEXT: Final = 1024
"""Most characters of a subject, a reason, a name, a description, a password."""
ENTRIES: Final = 2000
"""Most affiliations of a room."""
DEVICES: Final = 20
"""Most clients of one user that share a nickname."""

_nickname = get_profile('NicknameCaseMapped')


class Refused(Exception):
    """What was asked is not done, and nothing changed: the stanza is answered with this error."""

    def __init__(self, condition: str, text: str = '', type: str = '') -> None:
        super().__init__(text or condition)
        self.condition = condition
        self.text = text
        self.type = type


@lru_cache(maxsize=20_000)
def nick_key(nick: str) -> str:
    """What makes two nicknames the same (RFC 8266 2.4). Raises Refused."""
    if len(nick) > NICK:
        raise Refused('not-acceptable', f'A nickname has at most {NICK} characters.')
    try:
        key: str = _nickname.enforce(nick)
    except UnicodeError:
        raise Refused('not-acceptable', 'The nickname has characters that cannot be shown.') from None
    return key


@dataclass(frozen=True, slots=True)
class Config:
    """What the owner of a room may set, as far as the service lets owners."""

    members_only: bool
    moderators_invite: bool
    self_membership: bool
    absent_visible: bool
    gc1: bool
    anonymous: bool
    max_users: int
    private_level: Level
    subject_level: Level
    strip_xhtml: bool
    moderated: bool
    history: int
    name: str = ''
    description: str = ''
    public: bool = True
    password: str = ''

    @property
    def listed(self) -> bool:
        """Whether the room can be found: only public rooms can (guide 5620)."""
        return self.public and not self.members_only


def inherited(settings: RoomSettings) -> Config:
    """What a new room begins with (guide 7791)."""
    return Config(
        members_only=settings.members_only,
        moderators_invite=settings.moderators_invite,
        self_membership=settings.self_membership,
        absent_visible=settings.absent_visible,
        gc1=settings.gc1,
        anonymous=settings.anonymous,
        max_users=min(settings.default_occupancy, settings.max_users),
        private_level=settings.private_level,
        subject_level=settings.subject_level,
        strip_xhtml=settings.strip_xhtml,
        moderated=settings.moderated,
        history=min(settings.history_default, settings.archive_maximum),
    )


@dataclass(slots=True)
class Entry:
    """A user the room knows. ``nick``: the last one, or the ``reserved`` one; ``affiliation`` may be 'none' for no
    longer than a change takes."""

    affiliation: Affiliation
    nick: str = ''
    reserved: bool = False
    reason: str = ''


class Session:
    """A client in the room: ``address`` is its full JID as written in an attribute, ``presence`` its newest one without
    addresses, cleaned; ``gc1``: it entered by Group Chat 1.0; ``number`` is its own in this room."""

    __slots__ = ('address', 'full', 'gc1', 'number', 'presence')

    def __init__(self, full: str, address: bytes, number: int, gc1: bool) -> None:
        self.full = full
        self.address = address
        self.number = number
        self.gc1 = gc1
        self.presence = b'<presence/>'


class Occupant:
    """A nickname in the room and the clients of its user that share it; the last one's presence is what is shown.
    ``told`` is the presence made of it, by whether the receiver sees JIDs, and of what it was made."""

    __slots__ = ('bare', 'key', 'nick', 'role', 'sessions', 'told')

    def __init__(self, nick: str, key: str, bare: str, role: Role) -> None:
        self.nick = nick
        self.key = key
        self.bare = bare
        self.role = role
        self.sessions: dict[str, Session] = {}
        self.told: dict[bool, tuple[tuple[str | bytes, ...], Halves]] = {}

    @property
    def shown(self) -> Session:
        """The client whose presence the others see."""
        return next(reversed(self.sessions.values()))

    @property
    def hidden(self) -> bool:
        """Whether nobody sees this one (guide 7834)."""
        return self.role == 'hidden'


class Home:
    """What all rooms of a node share; ``rooms.Rooms`` is one."""

    def __init__(self, settings: RoomSettings, token: Callable[[], str]) -> None:
        self.settings = settings
        self.token = token
        self.rooms: dict[str, Room] = {}
        self.where: dict[str, set[str]] = {}
        self.administrators: frozenset[str] = frozenset()
        self.sharing: Callable[[str], bool] = lambda _bare: True


@dataclass(slots=True, eq=False)
class Room:
    """A room and who is in it.

    ``occupants`` by nickname key, ``by_jid`` by full JID, ``entries`` by bare JID or (only outcasts) domain;
    ``subject`` is the message that set the ``topic``; ``invited`` are (who invited, who was), both bare; ``asking`` is
    when somebody (a key) asked for voice; ``privates`` who sent a private message, by its receiver (both full) and id;
    ``stamp`` begins the ids of the room's messages.
    """

    jid: str
    home: Home
    config: Config
    stamp: bytes
    locked: bool = True
    persistent: bool = False
    occupants: dict[str, Occupant] = field(default_factory=dict)
    by_jid: dict[str, Occupant] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    history: History = field(default_factory=History)
    subject: bytes = b''
    topic: str = ''
    invited: dict[tuple[str, str], None] = field(default_factory=dict)
    asking: dict[str, float] = field(default_factory=dict)
    privates: dict[tuple[str, str], str] = field(default_factory=dict)
    numbers: int = 0
    messages: int = 0
    fan: dict[str, bytes] = field(default_factory=dict)
    """Where a message goes: the full JID of every client, with the same as written in an attribute."""

    def affiliation(self, bare: str) -> Affiliation:
        """What this user is to the room; a system administrator owns it."""
        if bare in self.home.administrators:
            return 'owner'
        if (entry := self.entries.get(bare)) is not None:
            return entry.affiliation
        domain = self.entries.get(bare.rpartition('@')[2])
        return 'outcast' if domain is not None and domain.affiliation == 'outcast' else 'none'

    def rules(self, bare: str) -> bool:
        """Whether this user administers the room."""
        return self.affiliation(bare) in RULING

    def default_role(self, affiliation: Affiliation) -> Role:
        """The role somebody of this affiliation enters with (XEP-0045 5.2.2)."""
        if affiliation in RULING:
            return 'moderator'
        return 'visitor' if self.config.moderated and affiliation == 'none' else 'participant'

    def sees_jids(self, occupant: Occupant) -> bool:
        """Whether this occupant is told who the others are."""
        return not self.config.anonymous or occupant.role == 'moderator'

    def sessions(self) -> Iterator[tuple[Occupant, Session]]:
        """Every client in the room."""
        for occupant in self.occupants.values():
            for session in occupant.sessions.values():
                yield occupant, session

    def of_user(self, bare: str) -> list[Occupant]:
        """The nicknames of one user; of a domain, those of its users."""
        return [one for one in self.occupants.values() if one.bare == bare or one.bare.endswith(f'@{bare}')]

    def occupant(self, sender: str) -> Occupant:
        """The occupant this full JID is. Raises Refused."""
        found = self.by_jid.get(sender)
        if found is None:
            raise Refused('not-acceptable', 'You are not in this room.')
        return found

    def named(self, nick: str) -> Occupant:
        """The visible occupant of this nickname. Raises Refused."""
        found = self.occupants.get(nick_key(nick))
        if found is None or found.hidden:
            raise Refused('item-not-found', 'Nobody in this room has that nickname.')
        return found


def rank(role: Role | Level) -> int:
    """The place of a role on the ladder (guide 7842)."""
    return ROLES.index(role)


def limited(text: str, what: str) -> str:
    """A text that somebody wrote, if it is short enough. Raises Refused."""
    if len(text) > TEXT:
        raise Refused('not-acceptable', f'The {what} has at most {TEXT} characters.')
    return text
