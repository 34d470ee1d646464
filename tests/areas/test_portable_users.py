"""Users from and to other servers (XEP-0227): there and back, to a real Prosody and back, and what is wrong is said."""

from __future__ import annotations

import io
import os
import shutil
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
PUBSUB = 'http://jabber.org/protocol/pubsub'
ROOM = "<conference xmlns='urn:xmpp:bookmarks:1' name='The &lt;Room&gt;' autojoin='true'/>"
BOOKMARKS = {'persist_items': 'true', 'max_items': 'max', 'access_model': 'whitelist'}
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


def publish(client: XmppClient, node: str, items: dict[str, str], options: dict[str, str], to: str = '') -> None:
    """Each item by itself, in this order."""
    fields = ''.join(f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in options.items())
    form = f"<publish-options><x xmlns='jabber:x:data' type='submit'>{fields}</x></publish-options>" if fields else ''
    for name, payload in items.items():
        published = f"<publish node='{node}'><item id='{name}'>{payload}</item></publish>"
        answer = client.iq('set', f"<pubsub xmlns='{PUBSUB}'>{published}{form}</pubsub>", to=to or None)
        assert answer.get('type') == 'result', ElementTree.tostring(answer)


def items(client: XmppClient, node: str, of: str = '') -> dict[str, ElementTree.Element]:
    """The payloads of a node by the id of the item, in order."""
    answer = client.iq('get', f"<pubsub xmlns='{PUBSUB}'><items node='{node}'/></pubsub>", to=of or None)
    assert answer.get('type') == 'result', ElementTree.tostring(answer)
    return {str(item.get('id')): item[0] for item in answer[0][0]}


def configuration(client: XmppClient, node: str) -> dict[str, str | None]:
    """The settings of a node."""
    answer = client.iq('get', f"<pubsub xmlns='{PUBSUB}#owner'><configure node='{node}'/></pubsub>")
    fields = answer.iter('{jabber:x:data}field')
    return {str(field.get('var')): field.findtext('{jabber:x:data}value') for field in fields}


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
    publish(alice, 'urn:xmpp:bookmarks:1', {'room@x.example': ROOM, 'other@x.example': ROOM}, BOOKMARKS)
    publish(alice, 'urn:x:shared', {'1': "<a xmlns='urn:x'><b xmlns='urn:y' c='&apos;'>&lt;工</b></a>"}, {})
    grant = f"<affiliations node='urn:x:shared'><affiliation jid='{bob.bare}' affiliation='publisher'/></affiliations>"
    assert alice.iq('set', f"<pubsub xmlns='{PUBSUB}#owner'>{grant}</pubsub>").get('type') == 'result'
    asked = f"<pubsub xmlns='{PUBSUB}'><subscribe node='urn:x:shared' jid='{bob.bare}'/></pubsub>"
    assert bob.iq('set', asked, to=alice.bare).get('type') == 'result'
    publish(bob, 'urn:x:shared', {'2': "<a xmlns='urn:x'/>"}, {}, alice.bare)  # its only item: the oldest leaves
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
    assert list(items(client, 'urn:xmpp:bookmarks:1')) == ['room@x.example', 'other@x.example']
    assert items(client, 'urn:xmpp:bookmarks:1')['room@x.example'].get('name') == 'The <Room>'
    assert configuration(client, 'urn:xmpp:bookmarks:1')['pubsub#access_model'] == 'whitelist'
    assert list(items(bob, 'urn:x:shared', client.bare)) == ['2']
    publish(bob, 'urn:x:shared', {'3': "<a xmlns='urn:x'/>"}, {}, client.bare)  # still a publisher, still subscribed
    assert bob.expect('message', from_=client.bare).find(f'.//{{{PUBSUB}#event}}item').get('id') == '3'
    refused = bob.iq('get', f"<pubsub xmlns='{PUBSUB}'><items node='urn:xmpp:bookmarks:1'/></pubsub>", to=client.bare)
    assert refused.get('type') == 'error'
    counted, reported = imported(first)  # again: nothing is taken away, nothing doubled but the messages
    assert 'users completed: 2' in counted
    assert 'contacts' not in counted
    assert 'nodes' not in counted
    assert list(items(bob, 'urn:x:shared', client.bare)) == ['3']


