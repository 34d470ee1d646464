"""Certificates made in the console (tables ``certificate``, ``certificate_key``, ``node_key``), and what a node reports
of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.store.pool import Store

_COLUMNS = (
    'common_name', 'issuer', 'serial', 'key_type', 'names', 'starts_at', 'ends_at', 'fingerprint', 'self_signed',
    'key_id', 'pem', 'chain',
)  # fmt: skip
_ADD = (
    f'INSERT INTO certificate (name, kind, node_id, origin, {", ".join(_COLUMNS)})'
    f' SELECT %s, %s, %s, %s{", %s" * len(_COLUMNS)}'
)
_OWN = (
    _ADD
    + ' FROM node WHERE id = %s FOR KEY SHARE'
    + " ON CONFLICT (node_id, name, kind) WHERE NOT kind = 'trust' DO UPDATE SET origin = excluded.origin, "
    + ', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)
    + " WHERE certificate.origin IN ('node', 'file')"
)
_TRUST = _ADD + " ON CONFLICT (name, fingerprint) WHERE kind = 'trust' DO NOTHING"


@dataclass(frozen=True, slots=True)
class Stored:
    """A certificate of the console: its PEM, that of its chain, and the key sealed to this node ('' when it is not)."""

    name: str
    pem: str
    chain: str
    key_id: str
    sealed: str


async def introduce(store: Store, node_id: int, public: str) -> None:
    """Note the public key to which the console seals what this node alone may read."""
    await store.execute(
        'INSERT INTO node_key (node_id, public) SELECT id, %s FROM node WHERE id = %s FOR KEY SHARE'
        ' ON CONFLICT (node_id) DO UPDATE SET public = excluded.public',
        public,
        node_id,
    )


async def find(store: Store, node_id: int, fingerprint: str) -> Stored | None:
    """The certificate with this fingerprint, or None when it was replaced or deleted."""
    row = await store.fetch_one(
        "SELECT c.name, c.pem, c.chain, c.key_id, coalesce(k.sealed, '') FROM certificate c"
        ' LEFT JOIN certificate_key k ON k.certificate_id = c.id AND k.node_id = %s'
        " WHERE c.kind = 'identity' AND c.fingerprint = %s AND (c.node_id = %s OR c.node_id IS NULL)",
        node_id,
        fingerprint,
        node_id,
    )
    return Stored(*row) if row else None


async def trusted(store: Store, name: str) -> list[str]:
    """PEM certificates in a trust store."""
    rows = await store.fetch("SELECT pem FROM certificate WHERE kind = 'trust' AND name = %s ORDER BY id", name)
    return [row[0] for row in rows]


async def shows(store: Store, node_id: int, name: str, origin: str, described: Mapping[str, Any]) -> None:
    """Note a certificate that the node has of itself ('node') or from a file ('file'). One of the console stays."""
    values = [described[column] for column in _COLUMNS]
    await store.execute(_OWN, name, 'identity', node_id, origin, *values, node_id)


async def forget(store: Store, node_id: int, names: list[str]) -> None:
    """The node has no certificates of its own of these names any more."""
    await store.execute(
        "DELETE FROM certificate WHERE node_id = %s AND origin IN ('node', 'file') AND name = ANY(%s)", node_id, names
    )


async def trust(store: Store, name: str, described: Mapping[str, Any]) -> None:
    """Put a certificate into a trust store, unless it is there."""
    await store.execute(_TRUST, name, 'trust', None, 'imported', *(described[column] for column in _COLUMNS))


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate that ends soon or has ended."""

    id: int
    name: str
    common_name: str
    ends_at: datetime
    noticed_at: datetime | None


async def expiring(store: Store, node_id: int, shared: bool, before: datetime) -> list[Expiring]:
    """The certificates of a node that end before a time; ``shared``: those of all nodes, too."""
    rows = await store.fetch(
        'SELECT id, name, common_name, ends_at, noticed_at FROM certificate'
        ' WHERE ends_at < %s AND (node_id = %s OR (%s AND node_id IS NULL)) ORDER BY ends_at, id',
        before,
        node_id,
        shared,
    )
    return [Expiring(*row) for row in rows]


async def noticed(store: Store, certificate_id: int, at: datetime) -> None:
    """Note when it was last told that a certificate expires."""
    await store.execute('UPDATE certificate SET noticed_at = %s WHERE id = %s', at, certificate_id)
