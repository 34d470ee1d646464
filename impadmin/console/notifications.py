"""Active Notifications: what must be restarted for saved changes to take effect, open alarms, and standing advice.

Nothing is stored: every answer compares the newest generation with the one each running service started with. So a
notification goes away by itself when the service restarts on that node, or when the value is set back.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Union

from django.db import connection, models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import Promise, lazy
from django.utils.text import format_lazy
from django.utils.translation import get_language, gettext, gettext_lazy
from django.views.decorators.http import require_POST

from engine.contract import messages
from engine.contract.config import Config, value_at
from engine.contract.restarts import Pending, pending
from engine.contract.services import BY_KEY, PRESENCE_ENGINE, XCP_ROUTER, parameter
from impadmin.console import audit, generations
from impadmin.console.access import Grants, grants_of, signed_in
from impadmin.console.models import ConfigGeneration

NOT_SET = 'DOMAIN.NOT.SET'
SEVERITIES = ('High', 'Medium', 'Low')
ALARM_SEVERITY = {'error': 'High', 'critical': 'High', 'alert': 'High', 'high': 'High', 'low': 'Low', 'info': 'Low'}
"""Alarm severity in lower case -> severity of its notification; everything else is Medium."""
ALARM_RESTARTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ('PEIDSQueryError', 'PEIDStoIMDBDatabaseSyncError', 'PEIDSSubscribeError', 'PEWebDAVInitializationFailure'),
        ('RST-R34', PRESENCE_ENGINE),
    ),
    **dict.fromkeys(
        (
            'XCPConfigMgrJabberRestartRequired',
            'XCPConfigMgrR2RPasswordEncryptionFailed',
            'XCPConfigMgrR2RRequestTimedOut',
            'XCPConfigMgrHostNameResolutionFailed',
        ),
        ('RST-R35', XCP_ROUTER),
    ),
}
"""Alarm -> (restart rule, service whose restart is recommended and clears the notification)."""
RECOMMENDED = gettext_lazy('A restart of this service is recommended. Nothing waits for it.')
_DISMISSED = 'dismissed_notifications'


@dataclass(frozen=True, slots=True)
class Notification:
    """One line of System > Notifications.

    key       stable identity: the same as long as the same thing is the matter
    kind      restart, alarm, approval or advice
    severity  High (a service misbehaves), Medium (a change is inactive), Low (advice)
    node      node name, '' for the whole cluster
    service   key of the service to restart, or ''
    page      menu path in English, e.g. ``Messaging > Settings``
    rule      id of the restart rule, e.g. ``RST-R10``
    text      what an alarm or advice says; '' for a restart, whose sentence is ``reason``
    paths     (configuration path, value in force, saved value) of a restart
    asks      (page name, action, who asked) of a request that waits for approval
    alarm     name of the alarm, without the service that may follow it
    """

    key: str
    kind: str
    severity: str
    node: str
    service: str
    page: str
    since: datetime
    rule: str = ''
    text: str | Promise = ''
    paths: tuple[tuple[str, Any, Any], ...] = ()
    asks: tuple[str, str, str] = ('', '', '')
    alarm: str = ''

    @property
    def service_name(self) -> str:
        """The product's name of the service in the active language."""
        return gettext(BY_KEY[self.service].name) if self.service in BY_KEY else self.service

    @property
    def place(self) -> str:
        """The menu path in the active language."""
        return ' > '.join(gettext(part) for part in self.page.split(' > ')) if self.page else ''

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """(field, value in force, saved value) in the active language."""
        return tuple((path_label(path), path_text(path, old), path_text(path, new)) for path, old, new in self.paths)

    @property
    def said(self) -> str:
        """What an alarm says below its name, or an advice."""
        head = gettext('%(alarm)s: %(text)s') % {'alarm': self.alarm, 'text': ''}
        return str(self.text).removeprefix(head) if self.alarm else str(self.text)

    @property
    def reason(self) -> str:
        """Page and fields, or what the alarm says."""
        if self.kind != 'restart':
            return str(self.text)
        names = gettext(', ').join(label for label, _, _ in self.changes)
        return gettext('%(page)s: %(fields)s') % {'page': self.place, 'fields': names}


# ---- what to show of a configuration path; the areas' models know, the compiler registers it

Shown = Union['models.Field[Any, Any]', Callable[[Any], str], None]
"""How values are shown: as a model field shows them, by a function, or as they are."""
LabelOf = Callable[[str], tuple[str, Shown]]
_labels: list[LabelOf] = []


def register_labels(function: LabelOf) -> LabelOf:
    """Make ``function`` the one that says how a configuration path is called and its values are shown."""
    _labels[:] = [function]
    return function


def _label_of(path: str) -> tuple[str, Shown]:
    if not _labels:
        importlib.import_module('impadmin.compile')
    return _labels[0](path)


def path_label(path: str) -> str:
    """What people call a configuration path."""
    return gettext(_label_of(path)[0])


