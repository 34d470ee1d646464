"""History: the audit entries of one object, of a settings page, or of everything; field by field."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.text import capfirst
from django.utils.translation import gettext, gettext_lazy, ngettext

from impadmin.console import audit, exports, filters, registry, revert, visibility
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.editview import object_of
from impadmin.console.models import AuditEntry
from impadmin.console.page import BasePage, Page

PER_PAGE = 30
ACTIONS = {
    'create': gettext_lazy('Added'),
    'update': gettext_lazy('Changed'),
    'delete': gettext_lazy('Deleted'),
    'shred': gettext_lazy('Personal data shredded'),
    'revert': gettext_lazy('Reverted'),
    'sign-in': gettext_lazy('Signed in'),
    'sign-out': gettext_lazy('Signed out'),
    'sign-in-failed': gettext_lazy('Sign-in failed'),
    'sign-in-locked': gettext_lazy('Locked out'),
    'message-acknowledged': gettext_lazy('Message acknowledged'),
    'second-factor-set': gettext_lazy('Second factor set up'),
    'second-factor-removed': gettext_lazy('Second factor removed'),
    'recovery-codes-renewed': gettext_lazy('Recovery codes renewed'),
    'sessions-ended': gettext_lazy('Sessions ended'),
    'vouching-ended': gettext_lazy('No longer vouched for'),
    'token-first-used': gettext_lazy('Token used for the first time'),
}
CHANNELS = {
    'browser': gettext_lazy('Console'),
    'rest': gettext_lazy('REST'),
    'job': gettext_lazy('Job'),
    'cli': gettext_lazy('CLI'),
    'system': gettext_lazy('System'),
}


def action_text(entry: AuditEntry) -> str:
    """What happened, in words: the label of a command; its name, where no page has it any more."""
    pages = (page for page in registry.pages() if page.menu == entry.page)
    labels = {c.name: c.label for page in pages for c in getattr(page, 'commands', ())}
    return capfirst(str(ACTIONS.get(entry.action) or labels.get(entry.action) or gettext(entry.action)))


def channel_text(entry: AuditEntry) -> str:
    """Through what it was done, in words."""
    return str(CHANNELS.get(entry.channel, entry.channel))


def place(entry: AuditEntry) -> str:
    """The menu path of the page, in the active language."""
    return ' > '.join(gettext(part) for part in entry.page.split(' > ')) if entry.page else ''


def actor_text(entry: AuditEntry) -> str:
    """Who did it; the system itself translated."""
    return gettext('System') if entry.channel == 'system' or not entry.actor else entry.actor


def source_text(entry: AuditEntry) -> str:
    """From where it was done."""
    return gettext('System') if entry.channel == 'system' else entry.source


def summary(entry: AuditEntry) -> str:
    """What happened, in one line: the one changed field with its values, or how many fields."""
    found = audit.changes(entry) if entry.action == 'update' else []
    if len(found) == 1:
        label, before, after = found[0]
        return gettext('%(field)s: %(before)s → %(after)s') % {
            'field': label,
            'before': before or '–',
            'after': after or '–',
        }
    if found:
        return ngettext('%(n)s field changed', '%(n)s fields changed', len(found)) % {'n': len(found)}
    return action_text(entry)


def page_of(entry: AuditEntry) -> BasePage | None:
    """The page an entry was made on, or None."""
    return next((page for page in registry.pages() if page.menu == entry.page), None) if entry.page else None


def where(entry: AuditEntry, who: Grants) -> str:
    """URL of the object the entry is about, or of its page; '' when neither is there or open to ``who``."""
    page = page_of(entry)
    if page is None or not may(who, page):
        return ''
    if isinstance(page, Page) and entry.object_id and entry.object_type == page.model._meta.label:
        try:
            obj = object_of(page, who, entry.object_id)
        except Http404:
            return ''
        return registry.page_url(page, 'edit', obj.pk)
    return registry.page_url(page)


def entries_of(page: BasePage, obj: Any) -> QuerySet[AuditEntry]:
    """Entries of one object, or of a page without objects; newest first."""
    mine = {'object_type': obj._meta.label, 'object_id': str(obj.pk)} if obj is not None else {'page': page.menu}
    return AuditEntry.objects.filter(**mine).order_by('-at', '-pk')


FILTERS = (
    ('who', 'actor', 'begins', gettext_lazy('User')),
    ('action', 'action', 'exactly', gettext_lazy('Action')),
    ('since', 'at', 'since', gettext_lazy('Since')),
    ('before', 'at', 'before', gettext_lazy('Before')),
)
"""Name in the URL, find field of the global history, its operator, label."""


def _history() -> Page:
    page = registry.page('history')
    assert isinstance(page, Page)
    return page


def asked(request: HttpRequest) -> list[tuple[str, Any, filters.Condition]]:
    """(name in the URL, label, condition) of every filter, those without a value included."""
    fields = filters.find_fields(_history())
    return [
        (name, label, filters.condition('and', fields[field], operator, request.GET.get(name, '')))
        for name, field, operator, label in FILTERS
    ]


def history_view(request: HttpRequest, page: BasePage, pk: str | None = None) -> HttpResponseBase:
    """The history tab: entries on the left, the chosen one field by field on the right; ``format`` gives a file."""
    who = grants_of(request)
    obj = object_of(page, who, pk) if isinstance(page, Page) and pk is not None else None
    if isinstance(page, Page) and obj is None:
        raise PermissionDenied
    conditions = asked(request)
    query = filters.combine([one for _, _, one in conditions])
    entries = visibility.of_pages(entries_of(page, obj), who)
    entries = entries.filter(query) if query else entries
    if (kind := request.GET.get('format', '')) in exports.KINDS:
        return exports.answer(request, _history(), entries, kind, EXPORTED)
    pager = Paginator(entries, PER_PAGE).get_page(request.GET.get('page', '1'))
    shown = list(pager.object_list)
    wanted = request.GET.get('entry', '')
    chosen = next((e for e in shown if str(e.pk) == wanted), shown[0] if shown else None)
    context = {
        'page': page,
        'object': obj,
        'title': page.title if obj is None else str(obj),
        'is_settings': not isinstance(page, Page),
        'entries': [(entry, summary(entry), channel_text(entry), actor_text(entry)) for entry in shown],
        'pager': pager,
        'chosen': chosen,
        'filters': conditions,
        'filtered': bool(query) or any(one.error for _, _, one in conditions),
        'query': urlencode([(name, one.value) for name, _, one in conditions if one.value]),
        'actions': [*ACTIONS.items(), *((c.name, c.label) for c in getattr(page, 'commands', ()))],
        'reverts': chosen is not None
        and may(who, page, 'change')
        and may(who, registry.page('history'), 'do/revert')
        and not revert.impossible(chosen),
        **(entry_context(chosen) if chosen is not None else {}),
    }
    return render(request, 'console/history.html', context)


EXPORTED = (
    'at',
    'actor',
    'approved_by',
    'channel',
    'source',
    'action',
    'page',
    'label',
    'before',
    'after',
    'shredded_at',
)
"""Columns of an object's history as a file."""


def entry_context(entry: AuditEntry) -> dict[str, Any]:
    """What ``console/entry.html`` draws: the entry, its words and its changed fields."""
    return {
        'entry': entry,
        'action': action_text(entry),
        'channel': channel_text(entry),
        'place': place(entry),
        'changes': audit.changes(entry),
        'who': actor_text(entry),
        'source': source_text(entry),
    }
