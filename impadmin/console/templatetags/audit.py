"""Template tag of the History page."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context

from impadmin.console import historyview
from impadmin.console.access import grants_of
from impadmin.console.models import AuditEntry

register = template.Library()


@register.simple_tag(takes_context=True)
def audit_entry(context: Context, entry: AuditEntry) -> dict[str, Any]:
    """What ``console/entry.html`` draws of one entry, and where its object is (``url``, '' when nowhere)."""
    return {**historyview.entry_context(entry), 'url': historyview.where(entry, grants_of(context['request']))}
