"""Users from and to other servers (XEP-0227): there and back, to a real Prosody and back, and what is wrong is said."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command

from tests.areas.xmpp_fixtures import address, counts_are_exact, sign_in
from tests.fixtures import data
from tests.fixtures.federation import Authority
from tests.fixtures.processes import free_port, wait_until
from tests.xmppclient import XmppClient

__all__ = ['sign_in']

PIE = 'urn:xmpp:pie:0'
SignIn = Callable[..., XmppClient]
PHOTO = 'iVBORw0KGgo='
CARD = (
    "<vCard xmlns='vcard-temp'><FN>Alice &amp; Co</FN><N><FAMILY>Liddell</FAMILY></N>"
    f'<PHOTO><BINVAL>{PHOTO}</BINVAL></PHOTO></vCard>'
)


def export(path: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command('imp_export_xep0227', str(path), *arguments, stdout=out)
    return out.getvalue()


def imported(path: Path, *arguments: str) -> tuple[str, str]:
    """(what was counted, what was reported); errors of the command are raised."""
    out, err = io.StringIO(), io.StringIO()
    call_command('imp_import_xep0227', str(path), *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def document(path: Path, inside: str, host: str = data.DOMAIN) -> Path:
    path.write_text(f"<server-data xmlns='{PIE}'><host jid='{host}'>{inside}</host></server-data>", encoding='utf-8')
    return path


def canonical(path: Path) -> str:
    return ElementTree.canonicalize(path.read_text(encoding='utf-8'))


def wipe() -> None:
    from impadmin.ucm.models import EndUser

    EndUser.objects.all().delete()


def fill(sign_in: SignIn) -> None:
    """Alice with everything: contacts, a request, a block list, private data, a vCard, messages."""
    alice, bob = sign_in('alice'), sign_in('bob')
    alice.presence('subscribe', to=bob.bare)
    alice.contact(bob.bare, subscription='to')
    alice.add_contact(bob.bare, name='Böb <1>', groups=('A & B', '工作'))
    bob.presence('subscribe', to=alice.bare)
    alice.contact(bob.bare, subscription='both')
    assert alice.iq('set', CARD).get('type') == 'result'
    kept = "<storage xmlns='storage:bookmarks'><url name='x' url='http://a/?b&amp;c'/></storage>"
    assert alice.iq('set', f"<query xmlns='jabber:iq:private'>{kept}</query>").get('type') == 'result'
    block = "<block xmlns='urn:xmpp:blocking'><item jid='spam.example'/></block>"
    assert alice.iq('set', block).get('type') == 'result'
    rules = "<list name='l'><item action='deny' order='1' type='group' value='工作'><message/></item></list>"
    assert alice.iq('set', f"<query xmlns='jabber:iq:privacy'>{rules}</query>").get('type') == 'result'
    alice.close()
    bob.say(address('alice'), 'späte Nachricht', extra="<x xmlns='jabber:x:oob'><url>http://a/?b&amp;c</url></x>")
    bob.sync()
    bob.close()


def test_there_and_back(sign_in: SignIn, tmp_path: Path) -> None:
    """What is exported is imported again whole: a second export is the same document."""
    fill(sign_in)
    first, second = tmp_path / 'first.xml', tmp_path / 'second.xml'
    said = export(first)
    assert 'users: 2' in said
    assert oct(first.stat().st_mode)[-3:] == '600'
    with pytest.raises(CommandError, match='exists already'):
        export(first)
    wipe()
    counted, reported = imported(first, '--dry-run')
    assert 'users created: 2' in counted
    from impadmin.ucm.models import EndUser

    assert EndUser.objects.count() == 0
    counted, reported = imported(first, '--node', data.NODE)
    assert reported == ''
    assert 'users created: 2' in counted
    counts_are_exact()
    export(second)
    assert canonical(second) == canonical(first)
    alice = EndUser.objects.get(user_id='alice')
    assert (alice.last_name, alice.display_name, len(alice.avatar)) == ('Liddell', 'Alice & Co', 40)

    # and it works: the old password, the contact list, what was waiting, the block list
    bob, client = sign_in('bob'), sign_in('alice', roster=False)
    message = client.expect('message', body='späte Nachricht')
    assert message.find('{urn:xmpp:delay}delay') is not None
    assert message.findtext('{jabber:x:oob}x/{jabber:x:oob}url') == 'http://a/?b&c'
    client.roster()
    assert client.contacts[bob.bare]['groups'] == ['A & B', '工作']
    client.expect('presence', type='', from_=bob.jid)
    blocked = client.iq('get', "<blocklist xmlns='urn:xmpp:blocking'/>")[0]
    assert [item.get('jid') for item in blocked] == ['spam.example']
    counted, reported = imported(first)  # again: nothing is taken away, nothing doubled but the messages
    assert 'users completed: 2' in counted
    assert 'contacts' not in counted


class Prosody:
    """A real Prosody that keeps its users in XEP-0227 files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.data = folder / 'data'
        self.data.mkdir(parents=True)
        certificate = Authority(folder / 'certificates').issue(data.DOMAIN)
        (folder / 'prosody.cfg.lua').write_text(f"""
run_as_root = true; daemonize = false; pidfile = "{folder}/pid"; data_path = "{self.data}"; storage = "xep0227"
modules_enabled = {{ "roster"; "saslauth"; "disco"; "private"; "vcard"; "presence"; "message"; "iq"; "c2s"; "tls" }}
modules_disabled = {{ "s2s"; "offline" }}; interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ }}
c2s_direct_tls_ports = {{ {self.port} }}; ssl = {{ key = "{certificate}"; certificate = "{certificate}" }}
authentication = "internal_hashed"; password_hash = "SHA-256"; log = {{ info = "{folder}/log" }}
VirtualHost "{data.DOMAIN}"
""")
        self.process: subprocess.Popen[bytes] | None = None

    def take(self, source: Path) -> None:
        """One file for each user of a document, as Prosody wants it."""
        for user in ElementTree.parse(source).getroot()[0]:  # noqa: S314 - our own document
            root = ElementTree.Element(f'{{{PIE}}}server-data')
            ElementTree.SubElement(root, f'{{{PIE}}}host', jid=data.DOMAIN).append(user)
            ElementTree.ElementTree(root).write(self.data / f'{user.get("name")}@{data.DOMAIN}.xml')

    def start(self) -> None:
        config = str(self.folder / 'prosody.cfg.lua')
        environment = os.environ | {'HOME': str(self.folder)}
        self.process = subprocess.Popen(
            ['prosody', '--config', config, '-F'], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(('127.0.0.1', self.port)) == 0

        wait_until(listens, 'Prosody')

    def sign_in(self, user: str) -> XmppClient:
        client = XmppClient(f'{user}@{data.DOMAIN}/there', data.PASSWORD, port=self.port, direct_tls=True).connect()
        client.roster()
        return client

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)