class Prosody:
    """A real Prosody that keeps its users in XEP-0227 files, but for personal nodes: these it can only move from and to
    such files, with a program of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.data = folder / 'data'
        self.data.mkdir(parents=True)
        certificate = Authority(folder / 'certificates').issue(data.DOMAIN)
        (folder / 'prosody.cfg.lua').write_text(f"""
run_as_root = true; daemonize = false; pidfile = "{folder}/pid"; data_path = "{self.data}"; default_storage = "internal"
storage = {{ accounts = "xep0227"; roster = "xep0227"; private = "xep0227"; vcard = "xep0227" }}
modules_enabled = {{ "roster"; "saslauth"; "disco"; "private"; "vcard"; "pep"; "presence"; "message"; "iq"; "c2s" }}
modules_disabled = {{ "s2s"; "offline" }}; interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ }}
c2s_direct_tls_ports = {{ {self.port} }}; ssl = {{ key = "{certificate}"; certificate = "{certificate}" }}
authentication = "internal_hashed"; password_hash = "SHA-256"; log = {{ info = "{folder}/log" }}
VirtualHost "{data.DOMAIN}"
""")
        hosts = f'hosts = {{ ["{data.DOMAIN}"] = {{ "pep-pubsub" }} }}'
        (folder / 'migrator.cfg.lua').write_text(
            f'files {{ {hosts}; type = "xep0227" }}\nserver {{ {hosts}; type = "internal"; path = "{self.data}" }}\n'
        )
        program = Path(shutil.which('prosody-migrator') or '').read_text()
        (folder / 'migrator').write_text(program.replace('/var/lib/prosody', str(self.data)))  # cannot be configured
        (folder / 'migrator').chmod(0o700)
        self.process: subprocess.Popen[bytes] | None = None

    def take(self, source: Path) -> None:
        """The users of a document move in: one file for each, as Prosody wants it."""
        for user in ElementTree.parse(source).getroot()[0]:  # noqa: S314 - our own document
            root = ElementTree.Element(f'{{{PIE}}}server-data')
            ElementTree.SubElement(root, f'{{{PIE}}}host', jid=data.DOMAIN).append(user)
            ElementTree.ElementTree(root).write(self.data / f'{user.get("name")}@{data.DOMAIN}.xml')
        self._migrate('files', 'server')

    def give(self) -> list[Path]:
        """All users as XEP-0227 files."""
        files = sorted(self.data.glob('*.xml'))
        for file in files:
            tree = ElementTree.parse(file)  # noqa: S314 - written by our Prosody
            user = tree.getroot()[0][0]
            for old in [child for child in user if child.tag.endswith('}pubsub')]:
                user.remove(old)
            tree.write(file)
        self._migrate('server', 'files')
        return files

    def _migrate(self, source: str, target: str) -> None:
        config = str(self.folder / 'migrator.cfg.lua')
        done = subprocess.run(
            [str(self.folder / 'migrator'), '--root', '--config', config, source, target],
            cwd=self.folder, env=os.environ | {'HOME': str(self.folder)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert 'Done!' in done.stderr, done.stdout + done.stderr

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
        assert items(alice, 'urn:xmpp:bookmarks:1')['room@x.example'].get('name') == 'The <Room>'
        assert list(items(alice, 'urn:xmpp:bookmarks:1')) == ['room@x.example', 'other@x.example']
        assert configuration(alice, 'urn:xmpp:bookmarks:1')['pubsub#access_model'] == 'whitelist'
        publish(alice, 'urn:x:there', {'1': "<a xmlns='urn:x'>made there</a>"}, {'access_model': 'open'})
        alice.add_contact('tybalt@elsewhere.example', name='Tybalt')
        alice.iq('set', "<query xmlns='jabber:iq:private'><notes xmlns='urn:x'>made there</notes></query>")
        alice.close()
    finally:
        prosody.stop()
    wipe()
    for file in prosody.give():
        counted, _reported = imported(file, '--node', data.NODE)
        assert 'users created: 1' in counted
    alice, bob = sign_in('alice'), sign_in('bob')
    assert alice.contacts['tybalt@elsewhere.example']['name'] == 'Tybalt'
    notes = alice.iq('get', "<query xmlns='jabber:iq:private'><notes xmlns='urn:x'/></query>")[0][0]
    assert notes.text == 'made there'
    bob.expect('presence', type='', from_=alice.jid)
    assert items(alice, 'urn:x:there')['1'].text == 'made there'
    assert configuration(alice, 'urn:x:there')['pubsub#access_model'] == 'open'
    assert list(items(alice, 'urn:xmpp:bookmarks:1')) == ['room@x.example', 'other@x.example']
    assert configuration(alice, 'urn:xmpp:bookmarks:1')['pubsub#access_model'] == 'whitelist'
    publish(bob, 'urn:x:shared', {'4': "<a xmlns='urn:x'/>"}, {}, alice.bare)  # a publisher as before
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
 <pubsub xmlns='urn:x'/>
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


def form(**fields: str) -> str:
    values = ''.join(f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in fields.items())
    return f"<x xmlns='jabber:x:data' type='submit'>{values}<field var='pubsub#unset'/></x>"


def test_the_personal_nodes_of_the_example(sign_in: SignIn, tmp_path: Path) -> None:
    """XEP-0227 4.10: both items of the bookmarks stay, although the document does not say how many the node keeps."""
    document(
        tmp_path / 'd.xml',
        f"""
