"""Sign-ins of the same moment share statements; each still gets its own answer, and one that is not old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from engine.contract import credentials
from engine.store import activity, rosters
from engine.store.batch import Batch
from engine.store.pool import Store
from tests.fixtures import data
from tests.fixtures.servers import environment
from tests.load.client import PASSWORD, Client, login_all
from tests.xmppclient import SignInFailed


def test_questions_of_one_moment_share_a_statement() -> None:
    """One load for all; who asks while it runs gets the next one; a failure and a cancelled question hurt no one
    else."""

    async def run() -> None:
        asked: list[list[str]] = []
        go = asyncio.Event()

        async def load(keys: list[str]) -> dict[str, str]:
            asked.append(keys)
            number = len(asked)
            await go.wait()
            if 'bad' in keys:
                raise OSError('the database is gone')
            return {key: f'{key}{number}' for key in keys if key != 'nobody'}

        batch: Batch[str, str] = Batch(load)
        first = [asyncio.ensure_future(batch.get(key)) for key in ('a', 'b', 'a', 'nobody', 'left')]
        while not asked:
            await asyncio.sleep(0)
        first.pop().cancel()
        late = [asyncio.ensure_future(batch.get(key)) for key in ('a', 'bad')]
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*first) == ['a1', 'b1', 'a1', None]
        assert [type(outcome) for outcome in await asyncio.gather(*late, return_exceptions=True)] == [OSError] * 2
        assert await batch.get('a') == 'a3'
        assert asked == [['a', 'b', 'nobody', 'left'], ['a', 'bad'], ['a']]
        most = await asyncio.gather(*(batch.get(f'k{number}') for number in range(450)))
        assert most[449] == 'k4496'

    asyncio.run(run())


def test_contact_lists_come_back_as_they_were_written(engine: Any, make_user: Callable[..., Any]) -> None:
    """Names, groups, flags, stored requests and policies of several users in one statement."""
    from impadmin.presence.models import UserPresencePolicy
    from impadmin.ucm.models import RosterItem

    alice, bob, empty = (make_user(name) for name in ('alice', 'bob', 'empty'))
    RosterItem.objects.create(
        user=alice, jid='bob@example.com', name="B. 'ob' <&>", groups=['a b', 'c'], subscription=3
    )
    RosterItem.objects.create(
        user=alice, jid='carol@example.com', name='x\x1ey\x1fz', groups=[''], subscription=1, ask=True, approved=True
    )
    RosterItem.objects.create(
        user=bob, jid='dave@example.com', pending_in=True, is_contact=False, request=b"<presence id='\x1f'/>"
    )
    RosterItem.objects.create(user=bob, jid='eve@example.com', pending_in=True, subscription=2)
    UserPresencePolicy.objects.create(user=bob, sharing=False)

    async def run() -> dict[int, rosters.Roster]:
        store = Store(environment()['DATABASE_URL'])
        await store.open()
        try:
            await rosters.load_many(store, [alice.pk])
            return await rosters.load_many(store, [alice.pk, bob.pk, empty.pk, 999_999])
        finally:
            await store.close()

    found = asyncio.run(run())
    assert set(found) == {alice.pk, bob.pk, empty.pk}
    assert dict(found[alice.pk].items.items()) == {
        'bob@example.com': rosters.Item('bob@example.com', "B. 'ob' <&>", ('a b', 'c'), 3),
        'carol@example.com': rosters.Item('carol@example.com', 'xyz', ('',), 1, ask=True, approved=True),
    }
    assert dict(found[bob.pk].items.items()) == {
        'dave@example.com': rosters.Item('dave@example.com', pending_in=True, is_contact=False),
        'eve@example.com': rosters.Item('eve@example.com', subscription=2, pending_in=True),
    }
    assert found[bob.pk].requests == {'dave@example.com': b"<presence id='\x1f'/>", 'eve@example.com': b''}
    assert (found[bob.pk].policy.sharing, found[bob.pk].policy.automatic) == (False, None)
    assert dict(found[empty.pk].items.items()) == {}


def test_everyone_in_a_crowd_gets_the_right_answer(engine: Any, make_user: Callable[..., Any]) -> None:
    """Forty clients at once: the right ones are in with their own contact lists, the wrong ones are refused."""
    from impadmin.ucm.models import EndUser, RosterItem

    right = [make_user(f'crowd{number}') for number in range(20)]
    wrong = [make_user(f'wrong{number}', 'another') for number in range(8)]
    disabled = [make_user(f'disabled{number}', im_enabled=False) for number in range(4)]
    stored = credentials.verifiers(PASSWORD)
    EndUser.objects.filter(pk__in=[user.pk for user in (*right, *disabled)]).update(credentials=stored)
    for user in right:
        RosterItem.objects.create(user=user, jid=f'friend-of-{user.user_id}@example.com')
    names = [user.user_id for user in (*right, *wrong, *disabled)] + [f'unknown{number}' for number in range(8)]

    class Asking(Client):
        """Keeps what the server said to the roster request."""

        roster = b''

        async def ask(self, text: str, needle: bytes) -> bytes:
            seen = await super().ask(text, b'</iq>' if needle == b'roster' else needle)
            self.roster = seen if needle == b'roster' else self.roster
            return seen

    async def run() -> dict[str, tuple[bool, bytes]]:
        clients = [Asking(name, data.DOMAIN) for name in names]

        async def one(client: Asking) -> bool:
            try:
                await login_all([client], engine.tls_port, parallel=1)
            except ConnectionError as error:
                return 'not-authorized' not in str(error)
            return True

        outcomes = await asyncio.gather(*(one(client) for client in clients))
        found = {client.user: (inside, client.roster) for client, inside in zip(clients, outcomes, strict=True)}
        for client in clients:
            client.close()
        await asyncio.sleep(0)
        return found

    found = uvloop.run(run())
    for name, (inside, roster) in found.items():
        assert inside == name.startswith('crowd'), name
        assert roster.count(b'<item') == inside, name
        assert (f"'friend-of-{name}@example.com'".encode() in roster) == inside, name


def test_nothing_old_lets_anybody_in(engine: Any, make_user: Callable[..., Any], xmpp_client: Any) -> None:
    """The next sign-in after a changed password or a deleted user goes by what the database says then, with no word
    from the console."""
    user = make_user('fickle')
    first = xmpp_client('fickle', 'one')
    user.credentials = credentials.verifiers('another password 2')
    user.save()
    with pytest.raises(SignInFailed, match='not-authorized'):
        xmpp_client('fickle', 'two')
    xmpp_client('fickle', 'three', password='another password 2')
    first.abort()
    user.delete()
    with pytest.raises(SignInFailed, match='not-authorized'):
        xmpp_client('fickle', 'four', password='another password 2')


def test_sign_in_times_are_collected() -> None:
    """The first at once, further ones together; the rest when the service stops."""

    async def run() -> None:
        written: list[activity.SignedIn] = []
        times = activity.SignIns(written.append)
        times.note(1)
        await asyncio.sleep(0.01)
        assert [set(write.times) for write in written] == [{1}]
        times.note(2)
        times.note(3)
        await asyncio.sleep(0.01)
        assert len(written) == 1
        times.flush()
        times.flush()
        assert [set(write.times) for write in written] == [{1}, {2, 3}]

    asyncio.run(run())
