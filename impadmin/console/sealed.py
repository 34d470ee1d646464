"""Secrets that must be read again, sealed under this installation's secret key (engine.contract.sealing)."""

from __future__ import annotations

from django.conf import settings

from engine.contract import sealing


def seal(purpose: str, clear: bytes) -> str:
    """Encrypted and authenticated text for the database."""
    return sealing.seal(purpose, clear, settings.SECRET_KEY)


def unseal(purpose: str, text: str) -> bytes | None:
    """What was sealed; None when the key is another one or the text was changed."""
    return sealing.unseal(purpose, text, settings.SECRET_KEY)
