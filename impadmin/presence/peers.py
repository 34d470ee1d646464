"""Presence > Inter-Clustering and Presence > Local Cluster (guide chapter 13)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from kombu.exceptions import OperationalError

from engine.contract.messages import decode
from engine.contract.services import INTERCLUSTER_SYNC_AGENT, XCP_ROUTER
from impadmin.console import audit, sealed, tokens
from impadmin.console.access import Right, grants_of, may
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Administrator, Role
from impadmin.console.page import Column, Command, Fieldset, Help, Page, Result, ViewPage
from impadmin.presence import inventory, peer_client, peer_exchange, peer_sync
from impadmin.presence.models import AdvancedSettings, InterclusterPeer, PeerDomain, PeerLink, PeerState
from impadmin.presence.peer_client import PeerProblem
from impadmin.presence.peer_exchange import Told
from impadmin.system.models import Node
from impadmin.system.rules import is_host_name, is_ip_address
from impadmin.system.state import is_running

log = logging.getLogger(__name__)

MOST = 29
"""Peers: a mesh has at most 30 clusters (guide 5381)."""
MARKS = {PeerState.SYNCED: 'ok', PeerState.FAILED: 'bad', PeerState.NEW: 'busy'}
APPLICATION_USER = 'intercluster'
ROLE = 'Inter-cluster peer'
LOCAL = 'local-cluster'
_FINGERPRINT = re.compile(r'(?:[0-9A-F]{2}:){31}[0-9A-F]{2}')


# ---- what may be saved


def address_is_a_peer(peer: InterclusterPeer, before: Any) -> None:
    """A name or address that is not one of this cluster's."""
    peer.address = peer.address.strip().lower()
    if not is_host_name(peer.address) and not is_ip_address(peer.address):
        text = _('Enter a host name, an FQDN or an IP address, for example imp1.example.com or 192.0.2.10.')
        raise ValidationError({'address': text})
    if Node.objects.filter(Q(name__iexact=peer.address) | Q(address__iexact=peer.address)).exists():
        raise ValidationError({'address': _('%(name)s is a node of this cluster.') % {'name': peer.address}})
    if before is None and InterclusterPeer.objects.count() >= MOST:
        text = _('There are %(most)d peers. A mesh has at most %(all)d clusters.')
        raise ValidationError(text % {'most': MOST, 'all': MOST + 1})


def fingerprint_is_confirmed(peer: InterclusterPeer, before: Any) -> None:
    """SHA-256 in pairs of digits. Without one, the error shows what the peer has."""
    given = re.sub(r'[^0-9A-Fa-f]', '', peer.fingerprint).upper()
    if peer.fingerprint.strip():
        peer.fingerprint = peer_client.written(given)
        if not _FINGERPRINT.fullmatch(peer.fingerprint):
            text = _('Enter the SHA-256 fingerprint of the certificate: 64 digits from 0 to 9 and A to F.')
            raise ValidationError({'fingerprint': text})
        return
    try:
        shown = peer_client.fingerprint(peer.address, peer.port)
    except PeerProblem as problem:
        text = _('%(problem)s Enter the fingerprint of its certificate yourself.')
        raise ValidationError({'fingerprint': text % {'problem': decode(problem.text, _)}}) from None
    text = _('The peer shows the certificate %(shown)s. Compare it with that of the peer, then enter it here.')
    raise ValidationError({'fingerprint': text % {'shown': shown}})


def token_field(obj: Any) -> forms.Field:
    """The token, or nothing to keep the present one."""
    stays = obj is not None and obj.pk
    return forms.CharField(
        label=gettext_lazy('Peer token'),
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=gettext_lazy('Empty: the present token stays.')
        if stays
        else gettext_lazy('Made on the peer: Presence > Local Cluster > New Peer Token.'),
    )


def create(actor: Actor, values: Mapping[str, Any]) -> InterclusterPeer:
    """Add a peer, and ask it at once. One that does not go together with this cluster is refused; one that cannot be
    asked now is stored and asked again."""
    peer = InterclusterPeer(**{name: value for name, value in values.items() if name != 'token'})
    if not values.get('token'):
        raise ValidationError({'token': _('Enter the token that was made on the peer.')})
    peer.sealed = sealed.seal(peer_client.PURPOSE, values['token'].encode())
    _require_same_scheme(peer)
    peer.save()
    _ask_soon(peer.pk)
    return peer


