"""Pages of XMPP federation and of external components: rules, secrets, what the engine gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.proves import proves

SETTINGS = '/api/v1/xmpp-federation-settings/'
DOMAINS = '/api/v1/xmpp-federation-domains/'
COMPONENTS = '/api/v1/external-components/'


def newest() -> Any:
    """The newest configuration generation."""
    from impadmin.console import generations

    return generations.compiled()


@proves('FED-03')
def test_settings_reach_the_engine_and_fit_together(db: None, api: Callable[..., Any]) -> None:
    client = api('administrator')
    wanted = {
        'security': 'required',
        'require_certificates': True,
        'external_in': False,
        'external_out': False,
        'dialback': True,
    }
    assert client.patch(SETTINGS, wanted, format='json').status_code == 200
    federation = newest().federation
    assert {name: getattr(federation, name) for name in wanted} == wanted
    for wrong, field in (
        ({'security': 'none', 'require_certificates': True}, 'require_certificates'),
        ({'security': 'none', 'require_certificates': False, 'dialback': False}, 'dialback'),
        ({'dialback': False}, 'dialback'),
        ({'security': 'ssl'}, 'security'),
    ):
        answer = client.patch(SETTINGS, wrong, format='json')
        assert answer.status_code == 400, wrong
        assert field in answer.json()['errors'] if 'errors' in answer.json() else field in json.dumps(answer.json())
    assert client.patch('/api/v1/xmpp-federation-policy/', {'policy': 'deny'}, format='json').status_code == 200
    for entry in ({'domain': 'Partner.example.NET'}, {'domain': '*.example.org', 'direction': 'incoming'}):
        assert client.post(DOMAINS, entry, format='json').status_code == 201
    for wrong in ('example.com', 'partner.example.net', '*.*.net', '10.0.0.1'):
        assert client.post(DOMAINS, {'domain': wrong}, format='json').status_code == 400, wrong
    federation = newest().federation
    assert federation.policy == 'deny'
    listed = [(one.domain, one.direction) for one in federation.domains]
    assert listed == [('*.example.org', 'incoming'), ('partner.example.net', 'both')]


def test_secrets_are_shown_nowhere(db: None, api: Callable[..., Any]) -> None:
    client = api('administrator')
    before = newest().federation
    assert len(before.secret) >= 40
    answer = client.post(f'{SETTINGS}secret/', {'secret': 'too short'}, format='json')
    assert answer.status_code == 400
    answer = client.post(f'{SETTINGS}secret/', {'secret': 'a secret that is long enough'}, format='json')
    assert answer.status_code == 200, answer.content
    after = newest().federation
    assert (after.secret, after.secret_version) == ('a secret that is long enough', before.secret_version + 1)

    made = client.post(
        COMPONENTS, {'domain': 'Fax.example.com', 'name': 'Fax', 'shared_secret': 'secret of the fax'}, format='json'
    )
    assert made.status_code == 201, made.content
    for wrong in (
        {'domain': 'sms.example.com'},
        {'domain': 'sms.example.com', 'shared_secret': 'short'},
        {'domain': 'example.com', 'shared_secret': 'secret of the sms'},
        {'domain': 'fax.example.com', 'shared_secret': 'secret of the sms'},
    ):
        assert client.post(COMPONENTS, wrong, format='json').status_code == 400, wrong
    place = f'{COMPONENTS}{made.json()["id"]}/'
    assert client.patch(place, {'name': 'Facsimile'}, format='json').status_code == 200
    [component] = newest().components
    assert (component.domain, component.name, component.secret) == ('fax.example.com', 'Facsimile', 'secret of the fax')

    seen = b''.join(client.get(path).content for path in (SETTINGS, COMPONENTS, place, '/api/v1/notifications/'))
    from impadmin.console.models import AuditEntry

    seen += json.dumps(list(AuditEntry.objects.values()), default=str).encode()
    assert b'shared_secret' in seen, 'that a secret was set is noted'
    for secret in (before.secret, after.secret, 'secret of the fax'):
        assert secret.encode() not in seen
