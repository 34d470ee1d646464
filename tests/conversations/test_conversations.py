"""Every conversation file against the engine, and against a real Prosody where it is meant for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conversations.player import Peer, Play
from tests.conversations.prosody import Prosody
from tests.conversations.script import Conversation, conversations, read
from tests.fixtures import data
from tests.fixtures.processes import Engine
from tests.fixtures.servers import installed
from tests.proves import proves

FILES = conversations()
NUMBERS = {path: f'-{number}' for number, path in enumerate(FILES)}
"""Each file has users of its own, so that one server can serve them all."""


def users(chosen: list[Conversation]) -> list[str]:
    """Localparts of everybody."""
    return [f'{user}{NUMBERS[one.path]}' for one in chosen for user in one.users]


@pytest.fixture(scope='module')
def db(_other_sessions_end: None, django_db_blocker: Any) -> Iterator[None]:
    """As everywhere, but kept for the module: the engine below serves all files."""
    with installed(django_db_blocker):
        yield


@pytest.fixture(scope='module')
def imp(db: None) -> Iterator[Callable[[Path], Peer]]:
    """One engine for all files, with the settings README.md says."""
    prepare()
    engine = Engine()
    try:
        engine.wait_ready()
        yield lambda path: Peer('imp', engine.port, data.DOMAIN, data.PASSWORD, NUMBERS[path])
    finally:
        if engine.alive():
            engine.stop()


def prepare() -> None:
    """Settings and people."""
    from engine.contract import credentials
    from impadmin.presence.models import PresenceSettings
    from impadmin.system.models import Node, ParameterValue, ServiceActivation
    from impadmin.ucm.models import EndUser

    PresenceSettings.objects.filter(pk=1).update(auto_approve=False)
    node = Node.objects.get(name=data.NODE)
    ServiceActivation.objects.create(node=node, service='xcp_directory')
    ParameterValue.objects.create(service='xcp_router', name='message_archive', value=True)
    verifiers = credentials.verifiers(data.PASSWORD, salt=b'0123456789abcdef')
    EndUser.objects.bulk_create(
        EndUser(user_id=user, last_name=user, home_node=node, im_address=f'{user}@{data.DOMAIN}', credentials=verifiers)
        for user in users([read(path) for path in FILES])
    )
    data.publish_configuration()


@pytest.fixture(scope='module')
def prosody() -> Iterator[Prosody]:
    """One Prosody for all files."""
    with Prosody(users([read(path) for path in FILES])) as server:
        yield server


def parameters(peer: str) -> list[Any]:
    """The files for a peer, with the rows they prove (of ours only)."""
    chosen = [read(path) for path in FILES]
    return [
        pytest.param(one.path, id=one.path.stem, marks=[proves(*one.proves)] if one.proves and peer == 'imp' else [])
        for one in chosen
        if peer in one.peers
    ]


@pytest.mark.parametrize('path', parameters('imp'))
def test_conversation(imp: Callable[[Path], Peer], path: Path) -> None:
    Play(read(path), imp(path)).run()


@pytest.mark.parametrize('path', parameters('prosody'))
def test_conversation_with_prosody(prosody: Prosody, path: Path) -> None:
    Play(read(path), prosody.peer(NUMBERS[path])).run()