def path_text(path: str, value: Any) -> str:
    """A value at a configuration path as people read it."""
    if path.startswith('parameters.'):
        _, service, name = path.split('.', 2)
        declared = parameter(service, name)
        value = declared.default if value is None else value
        return next((gettext(text) for key, text in declared.choices if key == value), audit.display(value))
    found = _label_of(path)[1]
    if callable(found):
        return found(value)
    if value is None:
        return gettext('No Limit')
    if found is not None:
        return audit.display(value, found.model, found.name)
    return audit.display(value)


# ---- the state of the cluster, in one query

_STATE = """
SELECT
  (SELECT json_build_array(number, (extract(epoch FROM created_at) * 1000000)::bigint)
     FROM config_generation ORDER BY number DESC LIMIT 1),
  (SELECT json_agg(json_build_array(
          n.name, s.service, s.generation, (extract(epoch FROM g.created_at) * 1000000)::bigint,
          extract(epoch FROM s.since)) ORDER BY n.id, s.id)
     FROM service_status s JOIN node n ON n.id = s.node_id JOIN config_generation g ON g.number = s.generation
    WHERE s.state IN ('Running', 'Starting') AND n.heartbeat_at > now() - interval '60 seconds'),
  (SELECT json_agg(json_build_array(a.id, a.name, n.name, a.severity, a.text, extract(epoch FROM a.raised_at))
          ORDER BY a.id)
     FROM alarm a LEFT JOIN node n ON n.id = a.node_id WHERE a.cleared_at IS NULL),
  (SELECT json_agg(json_build_array(id, page, action, requested_by, extract(epoch from requested_at)) ORDER BY id)
     FROM approval_request WHERE state = 'waiting' AND expires_at > now())
"""
"""A node not heard from for a minute runs nothing; when it comes back it starts with the newest generation."""
State = tuple[list[int], list[list[Any]], list[list[Any]], list[list[Any]]]
_cache: tuple[str, tuple[Notification, ...]] = ('', ())


def _state() -> State:
    with connection.cursor() as cursor:
        cursor.execute(_STATE)
        newest, services, alarms, requests = cursor.fetchone()
    return _list(newest), _list(services), _list(alarms), _list(requests)


def _list(value: Any) -> list[Any]:
    found: list[Any] = json.loads(value) if isinstance(value, str) else value or []
    return found


def running() -> list[tuple[str, str, Config]]:
    """(node name, service key, configuration it started with) of every service that runs."""
    return _running(_state()[1])


def _running(services: Iterable[list[Any]]) -> list[tuple[str, str, Config]]:
    return [
        (node, service, generations.stored(number, stamp))
        for node, service, number, stamp, _since in services
        if service in BY_KEY
    ]


def active() -> list[Notification]:
    """All active notifications, whoever may see them, the most severe first. One query, as long as nothing changed."""
    global _cache
    state = _state()
    mark = json.dumps(state, ensure_ascii=False)
    if _cache[0] != mark:
        _cache = (mark, tuple(sorted(_find(state), key=_order)))
    return list(_cache[1])


def readable(found: Iterable[Notification], who: Grants, name: str = '') -> list[Notification]:
    """Those for ``who``, called ``name``: of pages he may open, and requests that he may approve."""
    from impadmin.console import approvals, visibility

    everywhere, menus = visibility.sees_all(who), visibility.menus(who)

    def is_for(one: Notification) -> bool:
        if one.kind == 'approval':
            return approvals.decides(who, name, *one.asks)
        return everywhere or not one.page or one.page in menus

    return [one for one in found if is_for(one)]


def of(request: HttpRequest) -> list[Notification]:
    """The active notifications that this reader sees."""
    return readable(active(), grants_of(request), str(getattr(request.user, 'username', '')))


def _order(one: Notification) -> tuple[Any, ...]:
    return SEVERITIES.index(one.severity), one.page, one.rule, one.node, one.service, one.key


Advice = Callable[[Config], Iterable[Notification]]
_advice_of: list[Advice] = []


def register_advice(function: Advice) -> Advice:
    """Have ``function(newest configuration)`` asked for standing advice, whenever the configuration has changed."""
    _advice_of.append(function)
    return function


def _find(state: State) -> list[Notification]:
    newest_key, services, alarms, requests = state
    found = _alarms(services, alarms) + _approvals(requests)
    if newest_key:
        newest = generations.stored(*newest_key)
        found += _restarts(newest, services)
        if newest.default_domain == NOT_SET:
            found.append(_advice())
        found += [one for advice in _advice_of for one in advice(newest)]
    return found


def _restarts(newest: Config, services: list[list[Any]]) -> list[Notification]:
    runs = _running(services)
    started = {(node, service): config for node, service, config in runs}
    grouped: dict[tuple[str, str, str], list[Pending]] = {}
    for one in pending(newest, runs):
        grouped.setdefault((one.node, one.service, one.rule.page), []).append(one)
    since = _since([one for group in grouped.values() for one in group], started, newest.generation)
    return [
        Notification(
            key=f'restart:{node}:{service}:{page}',
            kind='advice' if group[0].rule.advice else 'restart',
            severity=min((one.rule.severity for one in group), key=SEVERITIES.index),
            node=node,
            service=service,
            page=page,
            since=min(since[one.node, one.service, one.path] for one in group),
            rule=group[0].rule.id,
            text=RECOMMENDED if group[0].rule.advice else '',
            paths=tuple((one.path, one.old, one.new) for one in group),
        )
        for (node, service, page), group in grouped.items()
    ]


