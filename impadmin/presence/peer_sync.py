"""One synchronisation with a peer cluster: ask, object, fetch what differs, take it, say how it went.

What cannot be right is refused as a whole and leaves what was known before, so users stay reachable while a peer has
trouble. An entry on one side only is such a case: nothing flows in one direction.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import md5
from uuid import UUID

from cryptography import x509
from django.db import connection, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone
from django.utils.translation import gettext_noop

from engine.contract.jid import InvalidJID, prepare
from engine.contract.services import INTERCLUSTER_SYNC_AGENT, parameter
from impadmin.console.jobs import message
from impadmin.presence import inventory, peer_client, peer_exchange
from impadmin.presence.models import InterclusterPeer, PeerDomain, PeerNode, PeerState, PeerUsers
from impadmin.presence.peer_client import PeerProblem
from impadmin.presence.peer_exchange import Buckets, Told, ToldUsers
from impadmin.presence.rules import name_error
from impadmin.system.models import Alarm, Node, ParameterValue, ServiceCommand
from impadmin.system.rules import is_host_name, is_ip_address

log = logging.getLogger(__name__)

RETRY = timedelta(minutes=5)
SOON = timedelta(minutes=1)
"""For what the other administrator is about to do."""
TURN = timedelta(minutes=10)
"""A synchronisation that has not ended by then was interrupted."""
STUCK = timedelta(hours=2)
MOST_NODES, MOST_DOMAINS, MOST_USERS = 16, 10_000, 250_000
TOO_MUCH = gettext_noop('The peer has more nodes, domains or users than a cluster can have.')
UNREADABLE = gettext_noop('The answer of the peer cannot be read: %(reason)s')
DUPLICATE, STUCK_ALARM = 'DuplicateUserid', 'InterClusterSyncAgentPeerPeriodicSyncingFailure'
_DUPLICATES = """
    WITH mine AS (SELECT DISTINCT unnest(addresses) AS address FROM intercluster_users WHERE peer_id = %(peer)s)
    SELECT address FROM mine JOIN end_user ON im_address = address
    UNION
    SELECT address FROM mine
        JOIN (SELECT unnest(addresses) AS address FROM intercluster_users WHERE peer_id <> %(peer)s) AS others
        USING (address)
    ORDER BY 1