def update(actor: Actor, peer: InterclusterPeer, values: Mapping[str, Any]) -> InterclusterPeer:
    """Change a peer; without a new token the present one stays, but goes to no other address: it is forgotten then."""
    if values.get('address', peer.address) != peer.address:
        peer.sealed = ''
    for name, value in values.items():
        if name != 'token':
            setattr(peer, name, value)
    if values.get('token'):
        peer.sealed = sealed.seal(peer_client.PURPOSE, values['token'].encode())
    peer.next_at = None
    peer.save()
    _ask_soon(peer.pk)
    return peer


def delete(actor: Actor, peer: InterclusterPeer) -> None:
    """Delete a peer with everything it told. Its users are not reachable any more; contact lists stay."""
    peer.delete()
    inventory.follow_peers()
    peer_sync.count_duplicates()
    peer_sync.alarms()


def _require_same_scheme(peer: InterclusterPeer) -> None:
    try:
        told = peer_client.get(peer, '', Told, peer_client.CONNECT_S)  # somebody waits for the page
    except PeerProblem:
        return
    own = inventory.advanced().address_scheme
    if told.address_scheme != own:
        text = _('The IM address schemes differ: %(own)s here, %(other)s at the peer.')
        raise ValidationError({'address': text % {'own': own, 'other': told.address_scheme}})


def _ask_soon(pk: int, forced: bool = True) -> None:
    from impadmin.presence.tasks import intercluster_sync

    def ask() -> None:
        try:
            intercluster_sync.delay(pk, forced)
        except (OperationalError, OSError):  # the turn of every minute finds it
            log.warning('no worker was told of peer %s', pk)

    transaction.on_commit(ask)