<user name='romeo' password='{data.PASSWORD}'><pubsub xmlns='{PUBSUB}#owner'>
 <configure node='urn:xmpp:bookmarks:1'>{form(access_model='whitelist')}</configure>
 <configure node='http://jabber.org/protocol/nick'>{form(access_model='open')}</configure></pubsub>
<pubsub xmlns='{PUBSUB}'><items node='urn:xmpp:bookmarks:1'><item id='play@x.example'>{ROOM}</item>
 <item id='orchard@x.example'>{ROOM}</item></items><items node='http://jabber.org/protocol/nick'>
 <item id='current'><nick xmlns='http://jabber.org/protocol/nick'>Romy</nick></item></items></pubsub></user>""",
    )
    counted, reported = imported(tmp_path / 'd.xml', '--node', data.NODE)
    assert reported == ''
    assert 'personal nodes: 2' in counted
    assert 'items of personal nodes: 3' in counted
    romeo, tybalt = sign_in('romeo'), sign_in('tybalt')
    assert list(items(romeo, 'urn:xmpp:bookmarks:1')) == ['play@x.example', 'orchard@x.example']
    assert configuration(romeo, 'urn:xmpp:bookmarks:1')['pubsub#max_items'] == 'max'
    assert items(tybalt, 'http://jabber.org/protocol/nick', romeo.bare)['current'].text == 'Romy'


NODE_LIMITS = {
    'payload_bytes': 1024, 'bytes_per_owner': 65536, 'items_per_node': 60, 'nodes_per_owner': 8,
    'subscriptions_per_node': 1,
}  # fmt: skip
NODE_REASONS = """
node 'a': pubsub#access_model: it is one of open
node 'a': pubsub#deliver_payloads: it is 0 or 1, not 'perh
node 'a': there is no setting 'pubsub#other' here
node 'a': it is configured twice
nnn': its name must have
node '': its name
<default/> of the nodes
node 'a': affiliation of '@':
affiliation of x@y: it is one of
node 'a': affiliations after the first 1
node 'a': subscription of '@':
subscription of x@y: it is subscr
subscription of out@x.example/1: it is an outcast
item '1': it is there twice
item '2': an item holds one
item '3': an item holds one
item 5: it is no item
iii': an id has at most 1023 bytes
item '4': its publisher is no JID
node 'a': item '5': a payload has at most 1024 bytes
node 'few': the oldest 1 items: the node keeps at most 1
node 'none': the oldest 1 items
node 'large1': the oldest 5 items: the node keeps at most 60
node 'large2': all items of a user together
node 'open': it has no configuration, so only the owner
node 'late': a user has at most 8 nodes
<publish/>
"""


def test_what_is_wrong_with_personal_nodes_is_said(db: None, tmp_path: Path) -> None:
    """Every node, setting, item and person that is not imported, with the line of the user; nothing becomes public."""
    from impadmin.presence.models import PubSubNode
    from impadmin.system.models import ParameterValue

    for name, value in NODE_LIMITS.items():
        ParameterValue.objects.create(service='xcp_router', name=f'pubsub_{name}', value=value)
    big = ''.join(f"<item id='{number}'><a xmlns='urn:x'>{'x' * 990}</a></item>" for number in range(65))
    path = document(
        tmp_path / 'd.xml',
        f"""
