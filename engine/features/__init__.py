"""One small file per XEP or rule. ``load`` imports them all; importing one attaches it (see registry.py)."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Attach every feature of this package. Safe to call again."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f'{__name__}.{module.name}')
