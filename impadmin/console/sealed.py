"""Secrets that must be read again are kept encrypted under a key made from SECRET_KEY, each purpose with its own."""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


@lru_cache(maxsize=8)
def _box(purpose: str, key: str) -> Fernet:
    derived = HKDF(SHA256(), 32, None, f'imp:{purpose}'.encode()).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def seal(purpose: str, clear: bytes) -> str:
    """Encrypted and authenticated text for the database."""
    return _box(purpose, settings.SECRET_KEY).encrypt(clear).decode()


def unseal(purpose: str, text: str) -> bytes | None:
    """What was sealed; None when the key is another one or the text was changed."""
    try:
        return _box(purpose, settings.SECRET_KEY).decrypt(text.encode())
    except InvalidToken:
        return None
