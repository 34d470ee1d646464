"""Service and enterprise parameters: values in force, validation, and their one writer."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, models
from django.utils.translation import gettext

from engine.contract.networks import networks
from engine.contract.params import Param
from engine.contract.services import (
    BY_KEY,
    CONNECTION_MANAGER,
    ENTERPRISE_PARAMS,
    SERVER_RECOVERY_MANAGER,
    SIP_PROXY,
    UDS_TOMCAT,
    WEB_CONNECTION_MANAGER,
    XCP_ROUTER,
)
from impadmin.console import audit
from impadmin.console.access import may

if TYPE_CHECKING:
    from impadmin.console.actions import Actor

_LOCK = 0x494D_5056
LONGEST = 1000
"""Most characters of a text parameter."""


def declared(service: str) -> tuple[Param, ...]:
    """The parameters of a service key, or with '' the enterprise parameters. KeyError for an unknown service."""
    return BY_KEY[service].params if service else ENTERPRISE_PARAMS


def in_force(service: str, node: models.Model | None) -> dict[str, Any]:
    """The values in force by name: ``node``'s own for node scope (the defaults when it is None)."""
    stored = {
        (row['name'], row['node_id']): row['value']
        for row in _rows().filter(service=service).values('name', 'node_id', 'value')
    }
    result = {}
    for param in declared(service):
        key = None if param.scope == 'cluster' else getattr(node, 'pk', -1)
        result[param.name] = stored.get((param.name, key), param.default)
    return result


