"""What clusters tell each other about themselves: this side's answer, and the form in which another one's is read.

Users are compared by 256 digests, one for each first byte of the MD5 of the address; only buckets that differ are
fetched. That finds every difference whatever happened before, costs some kilobytes when there is none, and needs no
record of what was deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from django.db import connection
from django.http import HttpRequest

from engine.contract.restarts import parameter_value
from engine.contract.services import INTERCLUSTER_SYNC_AGENT, SYNC_AGENT, XCP_ROUTER
from impadmin.console import generations
from impadmin.presence import inventory
from impadmin.presence.models import ClusterIdentity, Domain, InterclusterPeer
from impadmin.system.models import Node
from impadmin.system.state import is_running

PROTOCOL = 1
BUCKETS = 256
Number = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Key = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Bucket = Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
PAGE = 16
"""Buckets in one answer."""
_LIVE = 'im_address IS NOT NULL AND active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL'
_BUCKET = "get_byte(decode(md5(im_address), 'hex'), 0)"
_DIGEST = "md5(string_agg(im_address || ' ' || home_node_id, E'\\n' ORDER BY im_address COLLATE \"C\"))"
_COUNT = f'SELECT 0, count(*) FROM end_user WHERE {_LIVE}'  # noqa: S608 - constants
_DIGESTS = f"""
    SELECT {_BUCKET}, count(*), {_DIGEST} FROM end_user WHERE {_LIVE} GROUP BY 1
"""  # noqa: S608
_USERS = f"""
    SELECT {_BUCKET}, array_agg(im_address ORDER BY im_address COLLATE "C"),
        array_agg(home_node_id ORDER BY im_address COLLATE "C"), {_DIGEST}
    FROM end_user WHERE {_LIVE} AND {_BUCKET} = ANY(%s) GROUP BY 1
"""  # noqa: S608


class ToldNode(msgspec.Struct, frozen=True):
    """A node: where it listens for peer clusters, and the certificate it shows there."""

    id: Key
    name: str
    address: str
    port: Number
    publisher: bool
    certificate: str


class ToldDomain(msgspec.Struct, frozen=True):
    """An IM address domain."""

    name: str
    configured: bool
    users: Number


class Told(msgspec.Struct, frozen=True):
    """A cluster about itself. ``digests``: bucket -> digest; ``peers``: uids of the clusters it has an entry for."""

    protocol: int
    uid: str
    cluster_id: str
    address_scheme: str
    users: Number
    nodes: list[ToldNode]
    domains: list[ToldDomain]
    digests: dict[Bucket, str]
    peers: list[str]
    sync_agent: bool
    intercluster_sync_agent: bool


class ToldUsers(msgspec.Struct, frozen=True):
    """One bucket of users: ``nodes`` has the home node of the address at the same place."""

    bucket: Bucket
    digest: str
    addresses: list[str]
    nodes: list[Key]


class Buckets(msgspec.Struct, frozen=True):
    """The buckets that were asked for; an empty one is left out."""

    buckets: list[ToldUsers]


def identity() -> str:
    """By what other clusters know this one."""
    return str(ClusterIdentity.objects.get_or_create(pk=1)[0].uid)


def nodes() -> list[ToldNode]:
    """The nodes of this cluster."""
    config = generations.compiled()
    return [
        ToldNode(
            node.pk, node.name, node.address, int(parameter_value(config, node.name, XCP_ROUTER, 'peer_link_port')),
            node.publisher, node.link_certificate,
        )
        for node in Node.objects.order_by('pk')
    ]  # fmt: skip


def about(*, digests: bool = True) -> Told:
    """This cluster. Digests, which cost most, are for programs."""
    with connection.cursor() as cursor:
        cursor.execute(_DIGESTS if digests else _COUNT)
        rows = cursor.fetchall()
    peers = InterclusterPeer.objects.exclude(uid=None).values_list('uid', flat=True)
    own = Domain.objects.filter(local=True).order_by('key')
    return Told(
        protocol=PROTOCOL,
        uid=identity(),
        cluster_id=generations.compiled().cluster_name,
        address_scheme=inventory.advanced().address_scheme,
        users=sum(row[1] for row in rows),
        nodes=nodes(),
        domains=[ToldDomain(row.name, row.configured, row.user_count) for row in own],
        digests={row[0]: row[2] for row in rows} if digests else {},
        peers=[str(uid) for uid in peers],
        sync_agent=is_running(SYNC_AGENT),
        intercluster_sync_agent=is_running(INTERCLUSTER_SYNC_AGENT),
    )


def users(buckets: Sequence[int]) -> Buckets:
    """The users of this cluster in these buckets."""
    with connection.cursor() as cursor:
        cursor.execute(_USERS, [list(buckets)])
        return Buckets([ToldUsers(row[0], row[3], row[1], row[2]) for row in cursor.fetchall()])


def answer(request: HttpRequest) -> dict[str, Any]:
    """``GET /api/v1/local-cluster/``: about this cluster, or with ``?bucket=`` the users of up to 16 buckets."""
    asked = [
        int(text)
        for text in request.GET.getlist('bucket')[:PAGE]
        if text.isdecimal() and len(text) < 4 and int(text) < BUCKETS
    ]
    found: dict[str, Any] = msgspec.to_builtins(users(asked) if asked else about())
    return found
