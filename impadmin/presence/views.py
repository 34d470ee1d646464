"""Advanced Configuration: values, confirmations, and the Status area of the change that is under way."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from impadmin.console import access, actions, jobs, registry
from impadmin.console.actions import Refused
from impadmin.console.models import Job
from impadmin.console.page import ViewPage
from impadmin.presence import actions as presence_actions
from impadmin.presence import default_domain, inventory
from impadmin.presence.forms import CONFIRMATIONS, ChangeForm
from impadmin.presence.models import AdvancedSettings
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


def _confirmations(form: ChangeForm, questions: dict[str, str]) -> list[tuple[str, Any, str, bool]]:
    """(name, label, text, ticked) of everything to confirm, what is confirmed already included."""
    if not questions:
        return []
    data = form.cleaned_data
    every = presence_actions.confirmations(data['address_scheme'], data['default_domain'].strip())
    return [(name, form.fields[name].label, text, bool(data.get(name))) for name, text in every.items()]


def _invalid(form: ChangeForm) -> list[tuple[int, str, str]]:
    """The first users who would have no address, with what is wrong."""
    data = form.cleaned_data
    return default_domain.examine(data['address_scheme'], data['default_domain'].strip()).invalid[:50]


def advanced_configuration(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """GET shows the values and the Status area; POST asks for what must be confirmed, then starts the change."""
    settings = inventory.advanced()
    initial = {'default_domain': settings.default_domain, 'address_scheme': settings.address_scheme}
    questions: dict[str, str] = {}
    status = 200
    if request.method == 'POST':
        form = ChangeForm(request.POST)
        if form.is_valid():
            command = next(command for command in page.commands if command.name == 'change')
            try:
                result = actions.do_command(actions.actor_of(request), page, command, [], form.cleaned_data)
            except Refused as error:
                messages.error(request, str(error))
                return HttpResponseRedirect(registry.page_url(page))
            except ValidationError as error:
                fields = error.message_dict
                questions = {name: ' '.join(fields.pop(name)) for name in CONFIRMATIONS if name in fields}
                for name, texts in fields.items():
                    form.add_error(name if name in form.fields else None, texts)
                status = 422
            else:
                messages.success(request, str(result.message))
                return HttpResponseRedirect(registry.page_url(page))
        else:
            status = 422
    else:
        form = ChangeForm(initial=initial)
    context = {
        'page': page,
        'settings': settings,
        'form': form,
        'questions': questions,
        'confirmations': _confirmations(form, questions),
        'invalid': _invalid(form) if 'accept_invalid' in questions else [],
        'status': _status(default_domain.latest()),
        'under_way': default_domain.under_way(),
        'may_write': access.may_write(access.grants_of(request), page),
        'no_address': EndUser.objects.filter(im_address=None).count(),
    }
    part = 'change_status' if request.GET.get('status') and context['status'] else 'advanced_configuration'
    return render(request, f'presence/{part}.html', context, status=status)


def advanced_api(request: HttpRequest) -> dict[str, Any]:
    """Values in force and the newest change."""
    settings = inventory.advanced()
    job = default_domain.latest()
    return {
        'default_domain': settings.default_domain,
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
