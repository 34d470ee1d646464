"""Secrets of webhooks and the signature of a delivery.

``IMP-Signature: t=UNIX_TIME,v1=HEX[,v1=HEX]``: HMAC-SHA-256 of ``UNIX_TIME.BODY`` with the secret; while a secret is
being replaced there is one ``v1`` for each. A receiver computes it, compares in constant time, and refuses a time that
differs from its own by more than 300 seconds: a recorded request cannot be replayed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from impadmin.console.sealed import seal, unseal
from impadmin.webhooks.models import Webhook

PREFIX = 'whs_'
OLD_VALID = timedelta(hours=24)
"""How long the secret before the present one signs, too."""
_PURPOSE = 'webhook'


def new_secret(webhook: Webhook, now: datetime) -> str:
    """Give ``webhook`` (not saved here) a new secret, and return it in clear: the only time it is seen."""
    clear = PREFIX + secrets.token_urlsafe(32)
    if webhook.sealed:
        webhook.sealed_before, webhook.before_until = webhook.sealed, now + OLD_VALID
    webhook.sealed = seal(_PURPOSE, clear.encode())
    return clear


def secrets_of(webhook: Webhook, now: datetime) -> list[bytes]:
    """The secrets that are valid, the newest first; [] when the key of the console has changed."""
    found = [unseal(_PURPOSE, webhook.sealed)]
    if webhook.sealed_before and webhook.before_until is not None and webhook.before_until > now:
        found.append(unseal(_PURPOSE, webhook.sealed_before))
    return [one for one in found if one is not None]


def signature(keys: list[bytes], now: datetime, body: bytes) -> str:
    """The value of ``IMP-Signature``."""
    stamp = int(now.timestamp())
    signed = f'{stamp}.'.encode() + body
    return ','.join([f't={stamp}', *(f'v1={hmac.new(key, signed, hashlib.sha256).hexdigest()}' for key in keys)])
