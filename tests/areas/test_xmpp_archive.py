"""The message archive (XEP-0313) between real clients: content, queries, preferences, limits, crashes, hostility."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.etree.ElementTree import Element, tostring

import pytest

from tests.areas.test_xmpp_components import DOMAIN, Component, connect, port
from tests.areas.test_xmpp_multi_device import carbons, copied, copy_in, nothing_left
from tests.areas.xmpp_fixtures import address, command, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, _run, body, condition, error_text

__all__ = ['connect', 'port', 'sign_in']

SignIn = Callable[..., XmppClient]
MAM = 'urn:xmpp:mam:2'
RSM = 'http://jabber.org/protocol/rsm'
STANZA_ID = '{urn:xmpp:sid:0}stanza-id'


@pytest.fixture(autouse=True)
def _archive(db: None) -> None:
    """The archive is on in every test here."""
    parameter('xcp_router', 'message_archive', True)


def form(**fields: str | list[str]) -> str:
    """The form of a query."""
    inside = ''.join(
        f"<field var='{name.replace('_', '-')}'>"
        + ''.join(f'<value>{value}</value>' for value in ([values] if isinstance(values, str) else values))
        + '</field>'
        for name, values in fields.items()
    )
    hidden = f"<field var='FORM_TYPE' type='hidden'><value>{MAM}</value></field>"
    return f"<x xmlns='jabber:x:data' type='submit'>{hidden}{inside}</x>"


def rsm(inside: str) -> str:
    """A page request."""
    return f"<set xmlns='{RSM}'>{inside}</set>"


class Page:
    """What a query found: ``ids`` and ``messages`` in the order of arrival, and what the server said of the page."""

    def __init__(self, client: XmppClient, inside: str = '', queryid: str = 'q1') -> None:
        client.stanzas[:] = [one for one in client.stanzas if one.find(f'{{{MAM}}}result') is None]
        self.answer = client.iq('set', f"<query xmlns='{MAM}' queryid='{queryid}'>{inside}</query>")
        found = [one for one in client.stanzas if one.find(f'{{{MAM}}}result') is not None]
        for one in found:
            client.stanzas.remove(one)
            assert one.get('from') == client.bare
            assert one.get('to') == client.jid
        results = [one.find(f'{{{MAM}}}result') for one in found]
        self.ids = [one.get('id') for one in results if one is not None and one.get('queryid') == queryid]
        path = '{urn:xmpp:forward:0}forwarded/{jabber:client}message'
        self.messages: list[Element] = [one.find(path) for one in results if one is not None]  # type: ignore[misc]
        stamp = '{urn:xmpp:forward:0}forwarded/{urn:xmpp:delay}delay'
        self.stamps = [one.find(stamp).get('stamp') for one in results if one is not None]  # type: ignore[union-attr]
        fin = self.answer.find(f'{{{MAM}}}fin')
        self.complete = fin is not None and fin.get('complete') == 'true'
        self.first = self.answer.findtext(f'.//{{{RSM}}}first')
        self.last = self.answer.findtext(f'.//{{{RSM}}}last')
        self.count = self.answer.findtext(f'.//{{{RSM}}}count')

    @property
    def bodies(self) -> list[str]:
        """What was said."""
        return [body(one) for one in self.messages]


def refused(client: XmppClient, inside: str) -> str:
    """The condition with which a query is refused; nothing was sent before it."""
    page = Page(client, inside)
    assert not page.ids
    found = condition(page.answer)
    assert found is not None, tostring(page.answer)
    assert error_text(page.answer)
    return found


@proves('XMP-13')
def test_links_out_of_band_are_archived(sign_in: SignIn) -> None:
    """XEP-0066: messages with a link, unchanged; requests, in the archives of both who made and who got them."""
    alice, bob = sign_in('alice'), sign_in('bob')
    link = "<x xmlns='jabber:x:oob'><url>http://x.example/?a=1&amp;b=2</url><desc>D &lt; E</desc></x>"
    alice.say(bob.jid, '', extra=link)
    first = bob.expect('message', from_=alice.jid)
    url = '<url>http://x.example/file?c&amp;d</url><desc>a &lt;file&gt;</desc>'
    request = f"<query xmlns='jabber:iq:oob' sid='1'>{url}</query>"
    answer = bob.iq('set', request, to=alice.jid)
    assert alice.expect('iq', type='set', from_=bob.jid).find('{jabber:iq:oob}query') is not None
    assert condition(answer) == 'feature-not-implemented'  # slixmpp's own answer, which is not archived
    bob.iq('get', request, to=alice.jid)  # that is no request of the protocol
    bob.iq('set', request, to=bob.jid)
    assert condition(bob.iq('set', request, to=alice.bare + '/gone')) == 'service-unavailable'
    bob.iq('set', f"<prefs xmlns='{MAM}' default='never'><always/><never/></prefs>")
    bob.iq('set', request, to=alice.jid)
    alice.say(bob.jid, 'the last')

    def links(client: XmppClient) -> list[tuple[str | None, str | None, str | None, str | None]]:
        place = '{jabber:x:oob}x/{jabber:x:oob}'
        return [
            (one.get('from'), one.get('to'), one.findtext(f'{place}url'), one.findtext(f'{place}desc'))
            for one in Page(client).messages
        ]

    said = (alice.jid, bob.jid, 'http://x.example/?a=1&b=2', 'D < E')
    offer = ('http://x.example/file?c&d', 'a <file>')
    asked = (bob.jid, alice.jid, *offer)
    assert links(bob) == [said, asked, (bob.jid, bob.jid, *offer), (bob.jid, alice.bare + '/gone', *offer)]
    assert links(alice) == [said, asked, asked, (alice.jid, bob.jid, None, None)]
    assert Page(bob).ids[0] == first.find(STANZA_ID).get('id')  # type: ignore[union-attr]
    bob.close()
    alice.say(address('bob'), '', extra=link)
    alice.sync()
    late = sign_in('bob', 'later').expect('message', from_=alice.jid, has='{jabber:x:oob}x')
    assert late.findtext('{jabber:x:oob}x/{jabber:x:oob}url') == 'http://x.example/?a=1&b=2'


@proves('MDM-25')
def test_both_sides_are_archived_once(sign_in: SignIn) -> None:
    """Whatever the number of clients; ids on live messages and copies are those of the archive."""
    alice, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob = sign_in('bob')
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    alice.say(bob.jid, 'one')
    first = bob.expect('message', body='one')
    assert first.find(STANZA_ID).get('by') == bob.bare  # type: ignore[union-attr]
    own = copy_in(copied(phone, 'sent', 'one'), 'sent').find(STANZA_ID)  # type: ignore[union-attr]
    assert own.get('by') == alice.bare  # type: ignore[union-attr]
    bob.say(alice.bare, 'two', type='')
    second = alice.expect('message', body='two')
    copy = copy_in(phone.expect('message', where=lambda one: copy_in(one, 'received') is not None), 'received')
    assert copy.find(STANZA_ID).get('id') == second.find(STANZA_ID).get('id')  # type: ignore[union-attr]
    alice.say(bob.jid, '', extra="<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>")
    alice.say(bob.jid, '', extra="<composing xmlns='http://jabber.org/protocol/chatstates'/>")
    alice.say(bob.jid, 'news', type='headline')
    for hint in ('no-store', 'no-permanent-store'):
        alice.say(bob.jid, hint, extra=f"<{hint} xmlns='urn:xmpp:hints'/>")
        assert bob.expect('message', body=hint).find(STANZA_ID) is None
    alice.say(alice.bare, 'a note to myself')
    alice.say('bob@other.example', 'refused')
    alice.say(address('nobody'), 'refused later')
    alice.expect('message', type='error')
    alice.expect('message', type='error')

    page = Page(alice)
    assert page.bodies == ['one', 'two', '', 'a note to myself', 'refused later']
    assert page.ids[0] == own.get('id')  # type: ignore[union-attr]
    assert page.ids[1] == second.find(STANZA_ID).get('id')  # type: ignore[union-attr]
    assert page.messages[0].get('from') == alice.jid
    assert page.messages[0].get('to') == bob.jid
    assert page.messages[0].find(STANZA_ID) is None
    assert (page.complete, page.count, page.first, page.last) == (True, '5', page.ids[0], page.ids[-1])
    for stamp in page.stamps:
        at = datetime.strptime(stamp, '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=UTC)
        assert before <= at <= datetime.now(UTC)
    other = Page(bob)
    assert other.bodies == ['one', 'two', '']
    assert other.ids[0] == first.find(STANZA_ID).get('id')  # type: ignore[union-attr]
    assert not set(other.ids) & set(page.ids)
    features = tostring(alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>")).decode()
    assert all(f'"{name}"' in features for name in (MAM, f'{MAM}#extended', 'urn:xmpp:sid:0'))


def fill(sender: XmppClient, receiver: str, count: int) -> list[str]:
    """Say 0, 1, 2 ... to somebody; the ids in the sender's archive."""
    for number in range(count):
        sender.say(receiver, str(number))
    return Page(sender, rsm('<max>100</max>')).ids  # type: ignore[return-value]


