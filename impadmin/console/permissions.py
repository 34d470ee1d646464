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
from impadmin.console.access import Grants, Right, may
from impadmin.console.page import BasePage, Text

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

    @property
    def some(self) -> list[Text]:
        """Its single commands that are ticked, when not all are."""
        ticked = [label for _, label, on in self.commands if on]
        return ticked if len(ticked) < len(self.commands) else []


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


NAMED = 8
"""So many pages are named; more are counted."""


def shown(who: Grants) -> SafeString:
    """What somebody may really do: in words, and page by page."""
    held = effective(who)
    found = [Section(one.title, [row for row in one.rows if f'{row.subject}:view' in held]) for one in sections(held)]
    context = {'overview': overview(who), 'sections': [one for one in found if one.rows], 'heads': ACTIONS.values()}
    return render_to_string('console/permissions_shown.html', context)


def effective(who: Grants) -> set[str]:
    """Every permission of a single page that the wider ones come to."""
    held = set()
    for page in registry.pages():
        actions = page.actions()
        allowed = [action for action in actions if may(who, page, action)]
        commands = [action for action in actions if action.startswith('do/')]
        held |= {f'{page.name}:{action}' for action in allowed}
        if commands and set(commands) <= set(allowed):
            held.add(f'{page.name}:do')
        if len(allowed) == len(actions):
            held.add(f'{page.name}:*')
    return held


def overview(who: Grants) -> list[tuple[Text, str]]:
    """(action, on which pages) in words: all, all but a few, a few, or how many."""
    found = []
    for action, label in ACTIONS.items():
        if action != '*':
            able = [page for page in registry.pages() if any(a.partition('/')[0] == action for a in page.actions())]
            missing = [page for page in able if not _acts(who, page, action)]
            found.append((label, _which(able, missing)))
    return found


def _acts(who: Grants, page: BasePage, action: str) -> bool:
    return any(may(who, page, one) for one in page.actions() if one.partition('/')[0] == action)


def _which(able: list[BasePage], missing: list[BasePage]) -> str:
    if not missing:
        return gettext('All pages')
    held = [page for page in able if page not in missing]
    if not held:
        return gettext('No page')
    without = _names(missing, able)
    few = without if len(without) <= len(_names(held, able)) else _names(held, able)
    if len(few) > NAMED:
        return gettext('%(count)d of %(all)d pages') % {'count': len(held), 'all': len(able)}
    names = gettext(', ').join(few)
    return gettext('All pages but %(names)s') % {'names': names} if few is without else names


def _names(pages: list[BasePage], able: list[BasePage]) -> list[str]:
    """The pages by name, whole groups by theirs."""
    names, left = [], list(pages)
    for right, title in RIGHTS.items():
        group = [page for page in able if page.right == right]
        if len(group) > 1 and all(page in left for page in group):
            names.append(gettext('%(name)s (group)') % {'name': title})
            left = [page for page in left if page not in group]
    return names + [str(page.title) for page in left]


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