def test_to_prosody_and_back(sign_in: SignIn, tmp_path: Path) -> None:
    """Users move to a Prosody with their passwords, and what they change there comes back."""
    fill(sign_in)
    export(tmp_path / 'ours.xml')
    prosody = Prosody(tmp_path / 'prosody')
    prosody.take(tmp_path / 'ours.xml')
    prosody.start()
    try:
        alice = prosody.sign_in('alice')
        assert alice.contacts[address('bob')] == {
            'subscription': 'both', 'ask': False, 'approved': False, 'name': 'Böb <1>', 'groups': ['A & B', '工作'],
        }  # fmt: skip
        card = alice.iq('get', "<vCard xmlns='vcard-temp'/>")[0]
        assert card.findtext('{vcard-temp}FN') == 'Alice & Co'
        wanted = "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>"
        assert alice.iq('get', wanted)[0][0][0].get('url') == 'http://a/?b&c'
        alice.add_contact('tybalt@elsewhere.example', name='Tybalt')
        alice.iq('set', "<query xmlns='jabber:iq:private'><notes xmlns='urn:x'>made there</notes></query>")
        alice.close()
    finally:
        prosody.stop()
    wipe()
    for file in sorted(prosody.data.glob('*.xml')):
        counted, _reported = imported(file, '--node', data.NODE)
        assert 'users created: 1' in counted
    alice, bob = sign_in('alice'), sign_in('bob')
    assert alice.contacts['tybalt@elsewhere.example']['name'] == 'Tybalt'
    notes = alice.iq('get', "<query xmlns='jabber:iq:private'><notes xmlns='urn:x'/></query>")[0][0]
    assert notes.text == 'made there'
    bob.expect('presence', type='', from_=alice.jid)
    counts_are_exact()