"""


def agent_parameter(name: str) -> object:
    """The value in force of a parameter of Cisco Intercluster Sync Agent."""
    stored = ParameterValue.objects.filter(service=INTERCLUSTER_SYNC_AGENT, name=name, node=None).first()
    return stored.value if stored else parameter(INTERCLUSTER_SYNC_AGENT, name).default


def due(now: datetime) -> list[int]:
    """Peers whose turn it is."""
    return list(InterclusterPeer.objects.filter(_is_due(now)).order_by('pk').values_list('pk', flat=True))


def _is_due(now: datetime) -> Q:
    return Q(next_at=None) | Q(next_at__lte=now)


def synchronise(pk: int, forced: bool = False) -> None:
    """Ask one peer and take what it says. ``forced``: certificates too, whatever the parameter says."""
    now = timezone.now()
    mine = Q(pk=pk) if forced else Q(pk=pk) & _is_due(now)
    if not InterclusterPeer.objects.filter(mine).update(tried_at=now, next_at=now + TURN):
        return
    peer = InterclusterPeer.objects.get(pk=pk)
    try:
        told = peer_client.get(peer, '', Told)
        InterclusterPeer.objects.filter(pk=pk).update(uid=_uid(told), cluster=told.cluster_id[:50])
        object_to(peer, told)
        changed = _fetch(peer, told)
        take_certificates = forced or agent_parameter('sync_certificates') == 'perform'
        _take(pk, told, changed, take_certificates)
    except PeerProblem as problem:
        _failed(pk, problem)
    alarms()


def _uid(told: Told) -> UUID:
    try:
        return UUID(told.uid)
    except ValueError:
        raise PeerProblem(UNREADABLE, reason='uid') from None


def object_to(peer: InterclusterPeer, told: Told) -> None:
    """Raise PeerProblem when the two clusters do not go together."""
    if told.protocol != peer_exchange.PROTOCOL:
        raise PeerProblem(gettext_noop('The peer runs another release, which tells other things.'))
    if told.uid == peer_exchange.identity():
        raise PeerProblem(gettext_noop('This is the own cluster.'))
    twin = InterclusterPeer.objects.filter(uid=told.uid).exclude(pk=peer.pk).first()
    if twin is not None:
        raise PeerProblem(gettext_noop('This is the same cluster as %(name)s.'), name=twin.address)
    publisher = next((node for node in told.nodes if node.publisher), None)
    names = {publisher.name.lower(), publisher.address.lower()} if publisher else set()
    if peer.address.lower() not in names:
        name = publisher.name if publisher else '–'
        raise PeerProblem(gettext_noop('Node name mismatch: the publisher of the peer is %(name)s.'), name=name)
    own = inventory.advanced().address_scheme
    if told.address_scheme != own:
        text = gettext_noop('The IM address schemes differ: %(own)s here, %(other)s at the peer.')
        raise PeerProblem(text, own=own, other=told.address_scheme[:40])
    for running, name in (
        (told.sync_agent, 'Cisco Sync Agent'),
        (told.intercluster_sync_agent, 'Cisco Intercluster Sync Agent'),
    ):
        if not running:
            raise PeerProblem(gettext_noop('%(service)s is not running on the publisher of the peer.'), service=name)
    if len(told.nodes) > MOST_NODES or len(told.domains) > MOST_DOMAINS or told.users > MOST_USERS:
        raise PeerProblem(TOO_MUCH)
    if len({node.id for node in told.nodes}) < len(told.nodes):
        raise PeerProblem(UNREADABLE, reason='nodes')
    if peer_exchange.identity() not in told.peers:
        raise OneSided(gettext_noop('The peer has no entry for this cluster yet. Add it there, too.'))


class OneSided(PeerProblem):
    """The other side does not know this one."""


def _fetch(peer: InterclusterPeer, told: Told) -> list[ToldUsers]:
    """The buckets that are not as the peer says they are now."""
    known = dict(PeerUsers.objects.filter(peer=peer).values_list('bucket', 'digest'))
    wanted = sorted(bucket for bucket, digest in told.digests.items() if known.get(bucket) != digest)
    found: dict[int, ToldUsers] = {}
    for page in _pages(wanted):
        query = '?' + '&'.join(f'bucket={bucket}' for bucket in page)
        answers = peer_client.get(peer, query, Buckets).buckets
        found |= {one.bucket: _checked(one) for one in answers if one.bucket in page}
        if sum(len(one.addresses) for one in found.values()) > MOST_USERS:
            raise PeerProblem(TOO_MUCH)
    return list(found.values())


def _pages(buckets: list[int]) -> Iterable[list[int]]:
    size = peer_exchange.PAGE
    return (buckets[at : at + size] for at in range(0, len(buckets), size))


def _checked(told: ToldUsers) -> ToldUsers:
    """Without what is no address, or stands in the wrong bucket."""
    if len(told.addresses) != len(told.nodes):
        raise PeerProblem(UNREADABLE, reason='users')
    rows = [row for row in zip(told.addresses, told.nodes, strict=True) if _is_address(row[0], told.bucket)]
    return ToldUsers(told.bucket, told.digest[:32], [row[0] for row in rows], [row[1] for row in rows])


def _is_address(text: str, bucket: int) -> bool:
    try:
        fine = '@' in text and '/' not in text and prepare(text) == text
    except InvalidJID:
        return False
    return fine and md5(text.encode(), usedforsecurity=False).digest()[0] == bucket


def _take(pk: int, told: Told, changed: list[ToldUsers], certificates: bool) -> None:
    with transaction.atomic():
        peer = InterclusterPeer.objects.select_for_update().filter(pk=pk).first()
        if peer is None:
            return  # deleted meanwhile
        news = [_take_nodes(peer, told, certificates), _take_domains(peer, told), bool(changed)]
        gone, _ = PeerUsers.objects.filter(peer=peer).exclude(bucket__in=list(told.digests)).delete()
        PeerUsers.objects.bulk_create(
            [
                PeerUsers(peer=peer, bucket=one.bucket, digest=one.digest, addresses=one.addresses, nodes=one.nodes)
                for one in changed
            ],
            update_conflicts=True, unique_fields=['peer', 'bucket'], update_fields=['digest', 'addresses', 'nodes'],
        )  # fmt: skip
        if any(news) or gone or not peer.version:
            peer.version += 1
        now = timezone.now()
        peer.state, peer.problem, peer.synced_at, peer.recoveries = PeerState.SYNCED, '', now, 0
        peer.next_at = now + timedelta(minutes=int(str(agent_parameter('sync_interval_min'))))
        peer.users = PeerUsers.objects.filter(peer=peer).aggregate(all=Sum('addresses__len'))['all'] or 0
        if peer.users > MOST_USERS:
            raise PeerProblem(TOO_MUCH)
        peer.save(update_fields=['version', 'state', 'problem', 'synced_at', 'recoveries', 'next_at', 'users'])
        inventory.follow_peers()
    count_duplicates()
    log.info('InterClusterSyncAgentStatus: peer %s success, %d users', told.cluster_id, peer.users)


def _take_nodes(peer: InterclusterPeer, told: Told, certificates: bool) -> bool:
    """Whether anything is new."""
    known = {node.remote_id: node for node in PeerNode.objects.filter(peer=peer)}
    others = PeerNode.objects.exclude(peer=peer).values_list('certificate', flat=True)
    taken = {_der(pem) for pem in (*Node.objects.values_list('link_certificate', flat=True), *others)} | {b''}
    news = False
    for node in told.nodes:
        if not (is_host_name(node.address) or is_ip_address(node.address)) or not 0 < node.port < 65536:
            continue
        row = known.pop(node.id, None) or PeerNode(peer=peer, remote_id=node.id)
        before = (row.name, row.address, row.port, row.publisher, row.certificate)
        row.name, row.address, row.port, row.publisher = node.name[:255], node.address, node.port, node.publisher
        if (certificates or not row.certificate) and _der(node.certificate) not in taken:
            row.certificate = node.certificate
        if row.pk is None or before != (row.name, row.address, row.port, row.publisher, row.certificate):
            row.save()
            news = True
    for row in known.values():
        row.delete()
    return news or bool(known)


def _der(text: str) -> bytes:
    """A certificate as the links compare it; b'' for what is none."""
    try:
        found = ssl.PEM_cert_to_DER_cert(text) if len(text) < 20_000 else b''
        x509.load_der_x509_certificate(found)
    except ValueError:
        return b''
    return found


def _take_domains(peer: InterclusterPeer, told: Told) -> bool:
    wanted = {
        domain.name.lower(): (domain.name, domain.configured, domain.users)
        for domain in told.domains
        if not name_error(domain.name)
    }
    rows = PeerDomain.objects.filter(peer=peer).values_list('key', 'name', 'configured', 'users')
    if {row[0]: row[1:] for row in rows} == wanted:
        return False
    PeerDomain.objects.filter(peer=peer).delete()
    PeerDomain.objects.bulk_create(
        PeerDomain(peer=peer, key=key, name=name, configured=configured, users=max(0, count))
        for key, (name, configured, count) in wanted.items()
    )
    return True


def _failed(pk: int, problem: PeerProblem) -> None:
    now = timezone.now()
    wait = SOON if isinstance(problem, OneSided) else RETRY
    InterclusterPeer.objects.filter(pk=pk).update(state=PeerState.FAILED, problem=problem.text, next_at=now + wait)
    name = InterclusterPeer.objects.filter(pk=pk).values_list('address', flat=True).first()
    log.warning('InterClusterSyncAgentStatus: peer %s failure: %s', name, problem.text)


# ---- what is wrong with more than one synchronisation


def count_duplicates() -> None:
    """Users of peers whose address is another one's, too: of this cluster, or of another peer."""
    for peer in InterclusterPeer.objects.all():
        with connection.cursor() as cursor:
            cursor.execute(_DUPLICATES, {'peer': peer.pk})
            names = [row[0] for row in cursor.fetchall()]
        if (len(names), names[:10]) != (peer.duplicates, peer.duplicate_names):
            InterclusterPeer.objects.filter(pk=peer.pk).update(duplicates=len(names), duplicate_names=names[:10])


