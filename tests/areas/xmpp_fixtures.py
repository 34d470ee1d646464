"""What the XMPP tests share: signing people in, settings as the console would store them, service commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.contract import messages
from engine.contract.events import CommandQueued
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.xmppclient import XmppClient


@pytest.fixture
def sign_in(request: pytest.FixtureRequest, make_user: Callable[..., Any]) -> Iterator[Callable[..., XmppClient]]:
    """``sign_in('alice', 'r1', priority=5)``: a connected client that has its contact list and is available.

    The engine starts at the first sign-in, so settings made before are in force. The user is made
    when missing. ``roster=False`` and ``available=False`` leave those steps out.
    """
    clients: list[XmppClient] = []

    def connect(
        user_id: str, resource: str = '', priority: int | None = None, roster: bool = True, available: bool = True,
        domain: str = '', **options: Any,
    ) -> XmppClient:  # fmt: skip
        engine: Engine = request.getfixturevalue('engine')
        if not domain:
            ensure(make_user, user_id)
        jid = (f'{user_id}@{domain}' if domain else address(user_id)) + (f'/{resource}' if resource else '')
        options = {'host': engine.host, 'port': engine.port} | options
        client = XmppClient(jid, data.PASSWORD, **options).connect()
        clients.append(client)
        if roster:
            client.roster()
        if available:
            client.available(priority=priority)
            client.expect('presence', from_=client.jid, type='')
        return client

    yield connect
    for client in clients:
        client.abort()


def address(user_id: str) -> str:
    """IM address of a test user."""
    return f'{user_id}@{data.DOMAIN}'


def ensure(make_user: Callable[..., Any], *user_ids: str) -> None:
    """Make the users that do not exist."""
    from impadmin.ucm.models import EndUser

    for user_id in user_ids:
        if not EndUser.objects.filter(user_id=user_id).exists():
            make_user(user_id)


def configure(presence: dict[str, Any] | None = None, messaging: dict[str, Any] | None = None) -> None:
    """Save settings and announce the new configuration generation."""
    from impadmin.messaging.models import MessagingSettings
    from impadmin.presence.models import PresenceSettings

    if presence:
        PresenceSettings.objects.filter(pk=1).update(**presence)
    if messaging:
        MessagingSettings.objects.filter(pk=1).update(**messaging)
    data.publish_configuration()


def in_force() -> None:
    """Wait until the node reports the newest configuration generation."""
    from impadmin.console.models import ConfigGeneration
    from impadmin.system.models import Node

    newest = ConfigGeneration.objects.latest('number').number
    wait_until(lambda: Node.objects.get(name=data.NODE).generation >= newest, f'generation {newest} on the node')


def parameter(service: str, name: str, value: Any) -> None:
    """Save a cluster-wide service parameter and announce the new generation."""
    from impadmin.system.models import ParameterValue

    ParameterValue.objects.update_or_create(service=service, name=name, node=None, defaults={'value': value})
    data.publish_configuration()


def outcome(verb: str, service: str, timeout_s: float = 40, at: str = data.NODE) -> str:
    """What the Control Center does: queue a command for the node, wait until it is done; the error, '' for none."""
    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceCommand

    node = Node.objects.get(name=at)
    queued = ServiceCommand.objects.create(node=node, service=service, verb=verb, requested_by='test')
    generations.announce(CommandQueued(at))

    def finished() -> bool:
        queued.refresh_from_db()
        return queued.finished_at is not None

    wait_until(finished, f'{verb} of {service}', timeout_s)
    return messages.load(queued.error)


def command(verb: str, service: str, at: str = data.NODE) -> None:
    """A command of the Control Center that works."""
    assert outcome(verb, service, at=at) == ''


def user(user_id: str) -> Any:
    """The row of a test user, fresh."""
    from impadmin.ucm.models import EndUser

    return EndUser.objects.get(user_id=user_id)


def counts_are_exact() -> None:
    """contact_count and watcher_count of every user agree with the rows."""
    from impadmin.ucm.models import EndUser, RosterItem

    for row in EndUser.objects.all():
        items = RosterItem.objects.filter(user=row)
        assert row.contact_count == items.filter(is_contact=True).count(), row
        assert row.watcher_count == items.filter(subscription__in=(2, 3)).count(), row
