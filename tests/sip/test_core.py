"""engine.sip without input and output: cutting, reading, writing, transactions, presence documents."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import jid
from engine.sip import pidf
from engine.sip.address import from_jid, read_place, read_uri, read_via, to_jid
from engine.sip.framing import Framing
from engine.sip.message import HEAD_BYTES, BadMessage, Request, read, split
from engine.sip.transactions import LIFE, T2, ClientTransaction, ServerTransactions

MESSAGE = (
    'MESSAGE sip:bob%20smith@example.com SIP/2.0\r\nv: SIP/2.0/TCP h:5060;branch=z9hG4bK1;rport\r\n'
    'f: "Al, \\"ice\\" <x>" <sip:alice@example.com;transport=tcp>;tag=1\r\nTo:\r\n\t<sip:b@example.com>\r\n'
    'Call-ID: c\r\ncSEQ: 1 MESSAGE\r\nSubject: 東京\r\nl: 6\r\n\r\n大阪'
).encode()
OPTIONS = b'OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK2\r\nContent-Length: 0\r\n\r\n'


@settings(deadline=None)
@given(st.lists(st.sampled_from([MESSAGE, OPTIONS, b'\r\n', b'\r\n\r\n']), max_size=6), st.data())
def test_however_a_stream_is_cut_the_messages_are_the_same(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b''.join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    framing, found = Framing(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += framing.feed(whole[start:end])
    expected = [piece for piece in pieces if len(piece) > 4]
    assert found == [read(one) for one in expected]


def test_compact_folded_and_quoted() -> None:
    found = read(MESSAGE)
    assert isinstance(found, Request)
    sender = read_place(found.headers.get('from'))
    assert sender.uri == 'sip:alice@example.com;transport=tcp'
    assert sender.parameters == {'tag': '1'}
    assert found.headers.get('to') == '<sip:b@example.com>'
    assert (found.headers.get('subject'), found.body.decode()) == ('東京', '大阪')
    assert read_via(found.headers.get('via')).parameters == {'branch': 'z9hG4bK1', 'rport': ''}
    assert read(found.encode()).body == found.body
    assert split('<sip:a,b@c>, "x, y" <sip:d@e>,') == ['<sip:a,b@c>', '"x, y" <sip:d@e>']


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_jids_and_addresses_name_the_same_user(user: str) -> None:
    with contextlib.suppress(jid.InvalidJID):
        bare = f'{jid.prepare_local(jid.escape_local(user))}@example.com'
        assert to_jid(read_uri('sip:' + from_jid(bare))) == bare


@pytest.mark.parametrize(('status', 'data'), [
    (400, b''), (400, b'\r\n\r\n'), (400, b'MESSAGE sip:a SIP/2.0\r\nno colon\r\n\r\n'),
    (505, b'MESSAGE sip:a SIP/3.0\r\n\r\n'), (400, b'MESSAGE sip:a b SIP/2.0\r\n\r\n'),
    (400, b'MESSAGE sip:a SIP/2.0\r\nTo: x\r\nT: y\r\n\r\n'), (400, b'MESSAGE sip:a SIP/2.0\r\nTo: x\ny: z\r\n\r\n'),
    (400, b'MESSAGE sip:a SIP/2.0\r\nTo: \xff\r\n\r\n'), (400, b'MESSAGE sip:a SIP/2.0\r\nl: 5\r\n\r\nabc'),
    (400, b'MESSAGE sip:a SIP/2.0\r\nl: -1\r\n\r\nabc'), (400, b'MESSAGE sip:a SIP/2.0\r\nTo: a\x00b\r\n\r\n'),
    (513, b'MESSAGE sip:a SIP/2.0\r\n' + b'x: y\r\n' * 101 + b'\r\n'),
    (513, b'MESSAGE sip:a SIP/2.0\r\nx: ' + b'y' * HEAD_BYTES + b'\r\n\r\n'),
    (413, b'MESSAGE sip:a SIP/2.0\r\n\r\n' + b'y' * 70_000),
])  # fmt: skip
def test_what_is_no_message_is_refused(status: int, data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        read(data)
    assert caught.value.status == status


def test_a_request_is_sent_again_until_it_is_answered() -> None:
    call, now, sent = ClientTransaction(b'x', reliable=False, now=0.0), 0.0, []
    while (again := call.tick(now := call.deadline)) is not None:
        if again:
            sent.append(now)
    assert sent[:4] == [0.5, 1.5, 3.5, 7.5]
    assert max(b - a for a, b in itertools.pairwise(sent)) == T2
    assert now == LIFE
    assert ClientTransaction(b'x', reliable=True, now=0.0).deadline == LIFE


def test_a_repeated_request_gets_its_answer_again() -> None:
    known = ServerTransactions(most=2)
    assert known.begin(('a',), 0) is None
    assert known.begin(('a',), 1) == b''
    known.finish(('a',), b'200', 1)
    assert known.begin(('a',), 2) == b'200'
    assert known.begin(('b',), 2) is None
    with pytest.raises(OverflowError):
        known.begin(('c',), 2)
    assert known.begin(('a',), 2 + LIFE) is None


@settings(deadline=None)
@given(st.text(max_size=50), st.sampled_from(['', 'away', 'xa', 'dnd']))
def test_presence_documents_are_read_as_they_were_written(status: str, show: str) -> None:
    found = pidf.read(pidf.write('a\\20b@example.com', [pidf.Tuple('r', show, status, 5)]))
    assert (found.is_open, found.show) == (True, show)
    assert pidf.read(pidf.write('a@example.com', [])) == (False, '', '')
