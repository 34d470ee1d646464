"""SCRAM verifiers (RFC 5802, RFC 7677): the console stores them, the engine checks with them. No password is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from precis_i18n import get_profile

ITERATIONS = 10_000
MECHANISMS = {'SCRAM-SHA-1': 'sha1', 'SCRAM-SHA-256': 'sha256'}
_OPAQUE = get_profile('OpaqueString')


def prepare_password(password: str) -> str:
    """Password prepared with the OpaqueString profile (RFC 8265). Raises ValueError when it is empty or not allowed."""
    if password.isascii() and password.isprintable() and password:
        return password
    try:
        return _OPAQUE.enforce(password)
    except UnicodeError as error:
        raise ValueError('The password has a character that is not allowed.') from error


def verifiers(password: str, iterations: int = ITERATIONS, salt: bytes | None = None) -> dict[str, list[str | int]]:
    """Mechanism -> [salt, iterations, StoredKey, ServerKey]; the byte values in base64."""
    secret = prepare_password(password).encode()
    return {mechanism: _entry(mechanism, secret, iterations, salt or os.urandom(16)) for mechanism in MECHANISMS}


def _entry(mechanism: str, secret: bytes, iterations: int, salt: bytes) -> list[str | int]:
    algorithm = MECHANISMS[mechanism]
    salted = hashlib.pbkdf2_hmac(algorithm, secret, salt, iterations)
    stored = hashlib.new(algorithm, hmac.digest(salted, b'Client Key', algorithm)).digest()
    server = hmac.digest(salted, b'Server Key', algorithm)
    return [
        base64.b64encode(salt).decode(),
        iterations,
        base64.b64encode(stored).decode(),
        base64.b64encode(server).decode(),
    ]


def matches(password: str, stored: dict[str, list[str | int]]) -> bool:
    """Whether ``password`` fits the stored verifiers (for SASL PLAIN). Users who came from another server
    may have one mechanism only."""
    mechanism = next((name for name in ('SCRAM-SHA-256', 'SCRAM-SHA-1') if stored.get(name)), '')
    if not mechanism:
        return False
    entry = stored[mechanism]
    salt, iterations = base64.b64decode(str(entry[0])), int(entry[1])
    try:
        fresh = _entry(mechanism, prepare_password(password).encode(), iterations, salt)
    except ValueError:
        return False
    return hmac.compare_digest(str(fresh[2]), str(entry[2]))