def test_what_is_wrong_is_said(db: None, tmp_path: Path) -> None:
    """Line and reason for every user and part that is not imported; the others are."""
    from impadmin.presence.models import PrivacyList
    from impadmin.ucm.models import EndUser, RosterItem

    path = document(tmp_path / 'd.xml', f"""
<user name='good' password='secret'>
 <query xmlns='jabber:iq:roster'>
  <item jid='a@b@c d'/><item jid='friend@x.example' subscription='maybe'/><item jid='other@x.example/phone'/>
  <item jid='other@x.example'/><item jid='good@{data.DOMAIN}'/><item jid='asks@x.example' ask='subscribe'/>
 </query>
 <presence xmlns='jabber:client' from='stranger@x.example' type='subscribe'/>
 <offline-messages>
  <message xmlns='jabber:client' from='x@y'><body>1</body><delay xmlns='urn:xmpp:delay' stamp='nonsense'/></message>
  <message xmlns='jabber:client' from='a@b@c d'><body>2</body></message>
 </offline-messages>
 <query xmlns='jabber:iq:private'><a/></query>
 <query xmlns='jabber:iq:privacy'><default name='none'/><list name='bad'><item action='x' order='1'/></list></query>
 <blocklist xmlns='urn:xmpp:blocking'><item jid='Spam.example'/><item jid='@'/></blocklist>
 <vCard xmlns='vcard-temp'><PHOTO><BINVAL>!!</BINVAL></PHOTO></vCard>
 <pubsub xmlns='http://jabber.org/protocol/pubsub'/>
</user>
<user name='sha1'><scram-credentials xmlns='{PIE}#scram' mechanism='SCRAM-SHA-1'>
 <iter-count>1</iter-count><salt>c2Fs</salt><server-key>{'A' * 27}=</server-key>
 <stored-key>{'A' * 27}=</stored-key></scram-credentials></user>
<user name='GOOD'/><user name='bad name here&quot;'/><user name='{'x' * 140}'/>
<user name='short'><scram-credentials xmlns='{PIE}#scram' mechanism='SCRAM-SHA-256'/></user>
<room/>""")  # fmt: skip
    with pytest.raises(CommandError, match='3 users could not be imported'):
        imported(path)
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError):
        call_command('imp_import_xep0227', str(path), '--dry-run', stdout=out, stderr=err)
    said = err.getvalue()
    for line, words in (
        (2, "contact 'a@b@c d'"), (2, "subscription 'maybe'"), (2, 'it is there twice'), (2, 'the user itself'),
        (2, 'offline message 1: its time'), (2, 'offline message 2: sender'), (2, 'private data <a/>'),
        (2, "privacy list 'bad'"), (2, "default privacy list 'none'"), (2, 'block list'), (2, 'picture in the vCard'),
        (2, '<pubsub/>'), (18, 'SCRAM-SHA-256: there are none'), (21, 'twice'), (21, 'name of the user is not valid'),
        (21, '132'), (22, 'not complete'), (23, 'room'),
    ):  # fmt: skip
        assert any(row.startswith(f'd.xml:{line}:') and words in row for row in said.splitlines()), (line, words, said)
    assert set(EndUser.objects.values_list('user_id', flat=True)) == {'good', 'sha1', 'short'}
    good = RosterItem.objects.filter(user__user_id='good')
    assert {row.jid: (row.is_contact, row.ask, row.pending_in) for row in good} == {
        'other@x.example': (True, False, False),
        'asks@x.example': (True, True, False),
        'stranger@x.example': (False, False, True),
    }
    assert PrivacyList.objects.get(user__user_id='good').items.get().value == 'spam.example'
    counts_are_exact()


START = f"<server-data xmlns='{PIE}' xmlns:i='http://www.w3.org/2001/XInclude'>"


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (f"<!DOCTYPE x [<!ENTITY a 'b'>]>{START}</server-data>", 'line 1: A document type'),
        (f"{START}\n<host jid='a'>", 'line 2: not well-formed'),
        ('<html/>', 'no XEP-0227 document'),
        (f"{START}<user name='a'/></server-data>", 'outside of a host'),
        (f"{START}<i:include href='../x'/></server-data>", 'outside of the directory'),
        (f"{START}<i:include href='file:///etc/passwd'/></server-data>", 'Only relative paths'),
        (f"{START}<i:include href='missing.xml'/></server-data>", 'missing.xml: No such file'),
        (f"{START}<i:include href='d.xml'/></server-data>", 'no XEP-0227 document'),
        (f"{START}<host jid='a'><user name='u'>{'<a>' * 200}", 'nested deeper than 100'),
    ],
)
def test_hostile_documents(db: None, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'd.xml').write_text(text)
    with pytest.raises(CommandError, match=message):
        imported(tmp_path / 'd.xml')


def test_a_document_in_parts(db: None, tmp_path: Path) -> None:
    """XInclude: a file for each host and each user (XEP-0227 5.1), and one-sided subscriptions are made to agree."""
    from impadmin.ucm.models import EndUser, RosterItem

    start = "xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'"
    (tmp_path / 'd.xml').write_text(f"<server-data {start}><xi:include href='{data.DOMAIN}.xml'/></server-data>")
    names = ('juliet', 'romeo')
    parts = ''.join(f"<xi:include href='{data.DOMAIN}/{name}.xml'/>" for name in names)
    (tmp_path / f'{data.DOMAIN}.xml').write_text(f"<host {start} jid='{data.DOMAIN}'>{parts}</host>")
    (tmp_path / data.DOMAIN).mkdir()
    for name, other, subscription in (('juliet', 'romeo', 'both'), ('romeo', 'juliet', 'to')):
        (tmp_path / data.DOMAIN / f'{name}.xml').write_text(
            f"<user {start} name='{name}'><xi:include href='{name}.roster'/></user>"
        )
        (tmp_path / data.DOMAIN / f'{name}.roster').write_text(
            f"<query xmlns='jabber:iq:roster'><item jid='{other}@{data.DOMAIN}' subscription='{subscription}'/></query>"
        )
    counted, reported = imported(tmp_path / 'd.xml')
    assert reported == ''
    assert 'users without credentials: 2' in counted
    assert 'one-sided subscriptions ended: 1' in counted
    assert EndUser.objects.count() == 2
    assert dict(RosterItem.objects.values_list('user__user_id', 'subscription')) == {'juliet': 2, 'romeo': 1}
    counts_are_exact()
