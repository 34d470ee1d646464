"""Four eyes: actions that wait for the approval of a second administrator.

``ApprovalSettings.permissions`` says which. Every writer asks ``hold`` before it begins: it rehearses the action, keeps
it as a request with its preview and raises Waiting (REST: 202). ``approvals.py`` shows the requests and does them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.db import connection
from django.utils import timezone, translation
from django.utils.translation import gettext

from impadmin.console import audit, generations
from impadmin.console.access import implies

if TYPE_CHECKING:
    from impadmin.console.actions import Actor
    from impadmin.console.models import ApprovalRequest
    from impadmin.console.page import BasePage, Command
    from impadmin.console.rehearsal import Change, Preview

SETTINGS_PAGE = 'approval-settings'
REQUESTS_PAGE = 'pending-approvals'
APPLY = 'apply'
"""The action of a whole configuration."""
MOST = 10_000
"""Most objects of one request."""


class Waiting(Exception):
    """The action was not done: it waits as ``request`` for another administrator. REST: 202 with its Location."""

    def __init__(self, request: ApprovalRequest) -> None:
        super().__init__(request)
        self.request = request

    def __str__(self) -> str:
        return gettext('It waits for the approval of another administrator (request %(id)s).') % {
            'id': self.request.pk or ''
        }

    def keep(self) -> None:
        """Store the request, once no transaction is left that would take it back."""
        from engine.contract.events import NotificationsLive

        if self.request.pk is None:
            self.request.save()
            generations.publish(NotificationsLive())

    @property
    def url(self) -> str:
        """Where the request is in REST."""
        return f'/api/v1/{REQUESTS_PAGE}/{self.request.pk}/'


def compared() -> translation.override:
    """Previews are made in one language where they are compared, whatever the languages of the two administrators."""
    return translation.override('en')


def waits(actor: Actor, page: BasePage, action: str) -> bool:
    """Whether ``action`` of ``actor`` on ``page`` needs a second administrator now."""
    from impadmin.console.models import ApprovalSettings

    if actor.approved_by or actor.channel == 'system' or audit.rehearsed.get() is not None or action == 'add':
        return False
    guarded = ApprovalSettings.objects.filter(pk=1).values_list('permissions', flat=True).first() or []
    if not guarded or page.name == REQUESTS_PAGE:
        return False
    wanted = f'{page.name}:{action}'
    return page.name == SETTINGS_PAGE or any(implies(held, wanted, page) for held in guarded)


def hold(
    actor: Actor,
    page: BasePage,
    action: str,
    call: Callable[[], dict[str, Any]],
    rehearse: Callable[[], Preview],
    names: str = '',
    menu: str = '',
) -> None:
    """Raise Waiting when the action needs approval. ``call``: how to do it later (see approvals.py); ``rehearse``: its
    preview, which raises what the action would raise; ``names``: the objects it is about; ``menu``: see ``place``."""
    if not waits(actor, page, action):
        return
    if actor.channel == 'job':
        from impadmin.console.rehearsal import Refused

        raise Refused(gettext('It needs approval, and a job cannot wait for it. Do it in smaller parts.'))
    with compared():
        preview = rehearse()
    raise waiting(actor, page.name, action, call(), preview, names, menu or page.menu)


def waiting(
    actor: Actor, page: str, action: str, call: dict[str, Any], preview: Preview, names: str = '', menu: str = ''
) -> Waiting:
    """A request that waits, as the exception to raise; stored already unless a transaction is still open. Without
    ``menu`` only who may open every page sees it."""
    from impadmin.console.models import ApprovalRequest, ApprovalSettings

    hours = ApprovalSettings.objects.values_list('hours', flat=True).get(pk=1)
    found = Waiting(
        ApprovalRequest(
            title=names[:400],
            page=page,
            place=menu[:200],
            action=action,
            call=call,
            preview=preview.as_json(),
            requested_by=actor.name,
            source=actor.source[:64],
            channel=actor.channel[:20],
            expires_at=timezone.now() + timedelta(hours=hours),
        )
    )
    if not connection.in_atomic_block:
        found.keep()
    return found


# ---- what a request keeps of an action


def values_of(page: BasePage, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a writer as JSON. Raises Refused for secrets: they are not stored to wait."""
    extra = getattr(page, 'extra', {})
    for name, value in values.items():
        widget = extra[name](None).widget if name in extra else None
        refuse_secret(name, value, widget)
    return {name: audit.plain(value) for name, value in values.items()}


def refuse_secret(name: str, value: Any, widget: Any = None) -> None:
    """Raise Refused when ``value`` is a secret or a file."""
    from impadmin.console.rehearsal import Refused

    if value and (isinstance(widget, forms.PasswordInput) or name in audit.SECRET or hasattr(value, 'chunks')):
        raise Refused(gettext('This action waits for approval, and secrets and files cannot wait. Leave them out.'))


def changes_of(page: BasePage, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Several changes as JSON. Raises Refused beyond MOST."""
    from impadmin.console.rehearsal import Refused

    if len(changes) > MOST:
        raise Refused(gettext('At most %(most)s objects can wait for approval at once.') % {'most': MOST})
    return [
        {
            'action': one.action,
            'pk': None if one.obj is None else audit.plain(one.obj.pk),
            'values': values_of(page, one.values),
            'name': one.name,
        }
        for one in changes
    ]


def form_values(command: Command, data: Mapping[str, Any]) -> dict[str, Any]:
    """Cleaned values of a command's form as it would take them again."""
    declared = command.form.base_fields if command.form is not None else {}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name in declared:
            refuse_secret(name, value, declared[name].widget)
            value = declared[name].prepare_value(value)
        found[name] = audit.plain(value)
    return found


def document(value: Any, name: str = '') -> Any:
    """A configuration as it can wait. Raises Refused for a secret that is not a reference."""
    if isinstance(value, Mapping):
        return {key: document(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [document(one, name) for one in value]
    refuse_secret(name, value)
    return value


def place(page: BasePage, objs: Sequence[Any]) -> str:
    """Menu path of the page that an action on ``objs`` is about: who may open that one sees the action."""
    about = getattr(page, 'about', None)
    return str(about(objs[0])) if about and objs else page.menu


def named(objs: Sequence[Any]) -> str:
    """The objects of an action, the first ones by name."""
    text = gettext(', ').join(str(obj) for obj in objs[:5])
    return text if len(objs) <= 5 else f'{text} …'
