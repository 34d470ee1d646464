"""What the cards of System Dashboard read. No query grows beyond one scan of the users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.utils.translation import gettext as _

from engine.contract.messages import decode
from engine.contract.services import BY_KEY, SYNC_AGENT, State
from impadmin.console import context, diagnosis, flows, historyview, jobs, notifications, visibility
from impadmin.console.dashboard import Shown
from impadmin.console.models import AuditEntry, Job, JobState
from impadmin.console.pace import pace
from impadmin.console.templatetags.jobs import MARKS as JOB_MARKS
from impadmin.diagnostics import samples
from impadmin.diagnostics.facts import active, certificates, cluster, days_left
from impadmin.diagnostics.flows import FIRST_SET_UP
from impadmin.system.assigned import NOBODY, by_node
from impadmin.system.models import Node
from impadmin.system.state import MARKS, in_contact, node_state
from impadmin.ucm.models import EndUser

CERTIFICATE_DAYS = 60
MOST = 5
"""Jobs and changes shown."""
MANY = 100_000
"""Waiting messages are counted up to here."""
EXPLAINED = ('sessions', 'users_online', 'messages_per_second', 'logins_per_minute', 'queued_writes')
"""Values of a node's load with a chart of their own."""

_histories: dict[int, Callable[[], samples.History]] = {}


def history(shown: Shown) -> samples.History:
    """Samples of the span, asked for once."""
    return shown.facts(_histories.setdefault(shown.span, partial(samples.history, shown.span)))


def contacts() -> int:
    """All contacts of all users."""
    return int(EndUser.objects.aggregate(all=Sum('contact_count', default=0))['all'])


def waiting_messages() -> int:
    """Messages that wait for users who are not signed in, counted up to MANY."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT count(*) FROM (SELECT FROM offline_message LIMIT %s) AS found', [MANY])
        return int(cursor.fetchone()[0])


def setup(shown: Shown) -> dict[str, Any]:
    """How far the first set-up is; ``left`` steps."""
    steps = flows.look(FIRST_SET_UP, flows.open_run(FIRST_SET_UP), shown.facts)
    done = sum(now.status == 'done' for now in steps)
    return {
        'title': str(FIRST_SET_UP.title),
        'done': done,
        'total': len(steps),
        'left': len(steps) - done,
        'next': next((str(now.step.title) for now in steps if now.status == 'next'), ''),
    }


def attention(shown: Shown) -> dict[str, Any]:
    """What needs somebody, the worst first."""
    return {
        'problems': [
            {
                'mark': 'warn' if problem.warning else 'bad',
                'text': str(problem.text),
                'solution': str(problem.solution),
                'since': problem.since,
                'url': url,
                'page': str(title),
            }
            for result, problem in shown.facts.about(diagnosis.attention)
            for url, title in (result.link(problem, shown.who),)
        ]
    }


def nodes(shown: Shown) -> dict[str, Any]:
    """Every node: state, since when, load now and its lines; nothing is claimed of a node that does not report."""
    found, users = shown.facts(cluster), shown.facts(by_node)
    past = history(shown)
    return {'nodes': [_node(node, past, users.get(node.pk, NOBODY).every, found.states) for node in found.nodes]}


def _node(node: Node, past: samples.History, assigned: int, states: Mapping[Any, Any]) -> dict[str, Any]:
    alive = in_contact(node)
    stopped = [
        _(BY_KEY[key].name)
        for (pk, key), (state, _row) in states.items()
        if pk == node.pk and alive and state in (State.STOPPED, State.FAILED)
    ]
    mark, word = node_state(node, bool(stopped))
    return {
        'name': node.name,
        'publisher': node.publisher,
        'mark': mark,
        'state': str(word),
        'reports': alive,
        'last_report': node.heartbeat_at,
        'started': node.started_at,
        'stopped_services': stopped,
        'assigned': assigned,
        'now': past.now.get(node.pk) if alive else None,
        'sessions': node.sessions if alive else None,
        'lines': {name: past.line(node.pk, name) for name in EXPLAINED},
    }


def nodes_json(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same for a program."""
    return [{**node, 'now': node['now']._asdict() if node['now'] else None} for node in data['nodes']]


