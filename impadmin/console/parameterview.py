"""System > Service Parameters and System > Enterprise Parameters, generated from the ``Param`` declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms as django_forms
from django.apps import apps
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import BaseValidator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext

from engine.contract.params import Param
from engine.contract.services import BY_KEY, ENTERPRISE_PARAMS, SERVICES
from impadmin.console import actions, forms, parameter_values, restarts, stale
from impadmin.console.actions import Preview, Refused, Stale, actor_of
from impadmin.console.editview import changes, say_done, service_name
from impadmin.console.page import ParameterPage
from impadmin.console.registry import page_url


@dataclass(frozen=True, slots=True)
class Target:
    """Whose parameters the page shows: service key ('' enterprise), its parameters, the node (None: enterprise)."""

    service: str
    params: tuple[Param, ...]
    node: Any = None


def field_of(param: Param) -> django_forms.Field:
    """The form field of one parameter, with its range, choices and form checked."""
    label, help_text = gettext(param.label), gettext(param.help)
    if param.type is bool:
        return django_forms.BooleanField(label=label, help_text=help_text, required=False)
    if param.choices:
        choices = [(key, gettext(text)) for key, text in param.choices]
        return django_forms.ChoiceField(label=label, help_text=help_text, choices=choices)
    if param.type is int:
        message = parameter_values.problem(param, (param.high + 1) if param.high is not None else 'x')
        field = django_forms.IntegerField(
            label=label,
            help_text=help_text,
            min_value=param.low,
            max_value=param.high,
            widget=django_forms.TextInput(attrs={'inputmode': 'numeric'}),
            error_messages={'invalid': message, 'required': message},
        )
        for validator in field.validators:
            if isinstance(validator, BaseValidator):
                validator.message = message
        return field

    def check(value: Any) -> None:
        if text := parameter_values.problem(param, value):
            raise ValidationError(text)

    return django_forms.CharField(
        label=label,
        help_text=help_text,
        max_length=parameter_values.LONGEST,
        validators=[check],
        required=param.default != '',
    )


def text_of(param: Param, value: Any) -> str:
    """A value as the page shows it."""
    if param.type is bool:
        return gettext('on') if value else gettext('off')
    if param.choices:
        return gettext(dict(param.choices).get(value, str(value)))
    return str(value) or '–'


def make(target: Target, values: dict[str, Any], data: Any = None) -> django_forms.Form:
    """The form over the parameters of ``target``."""
    form_class = type('Form', (django_forms.Form,), {p.name: field_of(p) for p in target.params})
    form: django_forms.Form = form_class(data, initial=values, auto_id='f-%s', label_suffix='')
    form.use_required_attribute = False
    return form


def groups(
    form: django_forms.Form, target: Target, values: dict[str, Any], closed: str, chosen: Mapping[str, stale.Choice]
) -> list[forms.Group]:
    """The parameters by section."""
    rows = {row.name: row for row in forms.plain_rows(form)}
    result: dict[str, forms.Group] = {}
    for param in target.params:
        row = rows[param.name]
        row.unit = gettext(param.unit) if param.unit else ''
        row.suggested = text_of(param, param.default)
        row.was = text_of(param, values[param.name])
        row.changed = form.is_bound and param.name in form.changed_data
        row.choice = chosen.get(param.name)
        if target.service:
            row.note = gettext('This server only') if param.scope == 'node' else gettext('All servers')
        row.restarts = restarts.sentence(tuple(map(service_name, param.restart)))
        row.anchor = f'{target.service}.{param.name}' if target.service else param.name
        if closed:
            row.kind, row.text, row.bound = 'readonly', row.was, None
        group = result.setdefault(param.section, forms.Group(gettext(param.section), '', []))
        group.rows.append(row)
    return list(result.values())


def _nodes() -> list[Any]:
    return list(apps.get_model('system', 'Node').objects.order_by('-publisher', 'name'))


def _target(page: ParameterPage, data: Any, nodes: Sequence[Any]) -> Target | None:
    if not page.services:
        return Target('', ENTERPRISE_PARAMS)
    service = BY_KEY.get(data.get('service', ''))
    wanted = data.get('node')
    node = next((n for n in nodes if wanted is None or str(n.pk) == wanted), None)  # a search hit names no node
    if service is None or not service.params or node is None:
        return None
    return Target(service.key, service.params, node)


def _url(page: ParameterPage, target: Target) -> str:
    if not target.service:
        return page_url(page)
    return f'{page_url(page)}?{urlencode({"node": target.node.pk, "service": target.service})}'


@dataclass(slots=True)
class Drawn:
    """What the page shows of its target. other: who changed it in the meantime; choices: by name, where both did."""

    form: django_forms.Form
    values: dict[str, Any]
    preview: Preview | None = None
    other: str = ''
    choices: Mapping[str, stale.Choice] = field(default_factory=dict)


def parameters_view(request: HttpRequest, page: ParameterPage) -> HttpResponse:
    """Choose server and service, then edit; enterprise parameters at once."""
    nodes = _nodes() if page.services else []
    target = _target(page, request.GET, nodes)
    closed = '' if changes(request, page) else gettext('Your role may see these values but not change them.')
    context: dict[str, Any] = {
        'page': page,
        'title': page.title,
        'nodes': nodes,
        'services': [service for service in SERVICES if service.params] if page.services else [],
        'target': target,
        'chosen_node': str(target.node.pk) if target and target.node else request.GET.get('node', ''),
        'chosen_service': target.service if target else request.GET.get('service', ''),
        'closed': closed,
        'history_url': page_url(page, 'history'),
    }
    if target is None:
        return render(request, 'console/parameters.html', context)
    values = parameter_values.in_force(target.service, target.node)
    drawn = Drawn(make(target, values), values)
    previewed = 'preview' in request.POST
    if request.method == 'POST':
        if closed:
            raise PermissionDenied(closed)
        drawn.form = make(target, values, _with_defaults(target, request.POST))
        if 'examples' in request.POST:
            return render(request, 'console/examples_renewed.html', {**context, 'form': drawn.form})
        if _save(request, target, drawn, previewed):
            _say(request, page, drawn.form, target)
            return HttpResponseRedirect(_url(page, target))
        if previewed and request.htmx:  # type: ignore[attr-defined]
            told = {'preview': drawn.preview, 'form': drawn.form, 'stale': drawn.other}
            return render(request, 'console/preview.html', told)
    shown = groups(drawn.form, target, drawn.values, closed, drawn.choices)
    context |= {
        'form': drawn.form,
        'groups': shown,
        'choices': [row for group in shown for row in group.rows if row.choice],
        'version': parameter_values.fingerprint(drawn.values),
        'seen': stale.written(drawn.values),
        'problems': forms.problems(drawn.form) if drawn.form.is_bound and 'default' not in request.POST else [],
        'changed': drawn.form.changed_data if drawn.form.is_bound else [],
        'stale': drawn.other,
        'preview': drawn.preview,
        'previewed': previewed,
    }
    return render(request, 'console/parameters.html', context)


def _save(request: HttpRequest, target: Target, drawn: Drawn, preview: bool) -> bool:
    """Save the form, or try it for a preview; whether it was saved. What hinders is in ``drawn``."""
    given = stale.answers(request.POST)
    try:
        if request.POST.get('version') != parameter_values.fingerprint(drawn.values):
            raise Stale
        stale.settle(drawn.form, given.picks)
        if 'default' not in request.POST and drawn.form.is_valid():
            result = _apply(request, target, drawn.form, preview)
            if not preview:
                return True
            drawn.preview = result
    except ValidationError as error:
        _refuse(drawn.form, error)
    except Stale:
        drawn.values = parameter_values.in_force(target.service, target.node)
        drawn.form = make(target, drawn.values, _with_defaults(target, request.POST))
        drawn.other = _last_editor(target)
        drawn.choices = stale.choices(given, drawn.form, drawn.values, partial(_shown, target), drawn.other)
        stale.settle(drawn.form, {name: 'theirs' for name, one in drawn.choices.items() if one.pick == 'theirs'})
    except Refused as error:
        drawn.form.add_error(None, str(error))
    if given.picks and not drawn.other:
        shown = partial(_shown, target)
        drawn.choices = stale.asked_again(given, drawn.form, drawn.values, shown, _last_editor(target))
    return False


def _shown(target: Target, name: str, value: Any) -> str:
    return text_of(next(param for param in target.params if param.name == name), value)


def _last_editor(target: Target) -> str:
    return stale.last_editor(object_type='system.ParameterValue', object_id__startswith=f'{target.service}:')


def _with_defaults(target: Target, data: Any) -> Any:
    """The posted values with those replaced whose *Set to default* was pressed ('*': all)."""
    wanted = data.get('default')
    if not wanted:
        return data
    data = data.copy()
    for param in target.params:
        if wanted in ('*', param.name):
            if param.type is bool and not param.default:
                data.pop(param.name, None)
            else:
                data[param.name] = 'on' if param.type is bool else str(param.default)
    return data


def _apply(request: HttpRequest, target: Target, form: django_forms.Form, dry_run: bool) -> Any:
    defaults = {p.name: p.default for p in target.params}
    values = {
        name: None if form.cleaned_data[name] == defaults[name] else form.cleaned_data[name]
        for name in form.changed_data
        if name in form.cleaned_data
    }
    if not values:
        return Preview()
    expected = '' if dry_run else request.POST.get('version', '')
    return actions.do_set_parameters(
        actor_of(request), target.service, target.node, values, expected=expected, dry_run=dry_run
    )


def _refuse(form: django_forms.Form, error: ValidationError) -> None:
    if not hasattr(error, 'error_dict'):
        form.add_error(None, error)
        return
    for name, found in error.error_dict.items():
        form.add_error(name if name in form.fields else None, found)


def _say(request: HttpRequest, page: ParameterPage, form: django_forms.Form, target: Target) -> None:
    if not form.changed_data:
        messages.info(request, gettext('Nothing was changed.'))
        return
    name = service_name(target.service) if target.service else str(page.title)
    say_done(request, page, gettext('The parameters of %(name)s were saved.') % {'name': name}, form.changed_data)
