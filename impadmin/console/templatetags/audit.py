"""Template tag of the History page."""

from __future__ import annotations

from typing import Any

from django import template

from impadmin.console import historyview
from impadmin.console.models import AuditEntry

register = template.Library()


@register.simple_tag
def audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """What ``console/entry.html`` draws of one entry."""
    return historyview.entry_context(entry)