def _since(
    found: list[Pending], started: dict[tuple[str, str], Config], newest: int
) -> dict[tuple[str, str, str], datetime]:
    """When each value began to differ from the one in force: the first generation of the unbroken run up to now."""
    result: dict[tuple[str, str, str], datetime] = {}
    open_runs = {(one.node, one.service, one.path): one.old for one in found}
    if not open_runs:
        return result
    first = min(started[node, service].generation for node, service, _ in open_runs)
    rows = ConfigGeneration.objects.filter(number__gt=first, number__lte=newest).order_by('-number')
    for number, created_at in rows.values_list('number', 'created_at').iterator(chunk_size=100):
        config = generations.stored(number, generations.stamp_of(created_at))
        for key, old in list(open_runs.items()):
            if value_at(config, key[2], key[0]) == old:
                del open_runs[key]
            else:
                result[key] = created_at
        if not open_runs:
            break
    return result


def _alarms(services: list[list[Any]], alarms: list[list[Any]]) -> list[Notification]:
    restarted = {(node, service): since for node, service, _number, _stamp, since in services}
    found = []
    for key, name, node, severity, text, raised in alarms:
        rule, service = ALARM_RESTARTS.get(name, ('', ''))
        if service and float(restarted.get((node, service), 0)) > float(raised):
            continue  # the recommended restart has happened
        found.append(
            Notification(
                key=f'alarm:{key}',
                kind='alarm',
                severity=ALARM_SEVERITY.get(str(severity).lower(), 'Medium'),
                node=node or '',
                service=service,
                page='',
                since=datetime.fromtimestamp(float(raised), UTC),
                rule=rule,
                text=_alarm_text(name, text),
                alarm=name.partition(':')[0],
            )
        )
    return found


def _approvals(requests: list[list[Any]]) -> list[Notification]:
    return [
        Notification(
            key=f'approval:{key}',
            kind='approval',
            severity='Medium',
            node='',
            service='',
            page='System > Security > Pending Approvals',
            since=datetime.fromtimestamp(float(at), UTC),
            text=format_lazy(gettext_lazy('{name} waits for approval (request {id}).'), name=name, id=key),
            asks=(page, action, name),
        )
        for key, page, action, name, at in requests
    ]


def _alarm(name: str, text: str) -> str:
    alarm = name.partition(':')[0]  # what follows is the service, which the text names too
    return gettext('%(alarm)s: %(text)s') % {'alarm': alarm, 'text': messages.decode(text, gettext)} if text else alarm


_alarm_text = lazy(_alarm, str)
"""Rendered when it is shown: the list is kept for readers of every language."""


def _advice() -> Notification:
    first = (
        ConfigGeneration.objects.filter(document__contains=f'"default_domain":"{NOT_SET}"')
        .order_by('number')
        .values_list('created_at', flat=True)
        .first()
    )
    return Notification(
        key='advice:default-domain',
        kind='advice',
        severity='High',
        node='',
        service='',
        page='Presence > Settings > Advanced Configuration',
        since=first or datetime.now(UTC),
        text=gettext_lazy('The default domain is not set. Users have no valid IM address until you set it.'),
    )


def as_json(request: HttpRequest) -> dict[str, Any]:
    """``{"count": n, "results": [...]}`` for ``GET /api/v1/notifications/``; the same as the page shows."""
    found = of(request)
    return {
        'count': len(found),
        'results': [
            {
                'kind': one.kind,
                'severity': one.severity,
                'node': one.node,
                'service': one.service,
                'service_name': one.service_name,
                'reason': one.reason,
                'page': one.page,
                'rule': one.rule,
                'since': one.since.isoformat(),
                'changes': [{'field': f, 'in_force': old, 'saved': new} for f, old, new in one.changes],
            }
            for one in found
        ],
        'language': get_language() or '',
    }


# ---- the pop-up: dismissed per browser session


def _token(one: Notification) -> str:
    return hashlib.sha256(f'{one.key} {one.since.isoformat()}'.encode()).hexdigest()[:16]


def unseen(request: HttpRequest) -> list[Notification]:
    """Those this browser session has not dismissed: the pop-up shows them."""
    dismissed = set(request.session.get(_DISMISSED, ()))
    return [one for one in of(request) if _token(one) not in dismissed]


def dismiss(request: HttpRequest) -> None:
    """Do not show the present ones again in this browser session. They stay in the header and on the page."""
    request.session[_DISMISSED] = [_token(one) for one in of(request)]


@signed_in
@require_POST
def dismiss_view(request: HttpRequest) -> HttpResponse:
    """Close the pop-up: 204 for scripts, back to the page without one."""
    from impadmin.console.preferences import local_url

    dismiss(request)
    if request.headers.get('HX-Request') == 'true' or request.headers.get('X-Requested-With'):
        return HttpResponse(status=204)
    return HttpResponseRedirect(local_url(request, request.POST.get('next', '/')))
