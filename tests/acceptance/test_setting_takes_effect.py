"""Acceptance 2: a setting saved in the browser (and by REST) is in force after the restart that the badge asks for."""

from __future__ import annotations

from typing import Any

from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import condition, error_text

SETTINGS = '/admin/messaging/messaging-settings/'
CONTROL_CENTER = '/serviceability/serviceability/control-center-network/'


def _badge(page: Any) -> Any:
    return page.locator('.alerts')


def _refusal(alice: Any, body: str) -> Any:
    alice.say('bob@example.com', body)
    return alice.expect('message', type='error', from_='bob@example.com')


@proves('IM-24', 'RST-02', 'RST-03', 'RST-05', 'RST-R10')
def test_instant_messaging_is_switched_off_in_the_browser_and_on_by_rest(
    browser_page: Any, rest: Any, engine: Any, make_user: Any, xmpp_client: Any
) -> None:
    from playwright.sync_api import expect

    make_user('alice')
    make_user('bob')
    alice, bob = xmpp_client('alice'), xmpp_client('bob')
    alice.available()
    bob.available()
    bob.sync()
    page = browser_page('administrator')
    expect(_badge(page)).to_have_attribute('data-count', '0')

    # saved: the badge names the router, a client still sends
    page.goto(SETTINGS)
    page.get_by_label('Enable instant messaging').uncheck()
    page.get_by_role('button', name='Save', exact=True).click()
    expect(_badge(page)).to_have_attribute('data-count', '1')
    expect(page.get_by_label('Enable instant messaging')).not_to_be_checked()
    _badge(page).click()
    expect(page.locator('#notif')).to_contain_text('Cisco XCP Router')
    alice.say('bob@example.com', 'before the restart')
    bob.expect('message', body='before the restart')
    page.goto('/admin/system/notifications/')
    expect(page.locator('main')).to_contain_text('Cisco XCP Router')

    # restarted in Control Center: the badge clears by itself, the next message is refused
    page.goto(CONTROL_CENTER)
    page.get_by_role('checkbox', name='Select Cisco XCP Router on imp1').check()
    page.get_by_role('button', name='Restart', exact=True).click()
    page.locator('#dialog').get_by_role('button', name='Restart').click()
    expect(_badge(page)).to_have_attribute('data-count', '0')
    assert alice.closed() in (None, 'system-shutdown')
    engine.wait_ready()
    alice, bob = xmpp_client('alice'), xmpp_client('bob')
    alice.available()
    bob.available()
    bob.sync()
    refused = _refusal(alice, 'after the restart')
    assert condition(refused) == 'not-allowed'
    assert 'administrator' in error_text(refused)
    bob.expect_none('message', body='after the restart')
    page.close()

    # the same way back by REST
    call = rest('administrator')
    assert call('PATCH', '/api/v1/messaging-settings/', {'im_enabled': True}).json()['im_enabled'] is True
    told = wait_until(lambda: call('GET', '/api/v1/notifications/').json()['results'], 'the notification')
    assert [entry['service'] for entry in told] == ['xcp_router']
    assert condition(_refusal(alice, 'saved, not yet in force')) == 'not-allowed'
    done = call('POST', '/api/v1/control-center-network/restart/', {'node': 'imp1', 'service': 'xcp_router'})
    assert done.status in (200, 202), done.body
    wait_until(lambda: not call('GET', '/api/v1/notifications/').json()['results'], 'no notification')
    engine.wait_ready()
    alice, bob = xmpp_client('alice'), xmpp_client('bob')
    bob.available()
    bob.sync()
    alice.say('bob@example.com', 'in force again')
    bob.expect('message', body='in force again')