<user name='good' password='secret'>
 <pubsub xmlns='{PUBSUB}#owner'>
  <configure node='a'>{form(access_model='nobody', max_items='9999', deliver_payloads='perhaps', other='x')}</configure>
  <configure node='a'>{form(access_model='open')}</configure><configure node='{'n' * 1024}'/><configure/><default/>
  <affiliations node='a'><affiliation jid='@' affiliation='owner'/><affiliation jid='x@y' affiliation='king'/>
   <affiliation jid='good@{data.DOMAIN}' affiliation='owner'/><affiliation jid='out@x.example' affiliation='outcast'/>
   <affiliation jid='z@y' affiliation='member'/></affiliations>
  <subscriptions node='a'><subscription jid='@' subscription='subscribed'/><subscription jid='x@y' subscription='?'/>
   <subscription jid='out@x.example/1' subscription='subscribed'/></subscriptions>
  <configure node='few'>{form(max_items='1')}</configure>
  <configure node='none'>{form(persist_items='0')}</configure>
  <configure node='large1'>{form(max_items='max')}</configure>
  <configure node='large2'>{form(max_items='max')}</configure>
  <configure node='c5'>{form()}</configure><configure node='c6'>{form()}</configure>
  <configure node='c7'>{form()}</configure>
 </pubsub>
 <pubsub xmlns='{PUBSUB}'>
  <items node='a'><item id='1'/><item id='1'/><item id='2'>text</item><item id='3'><x/><y/></item><entry/>
   <item id='{'i' * 1024}'/><item id='4' publisher='@'/><item><x xmlns=''/></item>
   <item id='5'><a xmlns='urn:x'>{'x' * 1024}</a></item></items>
  <items node='few'><item id='1'/><item id='2'/></items><items node='none'><item id='1'/></items>
  <items node='large1'>{big}</items><items node='large2'>{big}</items>
  <items node='open'><item id='1'/></items><items node='late'/><publish/>
 </pubsub>
</user>""",
    )
    _, dry = imported(path, '--dry-run')
    assert not PubSubNode.objects.exists()
    _, said = imported(path)
    assert said == dry
    for words in NODE_REASONS.strip().splitlines():
        assert any(row.startswith('d.xml:2: good@example.com: ') and words in row for row in said.splitlines()), words
    rows = {row.name: row for row in PubSubNode.objects.all()}
    assert set(rows) == {'a', 'few', 'none', 'large1', 'c5', 'c6', 'c7', 'open'}
    assert {name: row.items for name, row in rows.items() if row.items} == {'a': 3, 'few': 1, 'large1': 60, 'open': 1}
    for row in rows.values():
        stored = list(row.published.order_by('id'))
        assert row.items == len(stored)
        assert row.size == sum(len(item.payload) + len(item.item_id) for item in stored)
    assert rows['a'].config == {'access_model': 'whitelist', 'max_items': None}
    assert rows['open'].config['access_model'] == 'whitelist'
    assert rows['few'].published.get().item_id == '2'
    assert dict(rows['a'].affiliations.values_list('jid', 'affiliation')) == {'out@x.example': 'outcast'}
    assert not rows['a'].subscriptions.exists()
    before = PubSubNode.objects.get(name='few').pk
    counted, _ = imported(path)  # again: what is there stays
    assert 'personal nodes' not in counted
    assert PubSubNode.objects.get(name='few').pk == before


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
