"""Tests of peer clusters for System Troubleshooter: Inter-clustering Troubleshooter (guide 5276-5279)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.messages import decode
from engine.contract.services import INTERCLUSTER_SYNC_AGENT, State
from impadmin.console.diagnosis import Check, Problem, Section, listed, register
from impadmin.console.facts import Facts
from impadmin.presence.models import InterclusterPeer, PeerLink, PeerState
from impadmin.system.state import of_services

SECTION = Section(gettext_lazy('Inter-clustering Troubleshooter'), 80)


def peers_synchronised(facts: Facts) -> Iterator[Problem]:
    """The last synchronisation with each peer went well."""
    for peer in InterclusterPeer.objects.filter(state=PeerState.FAILED).order_by('address'):
        text = _('%(peer)s: %(problem)s') % {'peer': peer.address, 'problem': decode(peer.problem, _)}
        yield Problem(text, _('Repair it, then use Force Manual Sync.'), pk=peer.pk)


def links_up(facts: Facts) -> Iterator[Problem]:
    """Every node here has a connection with every node of each peer."""
    down = PeerLink.objects.filter(up=False).select_related('node', 'other').order_by('other__name', 'node__name')
    for link in down:
        text = _('%(node)s has no connection with %(other)s (%(address)s:%(port)d) of the peer cluster.')
        shown = {
            'node': link.node.name, 'other': link.other.name, 'address': link.other.address, 'port': link.other.port,
        }  # fmt: skip
        solution = _(
            'Check the network between the two, the listen address there, and that the peer has an entry, too.'
        )
        yield Problem(text % shown, solution, pk=link.other.peer_id, since=link.since)


def agents_run(facts: Facts) -> Iterator[Problem]:
    """Cisco Intercluster Sync Agent runs on every node, where there is a peer."""
    if not InterclusterPeer.objects.exists():
        return
    states = of_services([INTERCLUSTER_SYNC_AGENT])[INTERCLUSTER_SYNC_AGENT]
    stopped = [node for node, state in sorted(states.items()) if state != State.RUNNING]
    if stopped:
        text = _('Cisco Intercluster Sync Agent is not running on: %(nodes)s.') % {'nodes': listed(stopped)}
        yield Problem(text, _('Start it.'), page='control-center-network')


def users_are_once(facts: Facts) -> Iterator[Problem]:
    """No user of a peer has the address of another user."""
    for peer in InterclusterPeer.objects.filter(duplicates__gt=0).order_by('address'):
        text = _('Users of %(peer)s with an address that is taken: %(names)s.')
        shown = {'peer': peer.address, 'names': listed(peer.duplicate_names, peer.duplicates)}
        yield Problem(text % shown, _('Delete or rename each on one of the two clusters.'), pk=peer.pk)


register(
    Check(name='peers-synchronised', section=SECTION, title=gettext_lazy('Peer clusters are synchronised'),
          page='inter-clustering', run=peers_synchronised),
    Check(name='peer-links', section=SECTION, title=gettext_lazy('Nodes are connected with peer clusters'),
          page='inter-clustering', run=links_up),
    Check(name='peer-agents', section=SECTION,
          title=gettext_lazy('Cisco Intercluster Sync Agent runs on every node'), page='control-center-network',
          run=agents_run),
    Check(name='peer-users', section=SECTION, title=gettext_lazy('Users of peer clusters have addresses of their own'),
          page='inter-clustering', run=users_are_once),
)  # fmt: skip
