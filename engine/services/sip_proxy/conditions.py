"""Error conditions of XMPP and SIP statuses, each for the other (RFC 7247 8)."""

from __future__ import annotations

from typing import Final

STATUS: Final = {
    'bad-request': 400, 'conflict': 400, 'feature-not-implemented': 501, 'forbidden': 403, 'gone': 410,
    'internal-server-error': 500, 'item-not-found': 404, 'jid-malformed': 404, 'not-acceptable': 488,
    'not-allowed': 403, 'not-authorized': 403, 'policy-violation': 403, 'recipient-unavailable': 480,
    'redirect': 480, 'registration-required': 403, 'remote-server-not-found': 404, 'remote-server-timeout': 504,
    'resource-constraint': 503, 'service-unavailable': 480, 'subscription-required': 403, 'undefined-condition': 480,
    'unexpected-request': 480,
}  # fmt: skip
_CONDITION: Final = {
    400: 'bad-request', 401: 'not-authorized', 403: 'forbidden', 404: 'item-not-found', 405: 'not-allowed',
    406: 'not-acceptable', 407: 'not-authorized', 413: 'policy-violation', 415: 'not-acceptable',
    480: 'recipient-unavailable', 486: 'recipient-unavailable', 488: 'not-acceptable', 501: 'feature-not-implemented',
    513: 'policy-violation', 600: 'recipient-unavailable', 603: 'not-acceptable', 606: 'not-acceptable',
}  # fmt: skip
_GONE: Final = frozenset((404, 408, 410, 430, 480, 481))


def gone(status: int) -> bool:
    """Whether the client is not there, so that a message to it goes the way of one to somebody who signed out."""
    return status in _GONE or 500 <= status < 600


def condition(status: int) -> str:
    """The condition for a status with which a client refuses a message."""
    return _CONDITION.get(status, 'undefined-condition')
