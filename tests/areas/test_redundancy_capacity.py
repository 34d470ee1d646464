"""What the page of a redundancy group says about load and time (guide 6940, 7010)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fixtures import data
from tests.proves import proves


@proves('MDM-28', 'MDM-37')
def test_half_of_each_node_and_twice_the_time(
    make_user: Callable[..., Any], admin_client: Callable[[str], Any]
) -> None:
    """Both nodes active: the alert of each must be set to half; Multi-Device Messaging doubles the time."""
    from impadmin.system.models import Node, ParameterValue, RedundancyGroup

    second = Node.objects.create(name='imp2', address='127.0.0.2')
    RedundancyGroup.objects.filter(server1=second).delete()
    RedundancyGroup.objects.update(server2=second, ha_enabled=True)
    group = RedundancyGroup.objects.get()
    make_user('alice')
    browser = admin_client('administrator')

    def page() -> str:
        return browser.get(f'/ucm/system/presence-redundancy-groups/{group.pk}/').content.decode()

    half, twice = 'Halve JSM sessions threshold on: ', 'usually takes twice as long'
    assert half not in page()  # active/standby
    make_user('bob', node='imp2')
    assert f'{half}{data.NODE}, imp2.' in page()
    ParameterValue.objects.create(service='xcp_router', name='jsm_threshold_percent', node=group.server1, value=40)
    assert f'{half}imp2.' in page()
    assert twice in page()
    ParameterValue.objects.create(
        service='xcp_router', name='enable_multi_device_messaging', node=None, value='disabled'
    )
    assert twice not in page()
