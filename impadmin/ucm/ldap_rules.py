"""Rules for directories, their filters and servers."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from ldap3.core.exceptions import LDAPException
from ldap3.operation.search import parse_filter
from ldap3.utils.dn import parse_dn

from engine.contract.services import DIRSYNC
from impadmin.console.parameter_values import in_force
from impadmin.ucm import uc_address
from impadmin.ucm.ldap_models import (
    MOST_SERVERS,
    Asked,
    LdapDirectory,
    LdapFilter,
    LdapSystem,
    ServerType,
    Unit,
    UserAuthentication,
    UserIdAttribute,
)

_MICROSOFT = (UserIdAttribute.ACCOUNT, UserIdAttribute.PRINCIPAL)
_LEAST_HOURS = 6
MOST_NUMBERS = 100_000
"""Of a pool: the free ones are looked for one by one."""
LOCKED = (
    'search_base', 'custom_filter', 'first_name_from', 'last_name_from', 'display_name_from', 'mail_from',
    'department_from', 'telephone_number_from', 'directory_uri_from', 'template', 'use_mask', 'mask', 'use_pool',
    'pool_start', 'pool_end',
)  # fmt: skip
"""What decides on users cannot change after the first synchronization (guide 2575, 2618, 2651)."""


def parameters() -> dict[str, Any]:
    """The parameters of Cisco DirSync in force."""
    return in_force(DIRSYNC, None)


def attribute_fits_the_type(system: LdapSystem, before: Any) -> None:
    """Microsoft directories have no uid, others no account names."""
    microsoft = system.server_type in (ServerType.AD, ServerType.AD_LDS)
    wrong = (UserIdAttribute.UID,) if microsoft else _MICROSOFT
    if system.user_id_attribute in wrong:
        right = [name for name in UserIdAttribute.values if name not in wrong]
        raise ValidationError(
            {'user_id_attribute': _('Directories of this type do not have it. Choose one of: %(names)s.')
             % {'names': ', '.join(right)}}
        )  # fmt: skip


def schema_stays(system: LdapSystem, before: LdapSystem | None) -> None:
    """Type and user ID attribute cannot change under the users who were imported by them."""
    changed = [
        name for name in ('server_type', 'user_id_attribute')
        if before is not None and getattr(before, name) != getattr(system, name)
    ]  # fmt: skip
    if changed and LdapDirectory.objects.exists():
        raise ValidationError(
            dict.fromkeys(
                changed, _('This cannot change while there is an LDAP directory. Delete the directories first.')
            )
        )


def filter_is_right(row: LdapFilter, before: Any) -> None:
    """One filter of RFC 4515 in parentheses."""
    row.filter = row.filter.strip()
    if problem := filter_problem(row.filter):
        raise ValidationError({'filter': problem})


def filter_problem(text: str) -> str:
    """What is wrong with a filter and where, or ''."""
    if not (text.startswith('(') and text.endswith(')')):
        return _('Enclose the filter in parentheses: (%(filter)s).') % {'filter': text[:50]}
    depth = 0
    for place, char in enumerate(text, 1):
        depth += (char == '(') - (char == ')')
        if depth <= 0 and place < len(text):
            return _('The filter ends at character %(place)d, but there is more. Join the parts: (&(...)(...)).') % {
                'place': place
            }
    if depth:
        return _('%(count)d closing parentheses are missing at the end.') % {'count': depth}
    if wrong := re.search(r'\\(?![0-9A-Fa-f]{2})', text):
        return _('The backslash at character %(place)d must be followed by two hexadecimal digits, as in \\2a.') % {
            'place': wrong.start() + 1
        }
    try:
        parse_filter(text, None, False, False, None, False)
    except (LDAPException, ValueError, IndexError):
        return _('This is no LDAP filter. Look at the operators & | ! and at the parentheses around each part.')
    return ''


def directory_is_complete(row: LdapDirectory, before: Any) -> None:
    """Who asks where."""
    missing = [name for name in ('manager_dn', 'search_base', 'host_1') if not getattr(row, name).strip()]
    if not row.last_name_from:
        missing.append('last_name_from')
    if missing:
        raise ValidationError(dict.fromkeys(missing, _('This field must have a value.')))


def authentication_is_complete(row: UserAuthentication, before: Any) -> None:
    """While it is on, passwords are checked there and nowhere else."""
    if not row.enabled:
        return
    missing = [name for name in ('manager_dn', 'search_base', 'host_1') if not getattr(row, name).strip()]
    errors = dict.fromkeys(missing, _('LDAP authentication needs it. Enter it, or switch it off.'))
    if not row.sealed_password:
        errors['enabled'] = _('Set the manager password first.')
    if errors:
        raise ValidationError(errors)


def names_are_right(row: Asked, before: Any) -> None:
    """Distinguished names; a manager may be user@domain."""
    wrong = _('“%(text)s” is no distinguished name. Enter for example %(like)s.')
    likes = {'manager_dn': 'cn=manager,dc=example,dc=com', 'search_base': 'ou=people,dc=example,dc=com'}
    errors = {}
    for name, like in likes.items():
        text = getattr(row, name).strip()
        setattr(row, name, text)
        if text and not (name == 'manager_dn' and '@' in text) and not _is_dn(text):
            errors[name] = wrong % {'text': text, 'like': like}
    if errors:
        raise ValidationError(errors)


def _is_dn(text: str) -> bool:
    try:
        return bool(parse_dn(text))
    except LDAPException:
        return False


def servers_are_right(row: Asked, before: Any) -> None:
    """Host names or IP addresses, one after the other, each once, and no more than DirSync takes."""
    most = parameters()['max_hosts']
    errors: dict[str, str] = {}
    seen: list[tuple[str, int]] = []
    for n in range(1, MOST_SERVERS + 1):
        host = getattr(row, f'host_{n}').strip()
        setattr(row, f'host_{n}', host)
        if not host:
            continue
        place = (host.lower(), getattr(row, f'port_{n}'))
        if n > most:
            errors[f'host_{n}'] = _('The parameter Maximum Number of Hosts allows %(most)d.') % {'most': most}
        elif uc_address.kind(host) not in ('ip', 'host'):
            errors[f'host_{n}'] = _('“%(host)s” is no host name or IP address.') % {'host': host}
        elif len(seen) < n - 1:
            errors[f'host_{n}'] = _('Enter server %(place)d first.') % {'place': n - 1}
        elif place in seen:
            errors[f'host_{n}'] = _('This server is there already.')
        seen.append(place)
    if errors:
        raise ValidationError(errors)


def schedule_is_right(row: LdapDirectory, before: Any) -> None:
    """Not more often than the product allows."""
    if row.interval_unit == Unit.HOURS and row.interval < _LEAST_HOURS:
        raise ValidationError({'interval': _('Enter at least %(hours)d hours.') % {'hours': _LEAST_HOURS}})


def lines_are_right(row: LdapDirectory, before: Any) -> None:
    """A mask that takes digits, a pool of numbers of one length."""
    errors = {}
    if (row.use_mask or row.mask) and 'X' not in row.mask:
        errors['mask'] = _('Enter a mask with at least one X, for example 11XX.')
    elif row.mask.startswith('+'):
        errors['mask'] = _('An extension has digits only: leave out the plus sign.')
    if (row.use_pool or row.pool_end) and not row.pool_start:
        errors['pool_start'] = _('This field must have a value.')
    elif row.pool_start and len(row.pool_end) != len(row.pool_start):
        errors['pool_end'] = _('Enter as many digits as DN Pool Start has.')
    elif row.pool_start and not 0 <= int(row.pool_end) - int(row.pool_start) < MOST_NUMBERS:
        errors['pool_end'] = _('Enter a number above DN Pool Start, by less than %(most)d.') % {'most': MOST_NUMBERS}
    if errors:
        raise ValidationError(errors)


def not_too_many(row: LdapDirectory, before: Any) -> None:
    """Maximum Number of Agreements."""
    most = parameters()['max_agreements']
    if before is None and LdapDirectory.objects.count() >= most:
        raise ValidationError(
            {'name': _('The parameter Maximum Number of Agreements allows %(most)d LDAP directories.') % {'most': most}}
        )


def locked_after_first_sync(row: LdapDirectory, before: LdapDirectory | None) -> None:
    """Users were imported by these values: they stay."""
    if before is None or before.synchronized_at is None:
        return
    names = [row._meta.get_field(name).attname for name in LOCKED]
    changed = [name.removesuffix('_id') for name in names if getattr(before, name) != getattr(row, name)]
    if changed:
        raise ValidationError(dict.fromkeys(changed, _('This cannot be edited after the initial synchronization.')))


SERVER_RULES = (names_are_right, servers_are_right)
