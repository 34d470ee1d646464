"""Advanced Configuration: its values, and the Status area of the change that is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from impadmin.console import access, forms, jobs
from impadmin.console.models import Job
from impadmin.console.page import ViewPage
from impadmin.console.parameter_values import in_force
from impadmin.presence import default_domain, inventory
from impadmin.presence.forms import ChangeForm
from impadmin.presence.models import AdvancedSettings
from impadmin.presence.rules import NOT_SET
from impadmin.ucm.models import EndUser


def _scheme_name(scheme: Any) -> str:
    choices: Any = AdvancedSettings._meta.get_field('address_scheme').flatchoices
    return str(dict(choices).get(scheme, scheme or ''))


def _status(job: Job | None) -> dict[str, Any] | None:
    """The Status area: what the newest change does or did."""
    if job is None:
        return None
    current = default_domain.under_way()
    stopped = default_domain.has_stopped(job)
    open_ = current is not None and current.pk == job.pk
    return {
        'job': job,
        'message': jobs.message_text(job),
        'percent': min(100, 100 * job.done // job.total) if job.total else 0,
        'step': default_domain.step_label(job),
        'running': open_ and not stopped,
        'can_retry': open_ and stopped,
        'can_cancel': open_ and default_domain.can_cancel(job),
        'parameters': job.parameters,
        'old_scheme': _scheme_name(job.parameters.get('old_address_scheme')),
        'new_scheme': _scheme_name(job.parameters.get('address_scheme')),
    }


def _proposed(settings: AdvancedSettings) -> str:
    """The Organization Top Level Domain, while there is no default domain."""
    return str(in_force('', None)['organization_domain']) if settings.default_domain == NOT_SET else ''


def _rows(form: ChangeForm, writes: bool) -> list[forms.Row]:
    """The two values as fields, or as text."""
    rows = [row for row in forms.plain_rows(form) if row.name in form.initial]
    if not writes:
        texts: dict[str, Callable[[Any], str]] = {'default_domain': str, 'address_scheme': _scheme_name}
        for row in rows:
            row.kind, row.text, row.bound = 'readonly', texts[row.name](form.initial[row.name]), None
    return rows


def advanced_configuration(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """The values, and the Status area; ``?status=1`` only that."""
    settings = inventory.advanced()
    who = access.grants_of(request)
    may = {command.name: command for command in page.commands if access.may(who, page, f'do/{command.name}')}
    under_way = default_domain.under_way()
    proposed = _proposed(settings)
    initial = {'default_domain': proposed or settings.default_domain, 'address_scheme': settings.address_scheme}
    form = ChangeForm(initial=initial, auto_id='f-%s', label_suffix='')
    form.use_required_attribute = False
    status = _status(default_domain.latest())
    context = {
        'page': page,
        'settings': settings,
        'proposed': proposed,
        'rows': _rows(form, 'change' in may and not under_way),
        'change': may.get('change') if not under_way else None,
        'retry': may.get('retry') if status and status['can_retry'] else None,
        'cancel': may.get('cancel') if status and status['can_cancel'] else None,
        'status': status,
        'under_way': under_way,
        'no_address': EndUser.objects.filter(im_address=None).count(),
    }
    part = 'change_status' if request.GET.get('status') and status else 'advanced_configuration'
    return render(request, f'presence/{part}.html', context)


def advanced_api(request: HttpRequest) -> dict[str, Any]:
    """Values in force and the newest change."""
    settings = inventory.advanced()
    job = default_domain.latest()
    return {
        'default_domain': settings.default_domain,
        'proposed_domain': _proposed(settings),
        'address_scheme': settings.address_scheme,
        'users_without_address': EndUser.objects.filter(im_address=None).count(),
        'change': None
        if job is None
        else {
            'job': job.pk,
            'state': job.state,
            'step': default_domain.step_label(job),
            'total': job.total,
            'done': job.done,
            'counts': job.counts,
            'message': jobs.message_text(job),
            'default_domain': job.parameters.get('default_domain'),
            'address_scheme': job.parameters.get('address_scheme'),
            'can_retry': bool(_status(job)['can_retry']),  # type: ignore[index]
            'can_cancel': bool(_status(job)['can_cancel']),  # type: ignore[index]
        },
    }
