"""Requests that wait for approval: what they would do now, approve, reject, withdraw, expire.

A request keeps how to do its action (``call``), written by the writers in ``actions.py``:
``do``  update (pk, values), settings (values), delete and changes (rows), command (keys, values), bulk (kind, keys,
values), rows (rows, atomic), import (upload, options, digest), parameters (service, node, values), apply (document,
prune). On approval it is done anew, by its requester, with the approver named beside him in the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import actions, audit, foureyes, registry, revert, roles
from impadmin.console.access import EVERYTHING, Grants, may
from impadmin.console.actions import Actor, Change, Preview, Refused
from impadmin.console.models import Administrator, ApprovalRequest, RequestState
from impadmin.console.page import Page, Result, SettingsPage
from impadmin.console.rehearsal import Done, transact

APPLY = foureyes.APPLY
WORDS = {
    'change': gettext_lazy('Change'),
    'delete': gettext_lazy('Delete'),
    APPLY: gettext_lazy('Apply configuration'),
}
"""Actions that are no command of their page."""


def describe(request: ApprovalRequest) -> str:
    """The request in one line, in the active language."""
    if request.action == APPLY:
        return str(WORDS[APPLY])
    try:
        page: Any = registry.page(request.page)
    except KeyError:
        return f'{request.action}: {request.title}'
    name = request.action.removeprefix('do/')
    found = next((command.label for command in getattr(page, 'commands', ()) if command.name == name), None)
    place = ' > '.join(gettext(part) for part in page.menu.split(' > '))
    parts = (str(WORDS.get(request.action) or found or name), place, request.title)
    return ': '.join(part for part in parts if part)


# ---- doing it


def requester(request: ApprovalRequest, approver: Actor | None = None) -> Actor:
    """Who asked, with what he may do now; on approval with what the approver (his token) may, too. Raises Refused when
    he is gone."""
    allowed = EVERYTHING
    if request.channel != 'cli':
        user = Administrator.objects.filter(username=request.requested_by, is_active=True).first()
        if user is None:
            raise Refused(gettext('%(name)s is no longer active.') % {'name': request.requested_by})
        allowed = user.grants
    if approver is not None:
        allowed = allowed.limited_to(approver.grants)
    name = approver.name if approver is not None else ''
    return Actor(request.requested_by, allowed, request.source, request.channel, name)


def perform(request: ApprovalRequest, actor: Actor, dry_run: bool) -> Any:
    """Do what was requested, as ``actor``; or its Preview. Raises what the action raises."""
    call = request.call
    if call['do'] == APPLY:
        return _apply(actor, call, dry_run)
    page: Any = _page(request.page)
    if call['do'] == 'parameters':
        node = apps.get_model('system', 'Node').objects.filter(name=call['node']).first()
        return actions.do_set_parameters(actor, call['service'], node, call['values'], dry_run=dry_run)
    if call['do'] == 'settings':
        return actions.do_update_settings(actor, page, revert.restored(page, call['values']), dry_run=dry_run)
    if call['do'] == 'update':
        (obj,) = _objects(page, [call['pk']])
        return actions.do_update(actor, page, obj, revert.restored(page, call['values']), dry_run=dry_run)
    if call['do'] == 'delete':
        return actions.do_delete(actor, page, _objects(page, [row['pk'] for row in call['rows']]), dry_run=dry_run)
    if call['do'] == 'changes':
        return actions.do_changes(actor, page, _changes(page, call['rows']), dry_run=dry_run)
    if call['do'] in ('bulk', 'rows', 'import'):
        outcome = _many(actor, page, call, dry_run)
        return outcome.preview if dry_run else outcome
    return _command(request, actor, page, dry_run)


def _command(request: ApprovalRequest, actor: Actor, page: Any, dry_run: bool) -> Any:
    name = request.action.removeprefix('do/')
    command = next((one for one in getattr(page, 'commands', ()) if one.name == name), None)
    if command is None:
        raise Refused(gettext('There is no such action any more.'))
    data = request.call['values']
    if command.form is not None:
        form = command.form(data)
        if not form.is_valid():
            raise ValidationError(dict(form.errors.as_data()))
        data = form.cleaned_data
    objs = _objects(page, request.call['keys']) if request.call['keys'] else []
    return actions.do_command(actor, page, command, objs, data, dry_run=dry_run)


def _many(actor: Actor, page: Any, call: Mapping[str, Any], dry_run: bool) -> Any:
    """What is done by a job when it is more than a few rows."""
    from impadmin.console import api_bulk, bulkwork, imports

    if call['do'] == 'bulk':
        return bulkwork.rows(actor, page, call['kind'], call['keys'], call['values'], dry_run)
    if call['do'] == 'rows':
        return api_bulk.again(actor, page, call, dry_run)
    return imports.again(actor, page, call, dry_run)


def _apply(actor: Actor, call: Mapping[str, Any], dry_run: bool) -> Any:
    from impadmin.console import configuration

    plan = configuration.apply(actor, call['document'], prune=call['prune'], dry_run=dry_run)
    if plan.problems:
        raise Refused(' '.join(plan.problems))
    return configuration.as_preview(plan) if dry_run else plan


def _page(name: str) -> Any:
    try:
        return registry.page(name)
    except KeyError:
        raise Refused(gettext('There is no such page any more.')) from None


def _objects(page: Page | SettingsPage, keys: Sequence[Any]) -> list[Any]:
    found = {str(obj.pk): obj for obj in page.model._default_manager.filter(pk__in=keys)}
    if missing := [str(key) for key in keys if str(key) not in found]:
        raise Refused(gettext('Some of it was deleted in the meantime: %(keys)s.') % {'keys': ', '.join(missing[:5])})
    return [found[str(key)] for key in keys]


def _changes(page: Page, rows: Sequence[Mapping[str, Any]]) -> list[Change]:
    found = {str(obj.pk): obj for obj in _objects(page, [row['pk'] for row in rows if row['pk'] is not None])}
    return [
        Change(row['action'], revert.restored(page, row['values']), found.get(str(row['pk'])), row['name'])
        for row in rows
    ]


# ---- looking at it


def current(request: ApprovalRequest, approver: Actor | None = None) -> tuple[Preview | None, str]:
    """(what it would do now, or None; why it would be refused, or '')."""
    try:
        found: Preview = perform(request, requester(request, approver), dry_run=True)
    except (Refused, PermissionDenied) as error:
        return None, str(error)
    except ValidationError as error:
        return None, ' '.join(error.messages)
    return found, ''


COMPARED = ('changes', 'objects', 'refused', 'not_tried')
"""Parts of a preview that say what is done; how many notice it, and what runs meanwhile, may differ."""


def differs(request: ApprovalRequest, approver: Actor | None = None) -> bool:
    """Whether it would now do something else than when it was requested. Compared in one language."""
    with foureyes.compared():
        found, _ = current(request, approver)
    if found is None:
        return approver is None  # doing it then says why not
    now = found.as_json()
    return any(now[name] != request.preview[name] for name in COMPARED)


def overview(request: ApprovalRequest) -> dict[str, Any]:
    """What the page of a request draws."""
    waiting = request.state == RequestState.WAITING
    found, problem = current(request) if waiting else (None, '')
    return {
        'title': describe(request),
        'waiting': waiting,
        'requested': Preview.of_json(request.preview),
        'current': found,
        'problem': problem,
        'differs': waiting and not problem and differs(request),
        'deletes': request.action == 'delete',
    }


def state(request: ApprovalRequest) -> tuple[str, str]:
    """(mark, word)."""
    marks = {'waiting': 'busy', 'approved': 'ok', 'rejected': 'bad'}
    return marks.get(request.state, 'off'), request.get_state_display()


def question(objects: Sequence[Any]) -> str:
    """What the dialog of Approve says."""
    request: ApprovalRequest = objects[0]
    lines = [describe(request), gettext('Requested by %(name)s.') % {'name': request.requested_by}]
    if cannot_decide(request):
        return lines[0]
    _, problem = current(request)
    if problem:
        lines.append(gettext('It would be refused now: %(reason)s') % {'reason': problem})
    elif differs(request):
        lines.append(gettext('It would do something else now than when it was requested.'))
    return '\n'.join(lines)


def only_what_can_wait(settings: Any, before: Any) -> None:
    """Looking and adding never wait."""
    if wrong := [one for one in settings.permissions if one.partition(':')[2] in ('view', 'add')]:
        text = gettext('Looking and adding never wait for approval: %(names)s.')
        raise ValidationError({'permissions': text % {'names': ', '.join(wrong[:5])}})


# ---- deciding


class ApproveForm(forms.Form):
    """A word on why, and the consent to another effect."""

    reason = forms.CharField(label=gettext_lazy('Reason'), required=False, max_length=400)
    accept_changes = forms.BooleanField(
        label=gettext_lazy('Approve what it would do now'),
        required=False,
        help_text=gettext_lazy('Needed when it would do something else than when it was requested.'),
    )


class RejectForm(forms.Form):
    """Why not."""

    reason = forms.CharField(label=gettext_lazy('Reason'), max_length=400)


def cannot_decide(request: ApprovalRequest) -> Any:
    """Why a request can be decided no more, or ''."""
    if request.state != RequestState.WAITING:
        return gettext_lazy('The request is closed.')
    return gettext_lazy('The request has expired.') if request.expires_at <= timezone.now() else ''


def _held(request: ApprovalRequest) -> ApprovalRequest:
    held = ApprovalRequest.objects.select_for_update().get(pk=request.pk)
    if reason := cannot_decide(held):
        raise Refused(str(reason))
    return held


def decides(who: Grants, name: str, page: str, action: str, requested_by: str) -> bool:
    """Whether ``who``, called ``name``, may approve or reject such a request: one he may do himself, not his own."""
    if name == requested_by or not may(who, registry.page(foureyes.REQUESTS_PAGE), 'do/approve'):
        return False
    if action == APPLY:
        return not roles.beyond(who, EVERYTHING)
    try:
        return may(who, registry.page(page), action)
    except KeyError:
        return False


def _decider(actor: Actor, request: ApprovalRequest) -> None:
    if actor.name == request.requested_by:
        raise Refused(gettext('You cannot decide on your own request. Ask another administrator.'))
    if request.action == APPLY:
        roles.require_covered(actor.grants, EVERYTHING)
    elif not may(actor.grants, _page(request.page), request.action):
        raise PermissionDenied(gettext('Only who may do this himself can decide on it.'))


def _close(request: ApprovalRequest, actor: Actor, state: RequestState, reason: str) -> None:
    from engine.contract.events import NotificationsLive
    from impadmin.console import generations

    if request.call.get('do') == 'import' and state != RequestState.APPROVED:
        upload = request.call['upload']['token']
        transaction.on_commit(lambda: _forget(upload))
    request.state, request.decided_by, request.decided_at = state, actor.name, timezone.now()
    request.reason, request.call = reason, {}
    request.save()
    generations.publish(NotificationsLive())


def _forget(upload: str) -> None:
    from impadmin.console import imports

    imports.forget(upload)


def approve(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Do what was requested, now. What the approver may not do himself is refused."""
    request = _held(objects[0])
    _decider(actor, request)
    if not data.get('accept_changes') and differs(request, actor):
        text = gettext('It would do something else now than when it was requested. Look at it, then tick this.')
        raise ValidationError({'accept_changes': text})
    done = perform(request, requester(request, actor), dry_run=False)
    _close(request, actor, RequestState.APPROVED, data.get('reason') or '')
    told = str(done.message) if isinstance(done, Result) and done.message else ''
    if (job := getattr(done, 'job', None)) is not None:
        told = gettext('Job %(id)s was submitted.') % {'id': job.pk}
    return Result(gettext('%(title)s: done.') % {'title': describe(request)} + (f' {told}' if told else ''))