def synchronise(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Force Manual Sync."""
    if not is_running(INTERCLUSTER_SYNC_AGENT):
        raise Refused(_('Cisco Intercluster Sync Agent is not running on the publisher. Start it first.'))
    for peer in objects:
        InterclusterPeer.objects.filter(pk=peer.pk).update(next_at=None)
        _ask_soon(peer.pk)
    return Result(_('The synchronisation has started. Its result is in the column Status.'))


# ---- what is shown


def _peers() -> models.QuerySet[InterclusterPeer]:
    up = Q(nodes__links__up=True)
    return InterclusterPeer.objects.annotate(
        links=Count('nodes__links', distinct=True),
        links_up=Count('nodes__links', filter=up, distinct=True),
        without_certificate=Count('nodes', filter=Q(nodes__certificate=''), distinct=True),
    )


def state_of(peer: Any) -> tuple[str, str]:
    """Mark and word: a peer is good when it is synchronised and every link is up."""
    if peer.state == PeerState.SYNCED and peer.links_up < peer.links:
        return ('warn' if peer.links_up else 'bad', _('Links down'))
    return MARKS[peer.state], peer.get_state_display()


def _problem(peer: Any) -> str:
    return decode(peer.problem, _)


def _links(peer: Any) -> str:
    return _('%(up)d of %(all)d') % {'up': peer.links_up, 'all': peer.links}


def certificate_state(peer: Any) -> tuple[str, str]:
    """(mark, word) of Certificate Status (guide 5274): whether the nodes know each other by their certificates."""
    if peer.without_certificate or not peer.links:
        return 'bad' if peer.without_certificate else 'off', _('Certificates are not exchanged')
    if peer.links_up < peer.links:
        return 'warn', _('Certificates are exchanged, not every node is connected')
    return 'ok', _('Connection is secure')


def facts(peer: InterclusterPeer) -> dict[str, Any]:
    """What the panel of one peer shows."""
    links = PeerLink.objects.filter(other__peer=peer).select_related('node', 'other').order_by('other__name', 'node')
    counted = _peers().get(pk=peer.pk)
    return {
        'state': state_of(counted),
        'problem': _problem(peer),
        'links': list(links),
        'certificates': certificate_state(counted),
        'domains': list(PeerDomain.objects.filter(peer=peer).order_by('key')),
        'waits': peer.next_at is not None and peer.next_at > timezone.now(),
    }


PEERS = Page(
    name='inter-clustering',
    console='admin',
    area='presence',
    menu='Presence > Inter-Clustering',
    title=gettext_lazy('Inter-Clustering'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Other clusters of the company: users reach each other and see each other as in one cluster.'),
    help=Help(
        when=gettext_lazy(
            'When the users of the company are on several clusters. Each cluster needs an entry for every other one: '
            'make a token on its Local Cluster page, enter it here, and the same the other way round.'
        ),
        effect=gettext_lazy(
            'Nodes, domains and users of the peer are fetched at once and then at intervals; the nodes connect to each '
            'other. Deleting a peer on both sides ends that: contact lists stay, and a peer that is added again is '
            'there without new requests.'
        ),
        guide='5065-5383',
    ),
    related=(LOCAL, 'domains', 'service-parameters'),
    works_through=(INTERCLUSTER_SYNC_AGENT, XCP_ROUTER),
    model=InterclusterPeer,
    queryset=_peers,
    columns=(
        'address',
        'cluster',
        Column('status', gettext_lazy('Status'), value=state_of, kind='state'),
        Column('users', gettext_lazy('Associated Users'), order_by='users', kind='number'),
        Column('links', gettext_lazy('Links'), value=_links, order_by='links_up'),
        Column(
            'certificate_status',
            gettext_lazy('Certificate Status'),
            value=certificate_state,
            kind='state',
            default=False,
        ),
        Column('duplicates', gettext_lazy('Duplicate users'), order_by='duplicates', kind='number'),
        'synced_at',
        'description',
        Column('problem', gettext_lazy('Last error'), value=_problem, default=False),
    ),
    find=('address', 'cluster', 'description'),
    fieldsets=(
        Fieldset(gettext_lazy('Inter-cluster Peer'), ('address', 'port', 'fingerprint', 'token', 'description')),
    ),
    verbs=('add', 'edit', 'delete'),
    rules=(address_is_a_peer, fingerprint_is_confirmed),
    extra={'token': token_field},
    create=create,
    update=update,
    delete=delete,
    bulk=('port', 'description'),
    panel='presence/peer.html',
    panel_live='service:*',
    ordering=('address',),
    commands=(Command('sync', gettext_lazy('Force Manual Sync'), synchronise),),
    touches=lambda peers: sum(peer.users for peer in peers),
    sample=lambda n: {
        'address': f'127.77.{n // 250 % 250}.{n % 250 + 1}',
        'port': 9,
        'fingerprint': ':'.join(['AB'] * 32),
        'token': 'imp_0123456789',
        'description': 'Berlin',
    },
    bad={
        'address': ('', 'not a host', 'imp1'),
        'port': (0, 65536, 'many'),
        'fingerprint': ('AB:CD', 'x' * 96),
        'description': ('x' * 129,),
    },
)


# ---- this cluster, as its peers see it


def new_token(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """A token that may read what clusters tell each other, and nothing else."""
    role, made = Role.objects.get_or_create(name=ROLE, defaults={'permissions': [f'{LOCAL}:view']})
    if not made and role.permissions != [f'{LOCAL}:view']:
        raise Refused(_('The role %(name)s was changed. It must have the permission to view this page only.')
                      % {'name': ROLE})  # fmt: skip
    owner, made = Administrator.objects.get_or_create(username=APPLICATION_USER)
    if made:
        owner.set_unusable_password()
        owner.save()
        owner.roles.set([role])
        audit.record(actor, 'create', None, owner, None, audit.snapshot(owner), menu='User Management')
    _token, clear = tokens.do_create_token(actor, owner, data['name'], [f'{LOCAL}:view'])
    return Result(_('The token is made. Enter it on the peer.'), shown_once={'token': clear})


class TokenForm(forms.Form):
    """For whom a token is."""

    name = forms.CharField(
        label=gettext_lazy('Peer'), max_length=100, help_text=gettext_lazy('Which cluster gets it, for your records.')
    )


def local_cluster(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """What peers are told."""
    told = peer_exchange.about(digests=False)
    schemes: Any = AdvancedSettings._meta.get_field('address_scheme').flatchoices
    context = {
        'page': page,
        'told': told,
        'scheme': dict(schemes).get(told.address_scheme, told.address_scheme),
        'token': page.commands[0] if may(grants_of(request), page, 'do/new-token') else None,
    }
    return render(request, 'presence/local_cluster.html', context)


LOCAL_CLUSTER = ViewPage(
    name=LOCAL,
    console='admin',
    area='presence',
    menu='Presence > Local Cluster',
    title=gettext_lazy('Local Cluster'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('What peer clusters are told about this one, and the tokens with which they ask.'),
    help=Help(
        when=gettext_lazy('Before a peer cluster gets an entry for this one.'),
        effect=gettext_lazy(
            'A token lets the peer read nodes, domains and IM addresses of this cluster, and nothing else. Deleting it '
            'under API Tokens ends that.'
        ),
        guide='5133, 5175',
    ),
    related=('inter-clustering', 'api-tokens', 'cluster-topology'),
    view=local_cluster,
    api=peer_exchange.answer,
    commands=(Command('new-token', gettext_lazy('New Peer Token'), new_token, scope='page', form=TokenForm),),
)
