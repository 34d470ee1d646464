"""Parameters of Cisco Server Recovery Manager: defaults of the guide, scope, and values that do not fit each other."""

from __future__ import annotations

from typing import Any

from tests.fixtures import data
from tests.proves import proves

URL = '/api/v1/service-parameters/{}/server_recovery_manager/'
DEFAULTS = {
    'service_port': 22001, 'critical_service_delay_s': 90, 'automatic_fallback': False, 'initialization_timeout_s': 120,
    'keep_alive_timeout_s': 60, 'keep_alive_interval_s': 15, 'authentication_monitoring': False, 'bind_address': '',
    'relogin_lower_s': 120, 'relogin_upper_s': 537,
}  # fmt: skip


@proves('HA-28')
def test_clusterwide_and_per_node(api: Any) -> None:
    from impadmin.system.models import Node

    Node.objects.create(name='imp2', address='127.0.0.2')
    client, one, two = api('administrator'), URL.format(data.NODE), URL.format('imp2')
    assert DEFAULTS.items() <= client.get(one).json().items()
    assert client.patch(one, {'keep_alive_timeout_s': 75, 'relogin_lower_s': 200}).status_code == 200
    assert {name: client.get(two).json()[name] for name in DEFAULTS} == DEFAULTS | {'keep_alive_timeout_s': 75}
    assert client.get(one).json()['relogin_lower_s'] == 200


def test_values_that_do_not_fit(api: Any) -> None:
    client, url = api('administrator'), URL.format(data.NODE)
    for body, name in (
        ({'keep_alive_interval_s': 40}, 'keep_alive_timeout_s'),
        ({'keep_alive_timeout_s': 121}, 'initialization_timeout_s'),
        ({'relogin_lower_s': 600}, 'relogin_upper_s'),
        ({'relogin_upper_s': 100}, 'relogin_upper_s'),
        ({'critical_service_delay_s': 'soon'}, 'critical_service_delay_s'),
        ({'service_port': 1023}, 'service_port'),
        ({'bind_address': '1.2.3.4.5'}, 'bind_address'),
    ):
        answer = client.patch(url, body)
        assert answer.status_code == 400, body
        assert list(answer.json()['errors']) == [name], answer.json()
    assert 'at least 80' in str(client.patch(url, {'keep_alive_interval_s': 40}).json())
    assert client.patch(url, {'keep_alive_interval_s': 40, 'keep_alive_timeout_s': 80}).status_code == 200
    assert client.patch(url, {'bind_address': '0.0.0.0'}).status_code == 200
