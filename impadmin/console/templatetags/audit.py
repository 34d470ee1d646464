"""Template tag of the History page."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context

from impadmin.console import approvals, historyview
from impadmin.console.access import grants_of
from impadmin.console.models import ApprovalRequest, AuditEntry

register = template.Library()


@register.simple_tag(takes_context=True)
def audit_entry(context: Context, entry: AuditEntry) -> dict[str, Any]:
    """What ``console/entry.html`` draws of one entry, and where its object is (``url``, '' when nowhere)."""
    return {**historyview.entry_context(entry), 'url': historyview.where(entry, grants_of(context['request']))}


@register.simple_tag
def approval_overview(request: ApprovalRequest) -> dict[str, Any]:
    """What ``console/approval.html`` draws: the request, what it would do now, and what was requested."""
    return {
        **approvals.overview(request),
        'state': approvals.state(request),
        'channel': historyview.CHANNELS.get(request.channel, request.channel),
    }
