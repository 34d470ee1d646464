"""Secrets at rest: encrypted with a key derived from the installation's secret key, each purpose with its own."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unreadable(Exception):
    """The secret was stored under another secret key."""


def _cipher(purpose: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=b'imp-vault', info=purpose.encode()).derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def seal(purpose: str, clear: str) -> str:
    """``clear`` as it may be stored; '' stays ''."""
    return _cipher(purpose).encrypt(clear.encode()).decode() if clear else ''


def reveal(purpose: str, sealed: str) -> str:
    """What was sealed. Raises Unreadable."""
    try:
        return _cipher(purpose).decrypt(sealed.encode()).decode() if sealed else ''
    except InvalidToken:
        raise Unreadable from None
