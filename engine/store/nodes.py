"""What the nodes of the cluster know of each other: certificates (column ``node.link_certificate``), and which node
serves whose users (table ``node_recovery``)."""

from __future__ import annotations

from engine.store.pool import Store


async def publish(store: Store, node_id: int, pem: str) -> None:
    """Note the certificate this node shows on its links."""
    await store.execute(
        'UPDATE node SET link_certificate = %s WHERE id = %s AND link_certificate <> %s', pem, node_id, pem
    )


async def certificates(store: Store) -> dict[int, str]:
    """PEM certificate by node id; nodes that never started are left out."""
    return dict(await store.fetch("SELECT id, link_certificate FROM node WHERE link_certificate <> ''"))


async def owners(store: Store) -> list[tuple[int, int, int]]:
    """(home node, node that owns its users, epoch); a node without a row owns itself at epoch 1."""
    return [(row[0], row[1], row[2]) for row in await store.fetch('SELECT node_id, owner_id, epoch FROM node_recovery')]
