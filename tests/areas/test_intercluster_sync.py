"""Peers that cannot be synchronised: the alarm, the restart of the agent, and the parameters about both."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from impadmin.presence.models import InterclusterPeer
from impadmin.presence.tasks import intercluster_syncs
from impadmin.system.models import ServiceCommand
from tests.fixtures import data
from tests.proves import proves

AGENT = f'/api/v1/service-parameters/{data.NODE}/intercluster_sync_agent/'
ALARM = 'InterClusterSyncAgentPeerPeriodicSyncingFailure'


@pytest.fixture
def client(api: Callable[[str], Any]) -> Any:
    """An administrator's."""
    return api('administrator')


def silent_for(minutes: int) -> None:
    """The one peer was last synchronised so long ago; the next turn is not yet."""
    now = timezone.now()
    InterclusterPeer.objects.update_or_create(
        address='192.0.2.9',
        defaults={'synced_at': now - timedelta(minutes=minutes), 'next_at': now + timedelta(hours=1), 'recoveries': 0},
    )
    ServiceCommand.objects.all().delete()
    intercluster_syncs()


def restarts() -> list[tuple[str, str]]:
    """What nodes were told to restart."""
    return list(ServiceCommand.objects.values_list('service', 'verb'))


@proves('IC-29')
def test_interval(client: Any) -> None:
    for wrong in (29, 1445, 'abc'):
        assert client.patch(AGENT, {'sync_interval_min': wrong}).status_code == 400, wrong
    for right in (1444, 30):
        assert client.patch(AGENT, {'sync_interval_min': right}).json()['sync_interval_min'] == right


@proves('IC-27', 'IC-28', 'IC-30')
def test_two_hours_of_silence(client: Any) -> None:
    """The alarm comes in any case, the restart after four intervals and where it is wanted, once for each four."""
    notifications = '/api/v1/notifications/'
    silent_for(119)
    assert ALARM not in str(client.get(notifications).json())
    silent_for(121)
    assert ALARM in str(client.get(notifications).json())
    assert restarts() == []
    assert client.patch(AGENT, {'auto_recovery': 'enabled', 'sync_interval_min': 40}).status_code == 200
    silent_for(159)
    assert restarts() == []
    silent_for(161)
    intercluster_syncs()
    assert restarts() == [('intercluster_sync_agent', 'restart')]
    silent_for(5)
    assert ALARM not in str(client.get(notifications).json())