def fingerprint(values: Mapping[str, Any]) -> str:
    """Of the values a form or an ETag was made with: a stale write is noticed."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True, default=str).encode()).hexdigest()[:32]


def problem(param: Param, value: Any) -> str:
    """What is wrong with ``value`` and what would be right, in the active language; '' when it is valid."""
    if param.error(value) is None:
        if isinstance(value, str) and len(value) > LONGEST:
            return gettext('Enter at most %(most)d characters.') % {'most': LONGEST}
        return ''
    if param.type is bool:
        return gettext('Enter true or false.')
    if param.type is int:
        if isinstance(value, bool) or not isinstance(value, int):
            return gettext('Enter a whole number.')
        limits = {'low': param.low, 'high': param.high}
        if param.low is None:
            return gettext('Enter a number up to %(high)s.') % limits
        if param.high is None:
            return gettext('Enter a number from %(low)s.') % limits
        return gettext('Enter a number from %(low)s to %(high)s.') % limits
    if not isinstance(value, str):
        return gettext('Enter text.')
    if param.choices:
        return gettext('Choose one of: %(choices)s.') % {'choices': ', '.join(key for key, _ in param.choices)}
    return gettext('The value does not have the required form.')


def _listeners(found: Mapping[str, Any]) -> dict[str, str]:
    errors = _address(found)
    if found['client_port'] == found['direct_tls_port']:
        errors['direct_tls_port'] = gettext('The two client ports must differ.')
    return errors


def _web_listener(found: Mapping[str, Any]) -> dict[str, str]:
    errors = _address(found)
    if found['bosh_path'] == found['websocket_path']:
        errors['websocket_path'] = gettext('The two paths must differ.')
    return errors


def _router(found: Mapping[str, Any]) -> dict[str, str]:
    errors = {}
    if found['node_link_port'] == found['component_port']:
        errors['component_port'] = gettext('The port for components and the port for other nodes must differ.')
    try:
        networks(found['internal_networks'])
    except ValueError as error:
        wrong = gettext('Enter networks such as 192.0.2.0/24, separated by commas: %(problem)s')
        errors['internal_networks'] = wrong % {'problem': error}
    return errors


def _address(found: Mapping[str, Any]) -> dict[str, str]:
    errors = {}
    try:
        ipaddress.ip_address(found['bind_address'])
    except ValueError:
        errors['bind_address'] = gettext('Enter an IP address, for example 0.0.0.0.')
    return errors


def _sip(found: Mapping[str, Any]) -> dict[str, str]:
    errors = _address(found)
    ports = ('port', 'tls_port', 'mutual_tls_port')
    if len({found[name] for name in ports}) < len(ports):
        errors['mutual_tls_port'] = gettext('The three SIP ports must differ.')
    return errors


def _own_address(found: Mapping[str, Any]) -> dict[str, str]:
    """An address to listen on; empty is that of the node."""
    return _address(found) if found['bind_address'] else {}


CROSS_CHECKS: dict[str, Callable[[Mapping[str, Any]], dict[str, str]]] = {
    XCP_ROUTER: _router,
    CONNECTION_MANAGER: _listeners,
    WEB_CONNECTION_MANAGER: _web_listener,
    UDS_TOMCAT: _address,
    SERVER_RECOVERY_MANAGER: _own_address,
    SIP_PROXY: _sip,
}
"""service key -> function of all values that gives messages by name, for what one value alone cannot tell."""


def do_set_parameters(
    actor: Actor,
    service: str,
    node: Any,
    values: Mapping[str, Any],
    *,
    expected: str = '',
    dry_run: bool = False,
) -> Any:
    """Save parameters of ``service`` ('' = enterprise parameters). ``node``: whose node-scope values are set; may be
    None when ``values`` has none. A value of None goes back to the default. ``expected``: ``fingerprint`` of the values
    the user saw; others raise Stale. Returns the values now in force by name (or a Preview)."""
    from impadmin.console import foureyes, registry
    from impadmin.console.rehearsal import Done, Stale, everybody, of_nodes, rehearses, transact

    page = registry.page('service-parameters' if service else 'enterprise-parameters')
    if not may(actor.grants, page, 'change'):
        raise PermissionDenied(gettext('Your role does not allow this.'))
    params = {param.name: param for param in declared(service)}
    _check(params, node, values)
    if not dry_run:
        foureyes.hold(
            actor,
            page,
            'change',
            lambda: {'do': 'parameters', 'service': service, 'node': getattr(node, 'name', ''), 'values': dict(values)},
            lambda: do_set_parameters(actor, service, node, values, expected=expected, dry_run=True),
            gettext(BY_KEY[service].name) if service else '',
        )

    def work() -> Done:
        with connection.cursor() as cursor:  # parameters with their defaults have no row to lock
            cursor.execute('SELECT pg_advisory_xact_lock(%s, hashtext(%s))', [_LOCK, service])
        before = in_force(service, node)
        if expected and expected != fingerprint(before):
            raise Stale(gettext('Somebody else changed it in the meantime. Load it again, then make your change.'))
        after = {**before, **{n: params[n].default if v is None else v for n, v in values.items()}}
        errors = _order(params, after) | (CROSS_CHECKS[service](after) if service in CROSS_CHECKS else {})
        if errors:
            raise ValidationError(errors)
        changed = [name for name in params if before[name] != after[name]]
        for name in changed:
            _store(service, params[name], node if params[name].scope == 'node' else None, after[name])
        if changed:
            _record(actor, service, node, before, after, changed)
        own = changed and all(params[name].scope == 'node' for name in changed)
        users = (of_nodes([node]) if own else everybody() if changed else 0) if rehearses() else None
        return Done(after, users=users)

    return transact(work, configures=True, dry_run=dry_run)


def _check(params: Mapping[str, Param], node: Any, values: Mapping[str, Any]) -> None:
    errors = {}
    for name, value in values.items():
        if name not in params:
            errors[name] = gettext('There is no such parameter.')
        elif params[name].scope == 'node' and node is None:
            errors[name] = gettext('Choose a server: this parameter has a value for each node.')
        elif value is not None and (text := problem(params[name], value)):
            errors[name] = text
    if errors:
        raise ValidationError(errors)


def _order(params: Mapping[str, Param], found: Mapping[str, Any]) -> dict[str, str]:
    """What ``Param.not_below`` says of these values."""
    errors = {}
    for name, param in params.items():
        if param.not_below is None:
            continue
        other, times = param.not_below
        if found[name] < times * found[other]:
            text = (
                gettext('Enter at least %(least)s: %(times)s times %(other)s.')
                if times > 1
                else gettext('Enter at least %(least)s, the value of %(other)s.')
            )
            shown = {'least': times * found[other], 'times': times, 'other': gettext(params[other].label)}
            errors[name] = text % shown
    return errors


def _store(service: str, param: Param, node: Any, value: Any) -> None:
    if value == param.default:
        _rows().filter(service=service, name=param.name, node=node).delete()
    else:
        _rows().update_or_create(service=service, name=param.name, node=node, defaults={'value': value})


def _record(
    actor: Actor, service: str, node: Any, before: Mapping[str, Any], after: Mapping[str, Any], changed: list[str]
) -> None:
    title = BY_KEY[service].name if service else 'Enterprise Parameters'
    audit.record(
        actor, 'update', None, None,
        {name: before[name] for name in changed}, {name: after[name] for name in changed},
        object_type='system.ParameterValue', object_id=f'{service}:{node or ""}',
        label=f'{title} · {node}' if node is not None else title,
        menu='System > Service Parameters' if service else 'System > Enterprise Parameters',
    )  # fmt: skip


def differences(
    service: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[tuple[str, str, str]]:
    """(parameter, before, after) as people read them, of an audit entry about the parameters of ``service``."""
    try:
        params = {param.name: param for param in declared(service)}
    except KeyError:
        return audit.differences(None, before, after)
    old, new = before or {}, after or {}
    return [
        (gettext(params[name].label), _text(params[name], old.get(name)), _text(params[name], new.get(name)))
        if name in params
        else (name, audit.display(old.get(name)), audit.display(new.get(name)))
        for name in {**new, **old}
        if old.get(name) != new.get(name)
    ]


def _text(param: Param, value: Any) -> str:
    """A value as people read it."""
    for key, label in param.choices:
        if key == value:
            return gettext(label)
    return audit.display(value)


def _rows() -> Any:
    return apps.get_model('system', 'ParameterValue').objects
