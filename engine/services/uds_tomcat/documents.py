"""The XML documents of User Data Services, in the shapes of its published reference; the service profile in those of
the administrative XML interface (AXL), because its own shape is not published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote as quote_url

from engine.contract import phones
from engine.store.phones import Device
from engine.store.user_data import Person, Profile, Server
from engine.xmpp.stanza import element, quote

RELEASE: Final = '14.0.1'
"""The release whose interface this is."""
_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
IMP_PROFILE: Final = 'IM and Presence Profile'


def _root(name: str, uri: str, inside: Iterable[str]) -> str:
    return f'{_XML}<{name} uri="{quote(uri)}" version="{RELEASE}">{"".join(inside)}</{name}>\n'


def _text(name: str, value: str, **attributes: str) -> str:
    return element(name, '', value, **attributes)


def _flag(value: bool) -> str:
    return 'true' if value else 'false'


def problem(status: int, text: str) -> str:
    """An error."""
    inside = _text('code', str(status)) + _text('message', text)
    return f'{_XML}<errors><error>{inside}</error></errors>\n'


def version(base: str) -> str:
    """versionInformation."""
    return _root('versionInformation', f'{base}/version', [_text('version', RELEASE)])


def servers(base: str, hosts: Sequence[str]) -> str:
    """The nodes that offer User Data Services."""
    return _root('servers', f'{base}/servers', [_text('server', host) for host in hosts])


def cluster_user(base: str, host: str, user_id: str, found: bool) -> str:
    """Whether this is the home cluster of a user."""
    uri = f'{base}/clusterUser?username={quote_url(user_id)}'
    inside = [element('result', '', '', found='false')]
    if found:
        inside = [
            element('result', '', '', found='true', uri=user_uri(base, user_id), version=RELEASE),
            _text('homeCluster', host, serversUri=f'{base}/servers'),
        ]
    return _root('clusterUser', uri, inside)


def user_uri(base: str, user_id: str) -> str:
    """Where a user is."""
    return f'{base}/user/{quote_url(user_id, safe="")}'


class StandIn(NamedTuple):
    """The node that takes over when the user's home node fails, and the seconds between which a client then waits."""

    address: str
    lower_s: int
    upper_s: int


def user(base: str, person: Person, stand_in: StandIn | None) -> str:
    """The user, with where the service profile is. With High Availability the node that stands in and the Client
    Re-Login limits (guide 2163-2166); the names of these elements are ours."""
    uri = user_uri(base, person.user_id)
    profile = _text('uri', f'{uri}/serviceProfile') if person.profile is not None else ''
    server = _text('server', person.node_address) if person.node_address else ''
    if stand_in is not None:
        server += _text('backupServer', stand_in.address)
        server += _text('clientReLoginLowerLimit', str(stand_in.lower_s))
        server += _text('clientReLoginUpperLimit', str(stand_in.upper_s))
    presence = {'enableImAndPresence': _flag(person.im_enabled), 'enableCalendarPresence': 'false'}
    return _root(
        'user',
        uri,
        [
            _text('id', str(person.id)),
            _text('userName', person.user_id),
            _text('firstName', person.first_name),
            _text('lastName', person.last_name),
            _text('displayName', person.display_name),
            _text('phoneNumber', person.telephone_number or _dialled(person)),
            _text('email', person.mail),
            _text('directoryUri', person.directory_uri),
            _text('department', person.department),
            _text('accountType', 'local', useLdapAuth='false'),
            _text('homeCluster', 'true', **presence),
            f'<imAndPresence>{server}</imAndPresence>',
            f'<serviceProfile>{profile}</serviceProfile>',
            _text('extensions', '', uri=f'{uri}/extensions'),
            _text('devices', '', uri=f'{uri}/devices'),
        ],
    )


def extensions(base: str, person: Person) -> str:
    """The line of a user."""
    uri, line = user_uri(base, person.user_id), person.line
    inside = (
        _text('id', line.extension)
        + _text('directoryNumber', line.extension)
        + _text('description', phones.filled(line.description, _values(person)))
        + _text('externalPhoneNumber', _dialled(person))
    )
    found = [f'<extension>{inside}</extension>'] if line.extension else []
    return _root('extensions', f'{uri}/extensions', found)


def _dialled(person: Person) -> str:
    return phones.external_number(person.line.external_mask, person.line.extension)


def _values(person: Person, product: str = '') -> dict[str, str]:
    return {
        'FirstName': person.first_name, 'LastName': person.last_name, 'UserID': person.user_id, 'Product': product,
    }  # fmt: skip


def devices(base: str, person: Person, found: Iterable[Device]) -> str:
    """The devices of a user."""
    return _root('devices', f'{user_uri(base, person.user_id)}/devices', [_device(base, person, one) for one in found])


def _device(base: str, person: Person, device: Device) -> str:
    kind = phones.kind(device.name)
    model, type_ = (kind.model, kind.type) if kind is not None else ('', '')
    inside = (
        _text('id', str(device.id))
        + _text('name', device.name)
        + _text('type', type_)
        + _text('model', model)
        + _text('description', phones.filled(device.description, _values(person, model)))
    )
    return f'<device uri="{quote(user_uri(base, person.user_id))}/device/{device.name}">{inside}</device>'


def service_profile(base: str, person: Person, profile: Profile) -> str:
    """The service profile of a user: the servers in the order to try them."""
    places = zip(('primary', 'secondary', 'tertiary'), profile.servers, strict=True)
    found = ''.join(_server(place, server) for place, server in places if server is not None)
    info = f'<serviceProfileInfo>{_text("profileName", IMP_PROFILE)}{found}</serviceProfileInfo>' if found else ''
    inside = [
        _text('name', profile.name),
        _text('description', profile.description),
        _text('isDefault', _flag(profile.is_default)),
        f'<serviceProfileInfos>{info}</serviceProfileInfos>',
    ]
    return _root('serviceProfile', f'{user_uri(base, person.user_id)}/serviceProfile', inside)


def _server(place: str, server: Server) -> str:
    inside = (
        _text('serviceType', 'IM and Presence')
        + _text('productType', 'Unified CM (IM and Presence)')
        + _text('name', server.name)
        + _text('description', server.description)
        + _text('hostnameorip', server.address)
    )
    return f'<{place}>{inside}</{place}>'
