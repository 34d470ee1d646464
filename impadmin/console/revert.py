"""Taking a change back: the values of before are written again by the same ``do_*`` action, with all its rules.

Only the fields of the entry go back. What was added is deleted, what was deleted is added again (with a new key);
secrets were never recorded, so they stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext, gettext_lazy, ngettext

from impadmin.console import actions, audit, forms, registry
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import AuditEntry
from impadmin.console.page import Page, Result, SettingsPage

PARAMETERS = 'system.ParameterValue'


def do_revert(actor: Actor, entry: AuditEntry) -> Any:
    """Undo what ``entry`` says. Raises what the action raises, and Refused."""
    if reason := impossible(entry):
        raise Refused(str(reason))
    before, after = _mapping(entry.before), _mapping(entry.after)
    if entry.object_type == PARAMETERS:
        service, _, name = entry.object_id.partition(':')
        node = apps.get_model('system', 'Node').objects.filter(name=name).first() if name else None
        if name and node is None:
            raise Refused(gettext('The node %(name)s no longer exists.') % {'name': name})
        return actions.do_set_parameters(actor, service, node, before)
    page = _page(entry)
    assert page is not None
    if isinstance(page, SettingsPage):
        values = _values(page, before, _changed(before, after))
        return actions.do_update_settings(actor, page, values)
    if entry.action == 'delete':
        return actions.do_create(actor, page, _values(page, before, set(before)))
    obj = _object(page, entry)
    if entry.action == 'create':
        return actions.do_delete(actor, page, [obj])
    return actions.do_update(actor, page, obj, _values(page, before, _changed(before, after)))


def impossible(entry: AuditEntry) -> Any:
    """Why the entry cannot be taken back, whoever asks; '' when it may be possible."""
    if entry.shredded_at:
        return gettext_lazy('Personal values of this entry were shredded. It cannot be reverted.')
    if entry.action not in ('create', 'update', 'delete'):
        return gettext_lazy('Only what was added, changed or deleted can be reverted.')
    if entry.object_type == PARAMETERS:
        return ''
    page = _page(entry)
    if page is None:
        return gettext_lazy('Nothing of this page can be reverted.')
    if isinstance(page, SettingsPage):
        return ''
    verb = {'create': 'delete', 'update': 'edit', 'delete': 'add'}[entry.action]
    if verb not in page.verbs:
        return gettext_lazy('Nothing of this page can be reverted.')
    if entry.action != 'delete' and not _exists(page, entry):
        return gettext_lazy('The object was deleted since.')
    return ''


def question(objects: Sequence[Any]) -> str:
    """What the dialog asks; its impact preview shows the values."""
    entry: AuditEntry = objects[0]
    texts = {
        'create': gettext('%(name)s will be deleted.'),
        'delete': gettext('%(name)s will be added again.'),
    }
    return texts.get(entry.action, gettext('The values of before are saved again.')) % {'name': entry.object_label}


def run(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """The command of Diagnostics > History."""
    entry: AuditEntry = objects[0]
    result = do_revert(actor, entry)
    url = ''
    page = _page(entry)
    if isinstance(page, Page) and isinstance(result, models.Model):
        url = registry.page_url(page, 'edit', result.pk)
    elif page is not None:
        url = registry.page_url(page)
    count = len(_changed(_mapping(entry.before), _mapping(entry.after)))
    told = ngettext('%(n)s field was set back.', '%(n)s fields were set back.', count) % {'n': count}
    texts = {
        'create': gettext('%(name)s was deleted.') % {'name': entry.object_label},
        'delete': gettext('%(name)s was added again.') % {'name': entry.object_label},
    }
    return Result(texts.get(entry.action, told), url=url)


def _page(entry: AuditEntry) -> Page | SettingsPage | None:
    found = [
        page
        for page in registry.pages()
        if isinstance(page, Page | SettingsPage) and page.model._meta.label == entry.object_type
    ]
    return next((page for page in found if page.menu == entry.page), found[0] if len(found) == 1 else None)


def _exists(page: Page, entry: AuditEntry) -> bool:
    try:
        return page.model._default_manager.filter(pk=entry.object_id).exists()
    except (ValueError, ValidationError):
        return False


def _object(page: Page, entry: AuditEntry) -> Any:
    return page.model._default_manager.get(pk=entry.object_id)


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def _values(page: Page | SettingsPage, before: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Recorded values of these written fields as the writers take them; secrets were never recorded."""
    written = names & set(forms.editable_names(page))
    return restored(page, {name: before[name] for name in written & set(before) if before[name] != audit.HIDDEN})


def restored(page: Page | SettingsPage, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that were kept as JSON (``audit.plain``) as the writers take them; relations as objects."""
    found = dict(values)
    for name, value in values.items():
        field = forms.model_field(page.model, name)
        if isinstance(field, models.ManyToManyField):
            found[name] = [_related(field, one) for one in value]
        elif isinstance(field, models.ForeignKey) and isinstance(value, Mapping):
            found[name] = _related(field, value)
    return found


def _related(field: Any, value: Mapping[str, Any]) -> Any:
    found = field.related_model._default_manager.filter(pk=value['pk']).first()
    if found is None:
        raise Refused(
            gettext('%(field)s: %(name)s no longer exists.') % {'field': field.verbose_name, 'name': value['label']}
        )
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
