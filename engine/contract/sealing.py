"""Secrets that must be read again are kept encrypted under a key made from the installation's secret key, each purpose
with its own: what the console seals, the nodes read."""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LDAP = 'ldap'
"""Purpose of the passwords of LDAP managers."""


def installation_key(var: Path) -> str:
    """The secret key as impadmin/settings.py finds it; '' when this machine has none."""
    try:
        return os.environ.get('IMP_SECRET_KEY') or (var / 'secret-key').read_text()
    except OSError:
        return ''


@lru_cache(maxsize=8)
def _box(purpose: str, key: str) -> Fernet:
    derived = HKDF(SHA256(), 32, None, f'imp:{purpose}'.encode()).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def seal(purpose: str, clear: bytes, key: str) -> str:
    """Encrypted and authenticated text for the database."""
    return _box(purpose, key).encrypt(clear).decode()


def unseal(purpose: str, text: str, key: str) -> bytes | None:
    """What was sealed; None when the key is another one or the text was changed."""
    try:
        return _box(purpose, key).decrypt(text.encode())
    except InvalidToken:
        return None
