"""Who a client is: asked of the Cisco XCP Authentication Service, answered to the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from engine.contract.services import AUTHENTICATION
from engine.services.authentication import AuthenticationService, Refused, Undecided
from engine.store.pool import Unavailable
from engine.supervisor import describe
from engine.xmpp.c2s import NeedCredentials, NeedPasswordCheck

if TYPE_CHECKING:
    from engine.services.connection_manager.connection import Connection

log = structlog.get_logger(__name__)


async def give_credentials(connection: Connection, event: NeedCredentials) -> None:
    """The stream wants the verifiers of a user."""
    admitted = await _begin_attempt(connection, event.localpart, event.domain, event.mechanism == 'EXTERNAL')
    if admitted and connection._stream is not None and not connection._ended:
        connection._stream.credentials(connection._user.credentials if connection._user is not None else None)


async def check_password(connection: Connection, event: NeedPasswordCheck) -> None:
    """The stream wants to know whether a password is right."""
    if not await _begin_attempt(connection, event.localpart, event.domain) or connection._attempt is None:
        return
    try:
        right = await connection._attempt[0].password_matches(connection._user, event.localpart, event.password)
    except Undecided as error:
        log.warning('the directory cannot be asked', user=event.localpart, error=str(error))
        _refuse(connection, 'The directory cannot be asked at the moment.')
        return
    if connection._stream is not None and not connection._ended:
        connection._stream.password_checked(right)


async def _begin_attempt(connection: Connection, localpart: str, domain: str, certificate: bool = False) -> bool:
    """Whether the attempt goes on, with ``_user`` the user or None; else it was refused already."""
    service = connection.manager.node.service(AUTHENTICATION)
    bare = f'{localpart}@{domain}'
    connection._user = None
    if isinstance(service, AuthenticationService):
        try:
            user = await service.begin(bare, connection.address, certificate)
        except Refused:
            text = 'Too many failed sign-ins. Try again later.'
        except Unavailable as error:
            log.warning('sign-in is not possible', user=bare, error=describe(error))
            text = 'The server cannot check passwords at the moment.'
        else:
            if connection._ended:
                service.finish(bare, connection.address, None)
                return False
            connection._attempt = (service, bare)
            connection._user = user
            return True
    else:
        text = 'Cisco XCP Authentication Service is not running.'
    _refuse(connection, text)
    return False


def _refuse(connection: Connection, text: str) -> None:
    if connection._stream is not None and not connection._ended:
        connection._stream.auth_refused('temporary-auth-failure', text)


def verdict(connection: Connection, bare: str, right: bool | None) -> None:
    """How the attempt ended: right, wrong, or None for neither."""
    attempt, connection._attempt = connection._attempt, None
    if attempt is not None:
        attempt[0].finish(attempt[1], connection.address, right)
    if right is False:
        log.info('sign-in failed', user=bare, address=connection.address)
