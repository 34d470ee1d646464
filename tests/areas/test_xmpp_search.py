"""Finding people (XEP-0055) with a real client, while Cisco XCP Directory Service runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from tests.areas.xmpp_fixtures import command, in_force, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition, error_text

__all__ = ['sign_in']

SEARCH = 'jabber:iq:search'
DIRECTORY = f'search.{data.DOMAIN}'
FORM = '{jabber:x:data}'
SignIn = Callable[..., XmppClient]


def old(client: XmppClient, **terms: str) -> Any:
    """A search with the old fields."""
    inside = ''.join(f'<{name}>{value}</{name}>' for name, value in terms.items())
    return client.iq('set', f"<query xmlns='{SEARCH}'>{inside}</query>", to=DIRECTORY)


def submit(client: XmppClient, **terms: str) -> Any:
    """A search with the form."""
    fields = ''.join(
        f"<field var='{name.replace('_', '-')}'><value>{term}</value></field>" for name, term in terms.items()
    )
    hidden = f"<field var='FORM_TYPE' type='hidden'><value>{SEARCH}</value></field>"
    form = f"<x xmlns='jabber:x:data' type='submit'>{hidden}{fields}</x>"
    return client.iq('set', f"<query xmlns='{SEARCH}'>{form}</query>", to=DIRECTORY)


def people(answer: Element) -> list[str]:
    """User parts of the addresses found, by either kind of answer."""
    assert answer.get('type') == 'result', error_text(answer)
    form = answer[0].find(f'{FORM}x')
    if form is None:
        return [item.get('jid', '').partition('@')[0] for item in answer[0]]
    return [
        (item.findtext(f"{FORM}field[@var='jid']/{FORM}value") or '').partition('@')[0]
        for item in form.iter(f'{FORM}item')
    ]


def items_of_server(client: XmppClient) -> set[str]:
    answer = client.iq('get', "<query xmlns='http://jabber.org/protocol/disco#items'/>", to=data.DOMAIN)
    return {item.get('jid', '') for item in answer[0]}


@proves('XMP-03', 'XMP-10', 'XMP-14')
def test_searching_the_directory(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    from impadmin.system.models import Node, ServiceActivation

    ServiceActivation.objects.create(node=Node.objects.get(name=data.NODE), service='xcp_directory')
    data.publish_configuration()
    make_user('asmith', first_name='Ann', last_name='Smith', display_name='Ann S.', mail='ann@example.com')
    make_user('bsmith', first_name='Bob', last_name='SMITHERS', mail='bob_1@example.com')
    make_user('b@smi', first_name='Béla', last_name='smiř', mail='bobx1@example.com')
    make_user('gone', last_name='Smith', im_enabled=False)
    alice = sign_in('alice')
    assert DIRECTORY in items_of_server(alice)
    info = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>", to=DIRECTORY)[0]
    assert info[0].attrib == {'category': 'directory', 'type': 'user', 'name': 'Directory'}
    assert SEARCH in {entry.get('var') for entry in info}

    form = alice.iq('get', f"<query xmlns='{SEARCH}'/>", to=DIRECTORY)[0]
    names = [child.tag.partition('}')[2] for child in form]
    assert names == ['instructions', 'first', 'last', 'nick', 'email', 'x']
    fields = {entry.get('var'): entry for entry in form.iter(f'{FORM}field')}
    assert fields['FORM_TYPE'].findtext(f'{FORM}value') == SEARCH
    assert set(fields) == {'FORM_TYPE', 'first', 'last', 'nick', 'email', 'x-user-id'}

    assert people(old(alice, last='smi')) == ['asmith', 'bsmith', r'b\40smi']
    assert people(old(alice, last='Smi*', first='ann')) == ['asmith']
    assert people(submit(alice, last='SMIT')) == ['asmith', 'bsmith']
    assert people(submit(alice, x_user_id='b@')) == [r'b\40smi']
    assert people(submit(alice, email='bob_')) == ['bsmith']  # no wildcard: it stands for itself
    for term in ('%', '_', '*mith', 'mith', "'; DROP TABLE end_user; --", 'x' * 255):
        assert people(submit(alice, last=term)) == [], term
    table = submit(alice, nick='ann s')[0].find(f'{FORM}x')
    assert table is not None
    assert [entry.get('var') for entry in table.find(f'{FORM}reported') or ()] == [
        'jid', 'first', 'last', 'nick', 'email', 'x-user-id'
    ]  # fmt: skip
    hit = old(alice, nick='ann s')[0][0]
    assert {child.tag.partition('}')[2]: child.text for child in hit} == {
        'first': 'Ann', 'last': 'Smith', 'nick': 'Ann S.', 'email': 'ann@example.com'
    }  # fmt: skip

    for answer, expected in (
        (old(alice), 'bad-request'),
        (old(alice, last=' * '), 'bad-request'),
        (old(alice, phone='1'), 'bad-request'),
        (submit(alice, phone='1'), 'bad-request'),
        (submit(alice, last='x' * 256), 'bad-request'),
        (
            alice.iq('set', f"<query xmlns='{SEARCH}'><last>x</last></query>", to=f'a@{DIRECTORY}'),
            'service-unavailable',
        ),
        (alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=DIRECTORY), 'service-unavailable'),
    ):
        assert condition(answer) == expected, error_text(answer)
    number = alice.say(DIRECTORY, 'anybody here?')
    assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable'

    bob = sign_in('bsmith')
    bob.iq('set', "<block xmlns='urn:xmpp:blocking'><item jid='alice@example.com'/></block>")
    assert people(old(alice, last='smit')) == ['asmith']  # who blocks me is not found
    parameter('xcp_directory', 'max_results', 1)
    in_force()
    answer = submit(alice, last='smi')
    assert people(answer) == ['asmith']
    assert 'more than 1' in (answer[0].findtext(f'{FORM}x/{FORM}instructions') or '')

    command('stop', 'xcp_directory')
    assert DIRECTORY not in items_of_server(alice)
    refused = old(alice, last='smi')
    assert condition(refused) == 'service-unavailable'
    assert 'Cisco XCP Directory Service' in error_text(refused)
    command('start', 'xcp_directory')
    wait_until(lambda: DIRECTORY in items_of_server(alice), 'the directory')
    assert people(old(alice, last='smi')) == ['asmith']
