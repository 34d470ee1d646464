"""Settings saved by REST as real clients notice them: client policy, ad hoc subscriptions, limits (spec 06)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.contract.restarts import RULES
from engine.contract.services import BY_KEY
from tests.areas.xmpp_fixtures import address, command, in_force, sign_in
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
Rest = Callable[[str], Callable[..., Any]]
STANDARD, MESSAGING = '/api/v1/standard-configuration/', '/api/v1/messaging-settings/'
POLICY = '{urn:imp:client-policy:0}'
BOB = address('bob')


def restarts(call: Callable[..., Any]) -> set[str]:
    """Keys of the services an Active Notification asks to restart."""
    found = call('GET', '/api/v1/notifications/').json()['results']
    return {entry['service'] for entry in found if entry['kind'] == 'restart'}


@pytest.mark.parametrize(
    ('field', 'element', 'other'),
    [
        pytest.param('client_history', 'im-history', 'cut-paste', marks=proves('IM-26')),
        pytest.param('cut_and_paste', 'cut-paste', 'im-history', marks=proves('IM-27')),
    ],
)
def test_a_client_policy_is_answered_and_pushed_without_a_restart(
    rest: Rest, sign_in: SignIn, field: str, element: str, other: str
) -> None:
    call = rest('administrator')
    alice, bob, silent = sign_in('alice'), sign_in('bob'), sign_in('carol')
    question = "<policy xmlns='urn:imp:client-policy:0'/>"

    def asked(client: XmppClient, to: str = '') -> tuple[str | None, str | None]:
        answer = client.iq('get', question, to=to)
        return answer.findtext(f'.//{POLICY}{element}'), answer.findtext(f'.//{POLICY}{other}')

    assert asked(alice) == ('true', 'true')
    assert asked(bob, 'example.com') == ('true', 'true')
    answer = call('PATCH', MESSAGING, {field: False})
    assert (answer.status, answer.json()[field]) == (200, False)
    for client in (alice, bob):
        pushed = client.expect('iq', type='set', has=f'{POLICY}policy')
        assert (pushed.get('to'), pushed.get('from')) == (client.jid, client.bare)
        assert pushed.findtext(f'.//{POLICY}{element}') == 'false'
        assert pushed.findtext(f'.//{POLICY}{other}') == 'true'
        assert asked(client) == ('false', 'true')
    assert asked(sign_in('dave')) == ('false', 'true')
    assert restarts(call) == set()
    # the rest of the page pushes nothing, and who never asked is left alone
    assert call('PATCH', MESSAGING, {'suppress_offline': True}).status == 200
    in_force()
    for client in (alice, silent):
        client.expect_none('iq', type='set', has=f'{POLICY}policy')
    # read-only sees it and may not touch it
    reader = rest('read_only')
    assert reader('GET', MESSAGING).json()[field] is False
    for method in ('PATCH', 'PUT'):
        assert reader(method, MESSAGING, {field: True}).status == 403
    assert asked(alice) == ('false', 'true')
    assert call('PATCH', MESSAGING, {field: True}).status == 200
    assert alice.expect('iq', type='set', has=f'{POLICY}policy').findtext(f'.//{POLICY}{element}') == 'true'


@proves('IM-26', 'IM-27')
def test_a_read_only_administrator_has_no_save_and_is_refused(admin_client: Any, db: None) -> None:
    from impadmin.messaging.models import MessagingSettings

    reader, url = admin_client('read_only'), '/admin/messaging/messaging-settings/'
    page = reader.get(url).content.decode()
    for label in ('Allow clients to log instant message history', 'Allow cut &amp; paste in instant messages'):
        assert label in page
    assert 'Save</button>' not in page
    assert 'Save</button>' in admin_client('administrator').get(url).content.decode()
    assert reader.post(url, {'im_enabled': 'on'}).status_code == 403
    row = MessagingSettings.objects.get()
    assert (row.client_history, row.cut_and_paste) == (True, True)


@pytest.mark.long
@proves('IM-21', 'IM-23')
def test_ad_hoc_fields_take_effect_at_once_and_ask_for_nothing(rest: Rest, sign_in: SignIn) -> None:
    """Acceptance 10 and 11: time-to-live, renewal, number and off, each by REST and without a notification."""
    call = rest('administrator')
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    wait_until(lambda: call('GET', '/api/v1/notifications/').status == 200, 'console')

    def save(**fields: Any) -> None:
        assert call('PATCH', STANDARD, fields).status == 200
        in_force()
        assert restarts(call) == set()

    save(adhoc_ttl_s=30)
    alice.presence('probe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    alice.expect_none('presence', type='error', within=18)
    alice.presence('probe', to=BOB)  # renewed: the end is 30 seconds from now
    alice.expect('presence', type='', from_=bob.jid)
    alice.expect_none('presence', type='error', within=18)
    bob.available(show='dnd')
    alice.expect('presence', show='dnd', from_=bob.jid)
    alice.expect_none('presence', type='error', within=13)
    bob.available(show='away')
    bob.expect('presence', show='away', from_=bob.jid)
    alice.expect_none('presence', show='away')
    save(adhoc_max=1)
    alice.presence('probe', to=BOB)
    alice.expect('presence', show='away', from_=bob.jid)
    alice.presence('probe', to=address('carol'))
    assert condition(alice.expect('presence', type='error')) == 'resource-constraint'
    save(adhoc_subscriptions=False)
    dave = sign_in('dave')
    dave.presence('probe', to=BOB)
    assert condition(dave.expect('presence', type='error', from_=BOB)) == 'forbidden'
    dave.expect_none('presence', from_=bob.jid)
    save(adhoc_subscriptions=True, adhoc_max=0)
    dave.presence('probe', to=BOB)
    dave.expect('presence', show='away', from_=bob.jid)


@proves('IM-12', 'IM-23')
def test_a_new_limit_asks_for_both_restarts_and_the_old_one_holds_until_then(rest: Rest, sign_in: SignIn) -> None:
    call = rest('administrator')
    bob = sign_in('bob')
    names = ['w0', 'w1', 'w2']
    watchers = [sign_in(name) for name in names]
    assert restarts(call) == set()
    assert call('PATCH', STANDARD, {'max_watchers': 2, 'adhoc_ttl_s': 60}).status == 200
    in_force()
    both = {'presence_engine', 'xcp_router'}
    assert {BY_KEY[key].name for key in restarts(call)} == {'Cisco Presence Engine', 'Cisco XCP Router'}
    for watcher in watchers:  # the old limit
        watcher.presence('subscribe', to=BOB)
        watcher.expect('presence', type='subscribed', from_=BOB)
    command('restart', 'presence_engine')
    wait_until(lambda: restarts(call) == both - {'presence_engine'}, 'only the router is to be restarted')
    late = sign_in('w3')
    late.presence('subscribe', to=BOB)
    late.expect('presence', type='unsubscribed', from_=BOB)
    bob.expect_none('presence', type='subscribe', within=0.2)
    assert bob.contacts.keys() == {address(name) for name in names}  # nobody is thrown out
    command('restart', 'xcp_router')
    wait_until(lambda: restarts(call) == set(), 'nothing is to be restarted')
    late = sign_in('w3')
    late.presence('subscribe', to=BOB)
    late.expect('presence', type='unsubscribed', from_=BOB)


@proves('IM-22')
@pytest.mark.parametrize('name', ['standard-configuration', 'messaging-settings'])
def test_every_field_has_its_help_on_the_page_and_in_openapi(admin_client: Any, api: Any, name: str) -> None:
    """The page names every field, its help stands below it and is announced with it; REST tells the same."""
    from impadmin.console import registry

    page = registry.page(name)
    fields = [field for part in page.fieldsets for field in part.fields]
    html = admin_client('administrator').get(registry.page_url(page)).content.decode()
    schema = api('administrator').get('/api/v1/schema/?format=json').json()
    shapes = [shape['properties'] for shape in schema['components']['schemas'].values() if 'properties' in shape]
    described = next(shape for shape in shapes if set(fields) <= set(shape))
    assert fields
    for field in fields:
        model_field = page.model._meta.get_field(field)
        help_text = str(model_field.help_text)
        assert len(help_text) > 10, field
        shown = html.partition(f'id="f-{field}-help">')[2].partition('</div>')[0]
        help_shown, _, restarts = shown.replace('&#x27;', "'").replace('&amp;', '&').partition(' Restarts: ')
        assert help_shown == help_text, field
        assert bool(restarts) == any(path.endswith(f'.{field}') for rule in RULES for path in rule.paths), field
        control = html.partition(f'data-field="{field}"')[2].partition('class="help"')[0]
        assert f'aria-describedby="f-{field}-help"' in control, field
        assert help_text in described[field]['description'], field
