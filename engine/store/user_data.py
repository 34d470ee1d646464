"""What User Data Services tell of an end user: the person, the service profile in force, the line and the devices."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from engine.store.pool import Store

SERVERS: Final = 3
"""Primary, secondary, tertiary."""
USER_PROFILE: Final = 'v.id = coalesce(u.user_profile_id, (SELECT id FROM user_profile WHERE is_default))'
"""The user profile in force: the user's own, else the default one."""


class Server(NamedTuple):
    """A UC service of type IM and Presence."""

    name: str
    description: str
    address: str


class Profile(NamedTuple):
    """A service profile; ``servers`` in the order to try them, None where there is none."""

    name: str
    description: str
    is_default: bool
    servers: tuple[Server | None, ...]


class Line(NamedTuple):
    """The line of a user; ``extension`` is '' without one. The other two stand in the universal line template of the
    user profile in force."""

    extension: str
    description: str
    external_mask: str


class Person(NamedTuple):
    """An end user of this cluster. ``credentials``: see engine.contract.credentials; ``bare``: '' without IM address;
    ``node_address``: of the home node, ''; ``from_directory``: see ``store.users.User``; ``profile``: the user's own
    service profile, else the default one."""

    id: int
    user_id: str
    first_name: str
    last_name: str
    display_name: str
    mail: str
    directory_uri: str
    department: str
    im_enabled: bool
    credentials: dict[str, list[str | int]]
    bare: str
    node_address: str
    from_directory: bool
    telephone_number: str
    line: Line
    profile: Profile | None


async def load(store: Store, user_id: str) -> Person | None:
    """The active user with this user ID, whatever its case, whose home cluster this is."""
    row = await store.fetch_one(
        'SELECT u.id, u.user_id, u.first_name, u.last_name, u.display_name, u.mail, u.directory_uri, u.department,'  # noqa: S608
        " u.im_enabled, u.credentials, coalesce(u.im_address, ''), coalesce(n.address, ''),"
        " u.ldap_status = 'active', u.telephone_number,"
        " u.extension, coalesce(l.line_description, ''), coalesce(l.external_mask, ''),"
        ' p.name, p.description, p.is_default,'
        ' a.name, a.description, a.address, b.name, b.description, b.address, c.name, c.description, c.address'
        ' FROM end_user u LEFT JOIN node n ON n.id = u.home_node_id'
        ' LEFT JOIN service_profile p'
        ' ON p.id = coalesce(u.service_profile_id, (SELECT id FROM service_profile WHERE is_default))'
        f' LEFT JOIN user_profile v ON {USER_PROFILE}'
        ' LEFT JOIN universal_line_template l ON l.id = v.line_template_id'
        ' LEFT JOIN uc_service a ON a.id = p.imp_primary_id LEFT JOIN uc_service b ON b.id = p.imp_secondary_id'
        ' LEFT JOIN uc_service c ON c.id = p.imp_tertiary_id'
        ' WHERE upper(u.user_id) = upper(%s) AND u.active AND u.home_cluster',
        user_id,
    )
    return None if row is None else Person._make((*row[:14], Line(*row[14:17]), _profile(row[17:])))


def _profile(row: tuple[Any, ...]) -> Profile | None:
    if row[0] is None:
        return None
    servers = tuple(Server(*row[at : at + 3]) if row[at] is not None else None for at in range(3, 3 + 3 * SERVERS, 3))
    return Profile(row[0], row[1], row[2], servers)