def reject(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Close a request without doing it."""
    request = _held(objects[0])
    _decider(actor, request)
    _close(request, actor, RequestState.REJECTED, data['reason'])
    return Result(gettext('The request was rejected.'))


def withdraw(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """The requester takes it back."""
    request = _held(objects[0])
    if actor.name != request.requested_by:
        raise Refused(gettext('Only who asked can withdraw a request.'))
    _close(request, actor, RequestState.WITHDRAWN, '')
    return Result(gettext('The request was withdrawn.'))


def own(name: str) -> QuerySet[ApprovalRequest]:
    """What waits for others because ``name`` asked for it."""
    return ApprovalRequest.objects.filter(requested_by=name, state=RequestState.WAITING).order_by('pk')


def do_withdraw_own(actor: Actor, request: ApprovalRequest) -> Result:
    """Withdraw, whatever pages the requester may open, with its audit entry."""
    with transaction.atomic():
        done = withdraw(actor, [request], {})
        page = registry.page(foureyes.REQUESTS_PAGE)
        audit.record(actor, 'withdraw', page, request, None, None, menu=request.place)
    return done


def expire() -> int:
    """Close requests whose time is over; returns how many."""

    def work() -> Done:
        late = ApprovalRequest.objects.select_for_update().filter(
            state=RequestState.WAITING, expires_at__lte=timezone.now()
        )
        for request in late:
            _close(request, actions.SYSTEM, RequestState.EXPIRED, '')
            page = registry.page(foureyes.REQUESTS_PAGE)
            audit.record(actions.SYSTEM, 'expire', page, request, None, None, menu=request.place)
        return Done(len(late))

    count: int = transact(work, configures=False, dry_run=False)
    return count