def alarms() -> None:
    """Raise and clear the alarms about peers; where the administrator wants it, restart the agent (guide 5303-5323)."""
    now = timezone.now()
    peers = list(InterclusterPeer.objects.order_by('address'))
    double = [peer for peer in peers if peer.duplicates]
    names = sorted({name for peer in double for name in peer.duplicate_names})
    text = gettext_noop('%(count)s users of peer clusters have an address that is taken: %(names)s.')
    _alarm(DUPLICATE, text if double else '', count=sum(peer.duplicates for peer in double), names=names[:10])
    stuck = [peer for peer in peers if now - (peer.synced_at or peer.created_at) >= STUCK]
    text = gettext_noop('These peers could not be synchronised for two hours: %(names)s.')
    _alarm(STUCK_ALARM, text if stuck else '', names=[peer.address for peer in stuck])
    four = 4 * timedelta(minutes=int(str(agent_parameter('sync_interval_min'))))
    for peer in stuck:
        late = now - (peer.synced_at or peer.created_at)
        if agent_parameter('auto_recovery') == 'enabled' and late >= four * (peer.recoveries + 1):
            InterclusterPeer.objects.filter(pk=peer.pk).update(recoveries=F('recoveries') + 1)
            publisher = Node.objects.filter(publisher=True).first()
            if publisher is not None:
                ServiceCommand.objects.create(
                    node=publisher, service=INTERCLUSTER_SYNC_AGENT, verb='restart', requested_by='system'
                )


def _alarm(name: str, text: str, **values: object) -> None:
    standing = Alarm.objects.filter(name=name, node=None, cleared_at=None)
    if not text:
        standing.update(cleared_at=timezone.now())
    elif not standing.update(text=message(text, **values)):
        Alarm.objects.create(name=name, severity='High', text=message(text, **values))