def test_pages(sign_in: SignIn) -> None:
    """Forward, backward, by place, flipped, by id, by time; errors name what is wrong."""
    alice, bob = sign_in('alice'), sign_in('bob')
    ids = fill(alice, bob.jid, 25)
    bob.say(alice.jid, 'from bob')
    carol = sign_in('carol', 'c1')
    alice.say(carol.jid, 'to carol')
    alice.say(carol.bare, 'to carol too')
    texts = [str(number) for number in range(25)]

    seen: list[str] = []
    after = ''
    for _ in range(5):
        page = Page(alice, form(**{'with': bob.bare}) + rsm(f'<max>10</max>{after}'))
        seen += page.bodies
        after = f'<after>{page.last}</after>'
        if page.complete:
            break
    assert seen == [*texts, 'from bob']
    page = Page(alice, form(**{'with': bob.bare}) + rsm('<max>10</max><before/>'))
    assert (page.bodies, page.complete) == ([*texts[16:], 'from bob'], False)
    page = Page(alice, rsm(f'<max>10</max><before>{ids[5]}</before>'))
    assert (page.bodies, page.complete) == (texts[:5], True)
    page = Page(alice, rsm('<max>3</max><before/>') + '<flip-page/>')
    assert page.bodies == ['to carol too', 'to carol', 'from bob']
    assert (page.first, page.last) == (page.ids[2], page.ids[0])
    page = Page(alice, rsm('<max>2</max><index>7</index>'))
    assert (page.bodies, page.count) == (texts[7:9], '28')
    assert page.answer.find(f'.//{{{RSM}}}first').get('index') == '7'  # type: ignore[union-attr]
    page = Page(alice, form(**{'with': bob.bare}) + rsm('<max>0</max>'))
    assert (page.ids, page.count) == ([], '26')
    page = Page(alice, rsm('<max>999999999999999999999999999999</max>'))
    assert (len(page.ids), page.complete, page.count) == (28, True, '28')
    assert Page(alice, form(**{'with': carol.jid})).bodies == ['to carol']
    assert Page(alice, form(**{'with': carol.bare})).bodies == ['to carol', 'to carol too']
    assert Page(alice, form(**{'with': 'nobody@example.com'})).complete
    page = Page(alice, form(after_id=ids[3], before_id=ids[6]))
    assert (page.bodies, page.complete) == (texts[4:6], True)
    page = Page(alice, form(after_id=ids[3]) + rsm('<max>2</max><before/>'))
    assert page.bodies == ['to carol', 'to carol too']
    assert Page(alice, form(ids=[ids[9], ids[2]])).bodies == ['2', '9']

    whole = Page(alice)
    middle = whole.stamps[10]
    told = list(zip(whole.stamps, whole.bodies, strict=True))  # to the millisecond: neighbours may share it
    assert Page(alice, form(end=middle)).bodies == [text for stamp, text in told if stamp <= middle]
    assert Page(alice, form(start=middle)).bodies == [text for stamp, text in told if stamp >= middle]
    assert Page(alice, form(start='2099-01-01T00:00:00Z')).complete
    assert not Page(alice, form(end='1969-01-01T00:00:00Z')).ids
    assert len(Page(alice, form(start='0001-01-01T00:00:00Z', end='9999-12-31T23:59:59.9999Z')).ids) == 28

    metadata = alice.iq('get', f"<metadata xmlns='{MAM}'/>")
    assert metadata.find(f'.//{{{MAM}}}start').get('id') == ids[0]  # type: ignore[union-attr]
    fresh = sign_in('dave').iq('get', f"<metadata xmlns='{MAM}'/>")
    assert fresh.find(f'{{{MAM}}}metadata') is not None
    assert not list(fresh.find(f'{{{MAM}}}metadata'))  # type: ignore[arg-type]
    offered = tostring(alice.iq('get', f"<query xmlns='{MAM}'/>")).decode()
    assert all(f'"{name}"' in offered for name in ('with', 'start', 'end', 'before-id', 'after-id', 'ids'))

    unknown = str(UUID(int=UUID(ids[0]).int + 1))
    for inside in (
        rsm(f'<after>{unknown}</after>'), rsm('<before>x</before>'), form(after_id=unknown), form(before_id='17'),
        form(ids=[ids[0], unknown]), form(ids=ids[0].upper()),
    ):  # fmt: skip
        assert refused(alice, inside) == 'item-not-found', inside
    for inside in (
        rsm('<max>-1</max>'), rsm('<max>many</max>'), rsm('<max>1</max><max>2</max>'), rsm('<index>0</index><before/>'),
        rsm('<after/>'), form(start='yesterday'), form(end='2020-13-01T00:00:00Z'), form(**{'with': 'a@b@c d'}),
        form(**{'with': ['a@example.com', 'b@example.com']}), form(include_groupchat='maybe'),
        "<x xmlns='jabber:x:data' type='result'/>", "<x xmlns='jabber:x:data'/>",
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:x</value></field></x>",
    ):  # fmt: skip
        assert refused(alice, inside) == 'bad-request', inside
    assert refused(alice, form(text='search')) == 'feature-not-implemented'
    assert refused(alice, form(ids=[str(UUID(int=number)) for number in range(101)])) == 'policy-violation'


