"""Who may do what: rights per role as data, default-deny over every URL and REST route."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """Groups of pages that are granted together."""

    CONFIGURATION = 'configuration'
    USERS = 'users'
    SERVICES = 'services'
    BULK = 'bulk'
    MONITOR = 'monitor'
    """Notifications, dashboards, history: nothing to write."""
    ADMINISTRATORS = 'administrators'


class Level(StrEnum):
    """How far a role reaches into a group."""

    NONE = 'none'
    READ = 'read'
    WRITE = 'write'


_ALL = {right: Level.WRITE for right in Right}
RIGHTS: dict[str, dict[Right, Level]] = {
    'administrator': _ALL,
    'operator': _ALL | {Right.CONFIGURATION: Level.READ, Right.ADMINISTRATORS: Level.NONE},
    'bulk_operator': {right: Level.READ for right in Right}
    | {Right.BULK: Level.WRITE, Right.ADMINISTRATORS: Level.NONE},
    'read_only': {right: Level.READ for right in Right} | {Right.ADMINISTRATORS: Level.NONE},
}


def level(role: str, right: Right) -> Level:
    """What ``role`` may do with pages of ``right``; an unknown role may do nothing."""
    return RIGHTS.get(role, {}).get(right, Level.NONE)


def may_read(role: str, right: Right) -> bool:
    """Whether ``role`` sees pages of ``right``."""
    return level(role, right) is not Level.NONE


def may_write(role: str, right: Right) -> bool:
    """Whether ``role`` changes what pages of ``right`` show."""
    return level(role, right) is Level.WRITE


class ApiPermission:
    """REST permission by page and role."""
