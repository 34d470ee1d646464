"""Diagnostics > System Dashboard: what nodes report, what the page shows of it, and how it stays current."""

from __future__ import annotations

from tests.fixtures.processes import wait_until


def test_a_node_samples_its_counters_and_names_its_certificates(engine, make_user, xmpp_client):
    from impadmin.diagnostics.models import NodeCertificate, NodeSample

    make_user('alice')
    xmpp_client('alice')
    wait_until(lambda: NodeSample.objects.filter(step=10, sessions=1).exists(), 'a sample with the session')
    latest = NodeSample.objects.filter(step=10).latest('at')
    assert (latest.sessions, latest.users_online) == (1, 1)
    assert 0 < latest.seconds <= 10.5
    assert set(NodeSample.objects.values_list('step', flat=True)) == {10, 60, 600}
    assert NodeCertificate.objects.filter(node__name='imp1', name='cup-xmpp', own=False).exists()
