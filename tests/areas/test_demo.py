"""``manage.py imp_demo`` on a running system: people of the demonstration can sign in and see each other."""

from __future__ import annotations

from tests.fixtures.processes import wait_until


def test_demo_people_sign_in(engine, xmpp):
    from django.core.management import call_command

    from impadmin.console import notifications
    from impadmin.ucm import demo
    from impadmin.ucm.models import EndUser

    call_command('imp_demo')
    # the router hosts the new domains after the restart that the command asked for
    wait_until(lambda: not [one for one in notifications.active() if one.kind == 'restart'], 'the router to restart')
    user = EndUser.objects.filter(im_address__endswith='@northwind.asia.example').order_by('id').first()
    client = xmpp(user.im_address, password=demo.PASSWORD)
    contacts = client.roster()
    assert len(contacts) == user.contact_count
    assert {entry['subscription'] for entry in contacts.values()} == {'both'}
    friend = xmpp(next(iter(contacts)), password=demo.PASSWORD)
    client.available()
    friend.roster()
    friend.available()
    client.expect('presence', from_=friend.bare)
    friend.say(user.im_address, '你好')
    client.expect('message', body='你好')
