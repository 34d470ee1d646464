"""The form field of a role's permissions: a table of pages and actions, with rows for groups of pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import navigation, registry, roles
from impadmin.console.access import Right
from impadmin.console.page import Text

ACTIONS: dict[str, Text] = {
    'view': gettext_lazy('View'),
    'add': gettext_lazy('Add'),
    'change': gettext_lazy('Change'),
    'delete': gettext_lazy('Delete'),
    'do': gettext_lazy('Commands'),
    '*': gettext_lazy('Everything'),
}
RIGHTS: dict[str, Text] = {
    Right.CONFIGURATION: gettext_lazy('Configuration'),
    Right.USERS: gettext_lazy('Users'),
    Right.SERVICES: gettext_lazy('Services'),
    Right.BULK: gettext_lazy('Bulk administration'),
    Right.MONITOR: gettext_lazy('Monitoring'),
    Right.ADMINISTRATORS: gettext_lazy('Administrators'),
}

AREAS: dict[str, Text] = {
    'bulkadmin': gettext_lazy('Bulk Administration'),
    'diagnostics': gettext_lazy('Diagnostics'),
    'messaging': gettext_lazy('Messaging'),
    'presence': gettext_lazy('Presence'),
    'serviceability': gettext_lazy('Serviceability'),
    'signin': gettext_lazy('Signing in'),
    'system': gettext_lazy('System'),
    'system-reports': gettext_lazy('System Reports'),
    'ucm': gettext_lazy('User Management'),
    'webhooks': gettext_lazy('Webhooks'),
}
"""What the groups of pages are called that a permission ``area.NAME`` covers."""


@dataclass(slots=True)
class Row:
    """A subject with one box per column (None: not possible there) and the boxes of its single commands."""

    subject: str
    title: Text
    boxes: list[tuple[str, Text, bool] | None]
    commands: list[tuple[str, Text, bool]]


@dataclass(slots=True)
class Section:
    """Rows below one heading."""

    title: str
    rows: list[Row]

    @property
    def chosen(self) -> int:
        """How many of its boxes are ticked."""
        return sum(on for row in self.rows for _, _, on in [*filter(None, row.boxes), *row.commands])


def sections(chosen: Iterable[str]) -> list[Section]:
    """Everything that can be granted: groups of pages first, then each page in its menu."""
    held = set(chosen)
    wide = [_row('*', gettext('All pages'), roles.WHOLE_ACTIONS, (), held)]
    wide += [_row(f'right.{right}', title, roles.WHOLE_ACTIONS, (), held) for right, title in RIGHTS.items()]
    areas: set[str] = set()
    found = {'': Section(gettext('Groups of pages, those of later versions included'), wide)}
    for page in sorted(registry.pages(), key=lambda page: list(navigation.CONSOLES).index(page.console)):
        head = navigation.menu_parts(page)[0]
        key = f'{page.console} {head}'
        if key not in found:
            found[key] = Section(f'{navigation.CONSOLES[page.console].title}: {gettext(head)}', [])
        if page.area not in areas:
            areas.add(page.area)
            title = gettext('All pages of %(name)s') % {'name': AREAS.get(page.area, page.area)}
            found[key].rows.append(_row(f'area.{page.area}', title, roles.WHOLE_ACTIONS, (), held))
        commands = [(command.name, command.label) for command in getattr(page, 'commands', ())]
        actions = [*page.actions(), *(['do'] if commands else []), '*']
        title = ' > '.join(gettext(part) for part in navigation.menu_parts(page)[1:]) or gettext(head)
        found[key].rows.append(_row(page.name, title, actions, commands, held))
    return list(found.values())


def label(permission: str) -> str:
    """A permission in words, e.g. *End User: View*; as it is, when this version does not know it."""
    subject, _, action = permission.partition(':')
    page = next((page for page in registry.pages() if page.name == subject), None)
    kind, _, name = subject.partition('.')
    if page is not None:
        where: Text = navigation.menu_path(page).rpartition(' > ')[2]
        does = next((c.label for c in getattr(page, 'commands', ()) if f'do/{c.name}' == action), ACTIONS.get(action))
    else:
        where = gettext('All pages') if subject == '*' else {'area': AREAS, 'right': RIGHTS}.get(kind, {}).get(name, '')
        does = ACTIONS.get(action)
    return gettext('%(page)s: %(action)s') % {'page': where, 'action': does} if where and does else permission


def labels(permissions: Iterable[str]) -> str:
    """Permissions in words, in one line."""
    return gettext(', ').join(map(label, permissions)) or '–'


def _row(
    subject: str, title: Text, actions: Iterable[str], commands: Iterable[tuple[str, Text]], held: set[str]
) -> Row:
    possible = set(actions)
    boxes = [
        (f'{subject}:{action}', label, f'{subject}:{action}' in held) if action in possible else None
        for action, label in ACTIONS.items()
    ]
    singles = [(f'{subject}:do/{name}', label, f'{subject}:do/{name}' in held) for name, label in commands]
    return Row(subject, title, boxes, singles)


class PermissionsWidget(forms.SelectMultiple):
    """Boxes in a table, one per permission; without scripts an ordinary form."""

    kind = 'table'

    def render(self, name: str, value: Any, attrs: Mapping[str, Any] | None = None, renderer: Any = None) -> SafeString:
        """The table."""
        context = {
            'name': name,
            'attrs': {**self.attrs, **(attrs or {})},
            'sections': sections(value if isinstance(value, list) else []),
            'initial': str(self.attrs.get('data-initial', '')).split(','),
            'heads': ACTIONS.values(),
        }
        return render_to_string('console/permissions.html', context)


class PermissionsField(forms.MultipleChoiceField):
    """Chosen permissions; what cannot be granted is refused by the model's validator."""

    widget = PermissionsWidget

    def valid_value(self, value: str) -> bool:
        """Anything here: ``roles.check_permissions`` says what is wrong with it."""
        return True

    def clean(self, value: Any) -> list[str]:
        """In a steady order, so that the same choice is the same value."""
        chosen: list[str] = sorted(set(super().clean(value)))
        roles.check_permissions(chosen)
        return chosen

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as sets."""
        return set(initial or ()) != set(data or ())