def test_nobody_reads_another_archive(sign_in: SignIn) -> None:
    """Neither what is there nor whether it is there."""
    alice, bob, mallory = sign_in('alice'), sign_in('bob'), sign_in('mallory')
    alice.say(bob.jid, 'between us')
    bob.expect('message', body='between us')
    requests = (('set', 'query'), ('get', 'query'), ('get', 'metadata'), ('get', 'prefs'), ('set', 'prefs'))
    for to in (alice.bare, bob.bare, address('nobody')):
        for kind, name in requests:
            assert condition(mallory.iq(kind, f"<{name} xmlns='{MAM}'/>", to=to)) == 'forbidden', (to, name)
    assert condition(mallory.iq('set', f"<query xmlns='{MAM}'/>", to=alice.jid)) == 'service-unavailable' or (
        mallory.expect_none('message', has=f'{{{MAM}}}result') is None
    )
    assert condition(mallory.iq('set', f"<query xmlns='{MAM}'/>", to=data.DOMAIN)) is not None
    assert not Page(mallory, form(**{'with': alice.bare})).ids
    forged = f"<result xmlns='{MAM}' id='1'><forwarded xmlns='urn:xmpp:forward:0'/></result>"
    mallory.raw(f"<message to='{alice.jid}' type='chat'>{forged}</message>")
    assert alice.expect('message', has=f'{{{MAM}}}result').get('from') == mallory.jid
    own = "<stanza-id xmlns='urn:xmpp:sid:0' by='{}' id='forged'/>"
    for by in (alice.bare, alice.bare.upper(), f'{alice.bare}/x', data.DOMAIN, ''):
        mallory.say(alice.jid, 'ids', extra=own.format(by) + own.format('room@elsewhere.example'))
        ids = alice.expect('message', body='ids').findall(STANZA_ID)
        assert [one.get('by') for one in ids] == ['room@elsewhere.example', alice.bare], by
        assert ids[1].get('id') != 'forged'
    assert all(len(one.findall(STANZA_ID)) == 1 for one in Page(alice, form(**{'with': mallory.bare})).messages)