def numbers(shown: Shown) -> dict[str, Any]:
    """The cluster in numbers."""
    past, users, known = history(shown), shown.facts(by_node), contacts()
    enabled = sum(one.live for one in users.values())
    reporting = shown.facts(cluster).alive()
    loads = [past.now[node.pk] for node in reporting if node.pk in past.now]
    online = sum(node.users_online for node in reporting)
    peaks = [load.peak for line in past.lines.values() for load in line if load is not None]
    failures = [load.login_failures for line in past.lines.values() for load in line if load is not None]
    return {
        'users': enabled,
        'unassigned': users.get(None, NOBODY).live,
        'online': online,
        'online_percent': min(100, round(100 * online / enabled)) if enabled else 0,
        'sessions': sum(node.sessions for node in reporting),
        'messages_per_second': round(sum(load.messages_per_second for load in loads), 1) if loads else None,
        'messages_peak': round(max(peaks), 1) if peaks else None,
        'logins_per_minute': round(sum(load.logins_per_minute for load in loads), 1) if loads else None,
        'login_failures': sum(failures),
        'contacts': known,
        'contacts_per_user': round(known / enabled) if enabled else 0,
        'messages_waiting': waiting_messages(),
        'messages_waiting_more': MANY,
        'queued_writes': sum(load.queued_writes for load in loads) if loads else None,
        'queued_bytes': sum(load.queued_bytes for load in loads) if loads else None,
        'lines': {name: past.sum(name) for name in ('messages_per_second', 'logins_per_minute')},
    }


def restarts(shown: Shown) -> dict[str, Any]:
    """Services that run an older configuration."""
    told = notifications.readable(shown.facts(active), shown.who)
    found = context.causes([one for one in told if one.kind == 'restart'])
    names = ('mark', 'title', 'nodes', 'text', 'since', 'url')
    return {'waiting': [{name: getattr(cause, name) for name in names} for cause in found]}


def recent_jobs(shown: Shown) -> dict[str, Any]:
    """The newest jobs."""
    listed = set(jobs.listed())
    return {
        'jobs': [
            {
                'id': job.pk,
                'listed': job.kind in listed,
                'mark': JOB_MARKS[JobState(job.state)],
                'state': str(job.get_state_display()),
                'transaction': jobs.label(job.kind),
                'done': job.done,
                'total': job.total,
                'user': job.submitted_by,
                **pace(job),
            }
            for job in visibility.jobs(Job.objects.order_by('-pk'), shown.who)[:MOST]
        ],
        'waiting': Job.objects.filter(state='pending').count(),
    }


def sync_agent(shown: Shown) -> dict[str, Any]:
    """Cisco Sync Agent on the publisher, and what it says."""
    found = shown.facts(cluster)
    for node in found.nodes:
        if (node.pk, SYNC_AGENT) in found.states:
            state, row = found.states[node.pk, SYNC_AGENT]
            told = decode(row.detail, _) if row is not None and in_contact(node) else ''
            return {
                'node': node.name,
                'address': node.address,
                'mark': MARKS[state],
                'state': str(state),
                'detail': told,
            }
    return {'node': '', 'address': '', 'mark': 'off', 'state': str(State.STOPPED), 'detail': ''}


def expiring(shown: Shown) -> dict[str, Any]:
    """Certificates that end within CERTIFICATE_DAYS."""
    found = [(one, days_left(one.ends_at)) for one in shown.facts(certificates)]
    return {
        'days': CERTIFICATE_DAYS,
        'known': len(found),
        'certificates': [
            {
                'name': one.name,
                'node': one.place,
                'ends': one.ends_at,
                'days': days,
                'mark': 'bad' if days < 7 else 'warn',
            }
            for one, days in found
            if days < CERTIFICATE_DAYS
        ],
    }


def changes(shown: Shown) -> dict[str, Any]:
    """The newest changes."""
    told = AuditEntry.objects.exclude(action__startswith='sign-').order_by('-at')
    found = visibility.of_pages(told, shown.who)[:MOST]
    return {
        'changes': [
            {
                'id': entry.pk,
                'at': entry.at,
                'action': str(historyview.action_text(entry)),
                'object': str(entry),
                'user': str(historyview.actor_text(entry)),
            }
            for entry in found
        ]
    }
