"""States and reasons of high availability, in the product's words (guide 2244-2262, 2266-2307)."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of one node of a Presence Redundancy Group."""

    INITIALIZING = 'Initializing'
    IDLE = 'Idle'
    NORMAL = 'Normal'
    RUNNING_IN_BACKUP_MODE = 'Running in Backup Mode'
    TAKING_OVER = 'Taking Over'
    FAILING_OVER = 'Failing Over'
    FAILED_OVER = 'Failed Over'
    FAILED_OVER_CRITICAL = 'Failed Over with Critical Services Not Running'
    FALLING_BACK = 'Falling Back'
    TAKING_BACK = 'Taking Back'
    FAILED = 'Running in Failed Mode'
    UNKNOWN = 'Unknown'
    BACKUP_ACTIVATED = 'Backup Activated'
    FAILOVER_AFFECTED = 'Failover Affected Services'
    NOT_RESPONDING = 'Not Responding'
    """No state of the product: its table says that the node is down."""


class Reason(StrEnum):
    """Why a node is in its state."""

    NONE = ''
    NORMAL = 'Normal'
    ADMIN = 'On Admin Request'
    INITIALIZATION = 'Initialization'
    AUTOMATIC_FALLBACK = 'Automatic Fallback'
    CRITICAL_DOWN = 'Critical Service Down'
    DATABASE = 'Database Failure'
    START_FAILED = 'Start of Critical Services Failed'
    PEER_DOWN = 'Peer Down'
    PEER_REBOOT = 'Peer Reboot'
    PEER_DOWN_INIT = 'Peer Down During Initialization'
    TAKE_OVER_FAILED = 'Cisco Server Recovery Manager Take Over Users Failed'
    TAKE_BACK_FAILED = 'Cisco Server Recovery Manager Take Back Users Failed'
    AUTO_DATABASE = 'Auto Recover Database Failure'
    AUTO_CRITICAL = 'Auto Recover Critical Service Down'
    UNKNOWN = 'Unknown'