def test_preferences(sign_in: SignIn) -> None:
    """Default and lists, per resource too; kept over a restart; for users who are away as well."""
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol', 'c1')

    def prefer(client: XmppClient, default: str, always: tuple[str, ...] = (), never: tuple[str, ...] = ()) -> Element:
        lists = ''.join(
            f'<{name}>' + ''.join(f'<jid>{one}</jid>' for one in entries) + f'</{name}>'
            for name, entries in (('always', always), ('never', never))
        )
        return client.iq('set', f"<prefs xmlns='{MAM}' default='{default}'>{lists}</prefs>")

    def shown(client: XmppClient) -> tuple[str | None, list[str], list[str]]:
        prefs = client.iq('get', f"<prefs xmlns='{MAM}'/>").find(f'{{{MAM}}}prefs')
        assert prefs is not None
        lists = [[jid.text or '' for jid in prefs.findall(f'{{{MAM}}}{name}/')] for name in ('always', 'never')]
        return prefs.get('default'), lists[0], lists[1]

    assert shown(alice) == ('always', [], [])
    assert condition(prefer(alice, 'never', always=('BOB@Example.COM',))) is None
    assert shown(alice) == ('never', [bob.bare], [])
    alice.say(bob.jid, 'kept')
    alice.say(carol.jid, 'not kept')
    carol.say(alice.jid, 'not kept either')
    assert alice.expect('message', body='not kept either').find(STANZA_ID) is None
    assert Page(alice).bodies == ['kept']
    assert len(Page(carol).ids) == 2
    prefer(alice, 'always', never=(carol.jid,))
    alice.say(carol.jid, 'not kept')
    alice.say(carol.bare, 'kept: to the bare address')
    prefer(alice, 'roster')
    alice.say(bob.jid, 'not kept: no contact')
    alice.add_contact(carol.bare)
    alice.say(carol.jid, 'kept: a contact')
    assert Page(alice).bodies == ['kept', 'kept: to the bare address', 'kept: a contact']
    for wrong in ("default='sometimes'", '', "default='always'"):
        twice = '<always><jid>a@b.c</jid></always><never><jid>a@b.c</jid></never>'
        answer = alice.iq('set', f"<prefs xmlns='{MAM}' {wrong}>{twice}</prefs>")
        assert condition(answer) == 'bad-request'
        assert error_text(answer)
    many = ''.join(f'<jid>u{number}@x.y</jid>' for number in range(1001))
    assert condition(prefer(alice, 'always', never=('@@',))) == 'bad-request'
    answer = alice.iq('set', f"<prefs xmlns='{MAM}' default='never'><never>{many}</never></prefs>")
    assert condition(answer) == 'bad-request'
    assert 'most 1000' in error_text(answer)

    alice.close()
    bob.say(alice.bare, 'away: no contact')
    carol.say(alice.bare, 'away: a contact')
    bob.sync()
    carol.sync()
    command('restart', 'xcp_router')
    alice = sign_in('alice')
    assert alice.expect('message', body='away: no contact').find(STANZA_ID) is None
    waiting = alice.expect('message', body='away: a contact').find(STANZA_ID)
    page = Page(alice)
    assert page.bodies[-1] == 'away: a contact'
    assert page.ids[-1] == waiting.get('id')  # type: ignore[union-attr]
    assert shown(alice) == ('roster', [], [])
    bob = sign_in('bob')
    bob.say(alice.jid, 'still no contact')
    alice.expect('message', body='still no contact')
    assert Page(alice).ids == page.ids


