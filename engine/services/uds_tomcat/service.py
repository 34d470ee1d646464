"""The service: one HTTPS listener, who may read what, and the answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

import structlog

from engine import tls
from engine.contract.certificates import TOMCAT
from engine.contract.jid import im_address
from engine.contract.messages import Text, message
from engine.contract.phones import kind as kind_of
from engine.contract.restarts import parameter_value
from engine.contract.service_keys import SERVER_RECOVERY_MANAGER
from engine.contract.services import AUTHENTICATION, UDS_TOMCAT, XCP_ROUTER
from engine.listening import accept, listen
from engine.services.authentication import AuthenticationService, Refused, Undecided
from engine.services.base import Service
from engine.services.uds_tomcat import documents
from engine.services.uds_tomcat.http import HEAD_BYTES, METHODS, Request, Response, serve
from engine.store import phones, user_data
from engine.store.phones import Outcome
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    import socket
    import ssl

    from engine.node import Node
    from engine.store.user_data import Person

log = structlog.get_logger(__name__)

ROOT: Final = 'cucm-uds'
GOODBYE_S: Final = 2.0
RESOURCES: Final[tuple[list[str], ...]] = ([], ['serviceProfile'], ['extensions'], ['devices'])
"""Of a user; besides them one device."""
_NO_DEVICE: Final = 'The user has no such device.'
_REFUSED: Final = {
    Outcome.NOT_ALLOWED: (403, 'The user profile does not let users provision such devices.'),
    Outcome.NO_LINE: (403, 'The user has no primary extension.'),
    Outcome.LIMIT: (409, 'The user has as many phones as the user profile allows.'),
    Outcome.TAKEN: (409, 'Another user has a device with this name.'),
}
_HOST: Final = re.compile(r'[A-Za-z0-9.:\[\]-]{1,255}')
_CHALLENGE: Final = (('WWW-Authenticate', 'Basic realm="User Data Services", charset="UTF-8"'),)


class UdsTomcat(Service):
    """Tells clients what the Unified CM side knows of their user."""

    key: ClassVar[str] = UDS_TOMCAT

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._per_ip: dict[str, int] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._port = 0

    async def start(self) -> None:
        """Prepare the certificate and listen. Raises OSError naming the port or address that cannot be used."""
        host, self._port = self.param('bind_address'), self.param('port')
        router: Any = self.node.service(XCP_ROUTER)
        identities = await self.node.certificates.identities(self.config, TOMCAT, router.config)
        context = tls.context(identities, ('http/1.1',))
        listener = listen(host, self._port)
        shown = f'[{host}]' if ':' in host else host
        self.detail = message(Text.LISTENING_WEB, address=f'https://{shown}:{self._port}/{ROOT}')
        log.info(self.detail)
        self._accepting = self.spawn(self._accept(listener, context), 'accept user data clients')

    async def stop(self) -> None:
        """Stop listening; requests under way end with the tasks of the service."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])

    # ---- connections

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        def take(connection: socket.socket, peer: tuple[Any, ...]) -> None:
            address = peer[0]
            if self._per_ip.get(address, 0) >= self.param('connections_per_ip'):
                self.node.counters.connections_refused += 1
                connection.close()
                return
            self._per_ip[address] = self._per_ip.get(address, 0) + 1
            self.spawn(self._serve(connection, address, context), f'user data for {address}')

        await accept(listener, take)

    async def _serve(self, connection: socket.socket, address: str, context: ssl.SSLContext) -> None:
        patience = float(self.param('request_timeout_s'))
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=GOODBYE_S,
            )  # fmt: skip
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                await serve(reader, writer, address, self._answer, _refusal, patience)
            finally:
                writer.close()
            await writer.wait_closed()
        except (OSError, TimeoutError) as error:  # a connection that broke, a handshake that failed
            log.debug('user data connection ended', address=address, error=describe(error))
        except Exception:
            log.exception('user data connection failed', address=address)
        finally:
            if (left := self._per_ip[address] - 1) > 0:
                self._per_ip[address] = left
            else:
                del self._per_ip[address]

    # ---- requests

    async def _answer(self, request: Request) -> Response:
        base = f'https://{self._host(request)}/{ROOT}'
        adds = request.method == 'PUT'
        if adds and request.path[3:4] != ('device',):
            return _refusal(405, 'This can only be read.')
        match request.path:
            case ('cucm-uds', 'version'):
                return Response(200, documents.version(base))
            case ('cucm-uds', 'servers'):
                hosts = [node.address for node in self.config.nodes if UDS_TOMCAT in node.activated]
                return Response(200, documents.servers(base, hosts))
            case ('cucm-uds', 'clusterUser'):
                user_id = request.query.get('username', '')
            case ('cucm-uds', 'user', user_id, *rest) if rest in RESOURCES or (len(rest) == 2 and rest[0] == 'device'):
                pass
            case _:
                return _refusal(404, 'There is no such resource.')
        try:
            person = await self._authenticated(request)
        except Unavailable as error:
            log.warning('user data cannot be read', error=describe(error))
            return _refusal(503, 'User data cannot be read at the moment.')
        if isinstance(person, Response):
            return person
        own = person.user_id.upper() == user_id.upper()
        if request.path[1] == 'clusterUser':
            host = urlsplit(base).hostname or ''
            return Response(200, documents.cluster_user(base, host, person.user_id if own else user_id, own))
        if not own:
            return _refusal(403, 'Users can read their own data only.')
        try:
            return await self._of_user(base, person, rest, adds)
        except Unavailable as error:
            log.warning('user data cannot be read', error=describe(error))
            return _refusal(503, 'User data cannot be read at the moment.')

    async def _of_user(self, base: str, person: Person, rest: list[str], adds: bool) -> Response:
        """A resource of the user who asks."""
        match rest:
            case []:
                return Response(200, documents.user(base, person, self._stand_in(person)))
            case ['extensions']:
                return Response(200, documents.extensions(base, person))
            case ['devices']:
                return Response(200, documents.devices(base, person, await phones.devices(self.node.store, person.id)))
            case ['device', name]:
                return await self._device(base, person, name, adds)
        if person.profile is None:
            return _refusal(404, 'The user has no service profile.')
        return Response(200, documents.service_profile(base, person, person.profile))

    async def _device(self, base: str, person: Person, name: str, adds: bool) -> Response:
        """One device of the user; PUT adds it when it is not there (self-provisioning, a request of our own)."""
        status, kind = 200, kind_of(name)
        if adds:
            if kind is None:
                return _refusal(400, 'This is no device name.')
            outcome = await phones.provision(self.node.store, person.id, name, mobile=kind.mobile)
            if outcome in _REFUSED:
                log.info('device refused', user=person.user_id, device=name, reason=outcome.value)
                return _refusal(*_REFUSED[outcome])
            if outcome is Outcome.ADDED:
                log.info('device added by its user', user=person.user_id, device=name)
                status = 201
        found = [one for one in await phones.devices(self.node.store, person.id) if one.name == name]
        return Response(status, documents.devices(base, person, found)) if found else _refusal(404, _NO_DEVICE)

    async def _authenticated(self, request: Request) -> Person | Response:
        """The user whose name and password the request has, else what is answered. Wrong passwords count together with
        those of sign-ins by XMPP."""
        given = _credentials(request.headers.get('authorization', ''))
        if given is None:
            return _refusal(401, 'Send user ID and password (HTTP Basic).')
        user_id, password = given
        service = self.node.service(AUTHENTICATION)
        if not isinstance(service, AuthenticationService):
            return _refusal(503, 'Cisco XCP Authentication Service is not running.')
        person = await user_data.load(self.node.store, user_id)
        bare = person.bare if person is not None else ''
        scheme, domain = self.config.address_scheme, self.config.default_domain
        bare = bare or im_address(scheme, domain, user_id, '') or user_id.upper()
        try:
            right = await service.check(bare, request.address, person, user_id, password)
        except Refused:
            return _refusal(429, 'Too many failed sign-ins. Try again later.')
        except Undecided as error:
            log.warning('the directory cannot be asked', user=user_id, error=str(error))
            return _refusal(503, 'The directory cannot be asked at the moment.')
        if person is None or not right:
            log.info('user data refused', user=bare, address=request.address)
            return _refusal(401, 'The user ID or the password is wrong.')
        return person

    def _stand_in(self, person: Person) -> documents.StandIn | None:
        """The other node of the redundancy group of the user's home node, while High Availability is on."""
        config = self.node.config
        home = next((node for node in config.nodes if node.address == person.node_address), None)
        peer = config.peer_of(home.id) if home is not None else None
        other = next((node for node in config.nodes if node.id == peer), None)
        if home is None or other is None:
            return None
        limits = (
            int(parameter_value(config, home.name, SERVER_RECOVERY_MANAGER, name))
            for name in ('relogin_lower_s', 'relogin_upper_s')
        )
        return documents.StandIn(other.address, *limits)

    def _host(self, request: Request) -> str:
        """Host and port as the client named them, else as this node knows itself."""
        if _HOST.fullmatch(named := request.headers.get('host', '')):
            return named
        own = self.config.node(self.node.name)
        return f'{own.address if own is not None else self.node.name}:{self._port}'


def _refusal(status: int, text: str) -> Response:
    allow = (('Allow', ', '.join(METHODS)),) if status == 405 else ()
    return Response(status, documents.problem(status, text), _CHALLENGE if status == 401 else allow)


def _credentials(authorization: str) -> tuple[str, str] | None:
    """(user ID, password) of an Authorization header (RFC 7617), or None."""
    scheme, _, encoded = authorization.partition(' ')
    if scheme.lower() != 'basic':
        return None
    try:
        user_id, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(':')
    except (binascii.Error, ValueError):
        return None
    return (user_id, password) if user_id and colon and password and '\0' not in user_id else None
