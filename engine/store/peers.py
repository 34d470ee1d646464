"""What is known of peer clusters (tables ``intercluster_*``, written by the console's synchronisation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.store.pool import Store


class PeerNode(NamedTuple):
    """A node of a peer cluster. ``id`` is the row, ``remote_id`` what the peer calls it."""

    id: int
    peer: int
    remote_id: int
    name: str
    address: str
    port: int
    certificate: str


async def versions(store: Store) -> dict[int, int]:
    """Version of what is known of each peer that has been synchronised."""
    return dict(await store.fetch('SELECT id, version FROM intercluster_peer WHERE version > 0 ORDER BY id'))


async def nodes(store: Store) -> list[PeerNode]:
    """Every node of every peer that has a certificate."""
    rows = await store.fetch(
        "SELECT id, peer_id, remote_id, name, address, port, certificate FROM intercluster_node WHERE certificate <> ''"
        ' ORDER BY id'
    )
    return [PeerNode(*row) for row in rows]


async def domains(store: Store) -> frozenset[str]:
    """The IM address domains of all peers."""
    return frozenset(row[0] for row in await store.fetch('SELECT DISTINCT key FROM intercluster_domain'))


async def digests(store: Store) -> dict[tuple[int, int], str]:
    """(peer, bucket) -> digest of the users in it."""
    rows = await store.fetch('SELECT peer_id, bucket, digest FROM intercluster_users')
    return {(peer, bucket): digest for peer, bucket, digest in rows}


Users = tuple[str, list[str], list[int]]
"""Digest, addresses, and their home nodes (``remote_id``)."""


async def users(store: Store, peer: int, buckets: Sequence[int]) -> list[tuple[int, Users]]:
    """Some buckets of a peer."""
    rows = await store.fetch(
        'SELECT bucket, digest, addresses, nodes FROM intercluster_users WHERE peer_id = %s AND bucket = ANY(%s)',
        peer,
        list(buckets),
    )
    return [(bucket, (digest, addresses, homes)) for bucket, digest, addresses, homes in rows]


async def local_ones(store: Store) -> frozenset[str]:
    """Addresses of peers' users that users of this cluster have, too."""
    rows = await store.fetch(
        'SELECT DISTINCT u.im_address FROM intercluster_users b, unnest(b.addresses) AS a (address)'
        ' JOIN end_user u ON u.im_address = a.address'
    )
    return frozenset(row[0] for row in rows)


async def record_links(store: Store, node_id: int, links: dict[int, bool]) -> None:
    """Links from this node to nodes of peers (row -> whether it is up); a row that is gone is left out."""
    async with store.transaction() as connection:
        await connection.execute(
            'DELETE FROM intercluster_link WHERE node_id = %s AND other_id <> ALL(%s)', (node_id, list(links))
        )
        for other, up in links.items():
            await connection.execute(
                'INSERT INTO intercluster_link (node_id, other_id, up, since)'
                ' SELECT %s, id, %s, now() FROM intercluster_node WHERE id = %s'
                ' ON CONFLICT (node_id, other_id) DO UPDATE SET up = excluded.up, since = excluded.since'
                ' WHERE intercluster_link.up <> excluded.up',
                (node_id, up, other),
            )


async def synchronise_soon(store: Store, peer: int) -> None:
    """A peer has users that are not known here yet: do not wait for the next turn, at most once a minute."""
    await store.execute(
        'UPDATE intercluster_peer SET next_at = now() WHERE id = %s AND next_at > now()'
        " AND tried_at < now() - interval '60 s'",
        peer,
    )