def test_once_from_archive_or_offline_store(sign_in: SignIn) -> None:
    """A client that read the archive before it became available gets nothing twice; another one gets what waits."""
    sign_in('bob').close()
    alice = sign_in('alice')
    for number in range(4):
        alice.say(address('bob'), f'waiting {number}')
    alice.say(address('bob'), 'not in the archive', extra="<no-permanent-store xmlns='urn:xmpp:hints'/>")
    alice.sync()
    reader = sign_in('bob', 'reader', available=False)
    assert Page(reader, rsm('<max>2</max><before/>')).bodies == ['waiting 2', 'waiting 3']
    reader.available()
    reader.expect('message', body='not in the archive')
    reader.sync()
    assert [body(one) for one in reader.stanzas if body(one)] == ['waiting 0', 'waiting 1']
    reader.close()
    from impadmin.messaging.models import OfflineMessage

    wait_until(lambda: OfflineMessage.objects.count() == 0, 'nothing waits any more')
    again = sign_in('bob')
    again.sync()
    again.expect_none('message', within=0.3)
    assert len(Page(again).ids) == 4


def test_limits_of_size_and_age(sign_in: SignIn) -> None:
    """The oldest go first, without holes; a flood is bounded; age is enforced when the router starts."""
    from impadmin.messaging.models import ArchiveAccount, ArchivedMessage

    parameter('xcp_router', 'archive_max_messages', 40)
    alice, bob = sign_in('alice'), sign_in('bob')
    for number in range(200):
        alice.say(bob.jid, str(number))
    alice.sync()
    page = Page(bob, rsm('<max>100</max>'))
    last = int(page.bodies[-1])
    assert last == 199
    assert page.bodies == [str(number) for number in range(200 - len(page.bodies), 200)]
    assert 38 <= len(page.bodies) <= 42
    for account in ArchiveAccount.objects.all():
        assert account.messages == ArchivedMessage.objects.filter(user_id=account.user_id).count() <= 42
    old = int((datetime.now(UTC) - timedelta(days=366)).timestamp() * 1000)
    row = ArchivedMessage.objects.filter(user__user_id='bob').order_by('id').first()
    assert row is not None
    ArchivedMessage.objects.create(
        user_id=row.user_id, id=UUID(int=old << 80 | 7 << 76), peer='x@y.z', resource='', stanza=b'<message/>'
    )
    ArchiveAccount.objects.filter(user_id=row.user_id).update(messages=len(page.bodies) + 1)
    command('restart', 'xcp_router')
    wait_until(lambda: not ArchivedMessage.objects.filter(peer='x@y.z').exists(), 'the old message is gone')
    assert ArchiveAccount.objects.get(user_id=row.user_id).messages == len(page.bodies)


