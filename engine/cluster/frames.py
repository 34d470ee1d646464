"""What travels between two nodes: a length (4 bytes, network order), then a msgpack array of frames, each an array that
begins with its kind. Many frames in one array cost half of what they cost one by one.

Everything but Hello, Ack and Ping is numbered by counting: frame n of a session is the n-th one sent.
"""

from __future__ import annotations

import msgspec

from engine.store.rosters import Item

VERSION = 3
MOST = 500
"""Frames in one array."""
LONGEST = 1024 * 1024 * 1024
"""A longer array ends the link: the other side does not speak this protocol."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """First frame in each direction. ``session`` names the sender's side of the session, ``known`` what it takes for
    the receiver's, ``received`` how many numbered frames it has of it. ``resumed`` (in the answer): it goes on."""

    version: int
    node: int
    session: str
    known: str
    received: int
    resumed: bool = False


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """So many numbered frames were taken: delivered to clients, stored, or answered."""

    received: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nothing to say for a while."""


class Routed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A stanza of a client, with the attributes of its tag: nothing is parsed again. ``number``: the sender of this
    message waits until it is decided (XEP-0198), see Decided; 0: nobody does."""

    name: str
    attrs: dict[str, str]
    raw: bytes
    number: int = 0


class Raw(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A stanza a node made: answers, errors, presence to one address."""

    raw: bytes


class Presence(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Presence of one client for watchers who are signed in at the receiving node: head + watcher + tail."""

    sender: str
    available: bool
    head: bytes
    tail: bytes
    watchers: list[str]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The user ``watcher`` wants to know the presence of these users of the receiving node."""

    watcher: str
    contacts: list[str]


class Deliver(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A subscription stanza for the clients of a user; ``interested``: also for those that only asked for the list."""

    sender: str
    bare: str
    raw: bytes
    interested: bool


class Roster(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A committed change of the contact list of a user of the receiving node: the entry ``jid`` is now ``item``.
    ``request``: the subscription request that waits."""

    user_id: int
    version: int
    jid: str
    item: Item | None
    request: bytes


class Online(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """These users are signed in at the sending node; ``all``: and nobody else."""

    users: list[str]
    all: bool


class Offline(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """This user is not signed in at the sending node any more."""

    user: str


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A message was put into the offline store for this user of the receiving node."""

    user: str


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """What became of the messages with these numbers is certain: a client has acknowledged each (or, without XEP-0198,
    the system took it), it is on disk, or it was returned."""

    numbers: list[int]


class Standby(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The client with this full JID has an inactive connection to the sending node (``on``), or no longer."""

    client: str
    on: bool


class Mirror(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """To the node of the inactive connection of a client: its presence (b'': none), whether it is interested in the
    contact list, and whether it has enabled message carbons."""

    client: str
    presence: bytes
    interested: bool
    carbons: bool


class Serving(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The sending node serves the users of these home nodes, and of no others."""

    homes: list[int]


class Hosting(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The sending node hosts the chat rooms of these aliases, and of no others."""

    aliases: list[str]


class Copy(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """A stanza of a chat room for a client (full JID) of the receiving node."""

    to: str
    raw: bytes


class Missing(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """The client a Copy was for is not there."""

    client: str


Frame = (
    Decided | Serving | Standby | Mirror | Hello | Ack | Ping | Routed | Raw | Presence | Probe | Deliver | Roster
    | Online | Offline | Stored | Hosting | Copy | Missing
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Frame])


def encode(*batch: Frame) -> bytes:
    """The bytes of one array of frames, its length first."""
    body = _encoder.encode(batch)
    return len(body).to_bytes(4) + body


def decode(body: bytes | memoryview) -> list[Frame]:
    """One array of frames without its length. Raises ``msgspec.DecodeError``."""
    batch: list[Frame] = _decoder.decode(body)
    return batch
