"""Certificates by which the nodes of the cluster know each other (column ``node.link_certificate``)."""

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