def test_offline_messages_are_limited_by_bytes_and_expire(sign_in: SignIn) -> None:
    """At the limit the sender hears of it."""
    from impadmin.messaging.models import OfflineMessage

    parameter('xcp_router', 'max_offline_bytes', 10_000)
    sign_in('bob').close()
    alice = sign_in('alice')
    alice.say(address('bob'), 'x' * 6000)
    number = alice.say(address('bob'), 'y' * 6000)
    assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable'
    alice.say(address('bob'), 'short')
    alice.sync()
    newest = OfflineMessage.objects.latest('id')
    assert b'short' in bytes(newest.stanza)
    OfflineMessage.objects.filter(pk=newest.pk).update(stored_at=datetime.now(UTC) - timedelta(days=3))
    assert len(Page(sign_in('bob', available=False)).ids) == 2  # what was refused is in no archive but the sender's
    parameter('xcp_router', 'offline_days', 2)
    command('restart', 'xcp_router')
    wait_until(lambda: OfflineMessage.objects.count() == 1, 'the old one is gone')


def test_what_was_acknowledged_survives_a_crash(engine: Engine, sign_in: SignIn) -> None:
    """kill -9 with messages on their way: everything acknowledged under XEP-0198 is in both archives, once."""
    alice, bob = sign_in('alice'), sign_in('bob')
    handled: list[int] = []
    received = alice.client.xmpp.received

    def listen(element: Element) -> None:
        if element.tag == '{urn:xmpp:sm:3}a':
            handled.append(int(element.attrib['h']))
        received(element)

    alice.client.xmpp.received = listen
    alice.raw("<enable xmlns='urn:xmpp:sm:3'/>")
    for number in range(300):
        alice.say(bob.jid, f'm{number}')
        if number % 20 == 0:
            alice.raw("<r xmlns='urn:xmpp:sm:3'/>")
    wait_until(lambda: bool(handled) and handled[-1] > 50, 'acknowledgements')
    engine.kill9()
    acknowledged = handled[-1]
    engine.restart()
    alice, bob = sign_in('alice'), sign_in('bob')
    for client in (alice, bob):
        found: list[str] = []
        after = ''
        while True:
            page = Page(client, rsm(f'<max>100</max>{after}'))
            found += page.bodies
            after = f'<after>{page.last}</after>'
            if page.complete:
                break
        assert found == [f'm{number}' for number in range(len(found))]
        assert len(found) >= acknowledged


def test_messages_from_and_to_elsewhere(connect: Callable[..., Component], sign_in: SignIn, port: int) -> None:
    """Other domains: in the archive of the user here, copied to the user's clients, once; errors too."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    component = connect()
    assert component.started.wait(40)
    number = laptop.say(f'fax@{DOMAIN}/1', 'out')
    sent = component.expect('message', lambda one: one.get('id') == number)
    assert sent.find(STANZA_ID) is None
    copy = copy_in(copied(phone, 'sent', 'out'), 'sent')
    component.send(f"<message from='fax@{DOMAIN}/1' to='{laptop.bare}' type='chat'><body>in</body></message>")
    received = laptop.expect('message', body='in')
    copied(phone, 'received', 'in')
    forged = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{laptop.bare}' id='forged'/>"
    component.send(f"<message from='fax@{DOMAIN}/1' to='{laptop.jid}' type='chat'><body>ids</body>{forged}</message>")
    (own,) = laptop.expect('message', body='ids').findall(STANZA_ID)
    refusal = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    component.send(f"<message from='fax@{DOMAIN}/1' to='{laptop.jid}' type='error' id='{number}'>{refusal}</message>")
    laptop.expect('message', type='error', id=number)
    phone.expect('message', type='error', from_=laptop.bare)
    page = Page(laptop, form(**{'with': f'fax@{DOMAIN}'}))
    assert page.bodies == ['out', 'in', 'ids']
    ids = [copy.find(STANZA_ID), received.find(STANZA_ID), own]  # type: ignore[union-attr]
    assert page.ids == [one.get('id') for one in ids]  # type: ignore[union-attr]


def test_blocked_messages_leave_no_trace(sign_in: SignIn) -> None:
    """Neither in an archive of the one who blocks nor as a copy."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    mallory = carbons(sign_in('mallory', 'm1'))
    other = carbons(sign_in('mallory', 'm2'))
    item = f"<block xmlns='urn:xmpp:blocking'><item jid='{mallory.bare}'/></block>"
    assert condition(laptop.iq('set', item)) is None
    for to in (laptop.jid, laptop.bare):
        number = mallory.say(to, 'blocked')
        assert condition(mallory.expect('message', type='error', id=number)) == 'service-unavailable'
        number = laptop.say(mallory.jid, 'I block you')
        assert condition(laptop.expect('message', type='error', id=number)) == 'not-acceptable'
    nothing_left(laptop, phone, mallory, other)
    assert not Page(laptop).ids
    assert not Page(mallory).ids
    laptop.close()
    phone.close()
    number = mallory.say(laptop.bare, 'blocked while away')
    assert condition(mallory.expect('message', type='error', id=number)) == 'service-unavailable'
    assert not Page(sign_in('alice')).ids


def test_off_is_as_if_it_did_not_exist(sign_in: SignIn) -> None:
    """The default."""
    parameter('xcp_router', 'message_archive', False)
    alice, bob = sign_in('alice'), sign_in('bob')
    alice.say(bob.jid, 'hello')
    assert bob.expect('message', body='hello').find(STANZA_ID) is None
    for kind, inside in (('set', 'query'), ('get', 'query'), ('get', 'metadata'), ('get', 'prefs'), ('set', 'prefs')):
        assert condition(alice.iq(kind, f"<{inside} xmlns='{MAM}'/>")) == 'service-unavailable'
        assert condition(alice.iq(kind, f"<{inside} xmlns='{MAM}'/>", to=bob.bare)) == 'service-unavailable'
    assert MAM not in tostring(alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>")).decode()
    for namespace in ('urn:xmpp:sid:0', 'urn&#58;xmpp&#58;sid&#58;0'):
        alice.say(bob.jid, 'forged', extra=f"<stanza-id xmlns='{namespace}' by='{bob.bare}' id='forged'/>")
        assert bob.expect('message', body='forged').find(STANZA_ID) is None


def test_with_the_plugins_of_a_client_library(sign_in: SignIn) -> None:
    """slixmpp's own code for carbons, archive and preferences."""
    alice, phone, bob = sign_in('alice', 'laptop'), sign_in('alice', 'phone'), sign_in('bob')
    received: list[Any] = []
    for client in (alice, phone):
        for plugin in ('xep_0280', 'xep_0313', 'xep_0441'):
            client.client.xmpp.register_plugin(plugin)
    phone.client.xmpp.add_event_handler('carbon_sent', lambda message: received.append(message['carbon_sent']['body']))

    async def enable() -> None:
        await phone.client.xmpp.plugin['xep_0280'].enable()

    _run(enable())
    for number in range(12):
        alice.say(bob.jid, f'plugin {number}')
    bob.expect('message', body='plugin 11')
    wait_until(lambda: len(received) == 12, 'the copies')

    async def history() -> list[str]:
        pages = phone.client.xmpp.plugin['xep_0313'].iterate(rsm={'max': 5})
        return [message['mam_result']['forwarded']['stanza']['body'] async for message in pages]

    assert _run(history()) == [f'plugin {number}' for number in range(12)]

    async def prefer() -> str:
        answer = await phone.client.xmpp.plugin['xep_0441'].set_preferences(default='roster', always=[], never=[])
        return answer['mam_prefs']['default']

    assert _run(prefer()) == 'roster'
