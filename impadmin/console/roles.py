"""Roles: named sets of permissions. Four are built in; administrators copy them and make their own.

Nobody gives rights that he does not have, by a role, by giving a role to somebody, or by a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import registry
from impadmin.console.access import Grants, Right, implies
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import BasePage, Text

if TYPE_CHECKING:
    from impadmin.console.models import Role

_READS = tuple(f'right.{right}:view' for right in Right if right != Right.ADMINISTRATORS)
ADMINISTRATOR = 'administrator'
BUILT_IN: dict[str, tuple[Text, tuple[str, ...]]] = {
    ADMINISTRATOR: (gettext_lazy('Administrator'), ('*:*',)),
    'operator': (
        gettext_lazy('Operator'),
        (
            'right.configuration:view',
            *(f'right.{right}:*' for right in (Right.USERS, Right.SERVICES, Right.BULK, Right.MONITOR)),
        ),
    ),
    'bulk_operator': (gettext_lazy('Bulk operator'), (*_READS, 'right.bulk:*')),
    'read_only': (gettext_lazy('Read-only'), _READS),
}
"""name -> (title, permissions). What they may is defined here, so that it follows the pages of every new version."""
WHOLE_ACTIONS = ('view', 'add', 'change', 'delete', 'do', '*')
"""Actions that a permission can name for more than one page."""
MOST = 1000
"""Most permissions of one role."""


def install() -> None:
    """The rows of the built-in roles, with the permissions of this version."""
    from impadmin.console.models import Role

    Role.objects.bulk_create(
        (Role(name=name, permissions=list(permissions)) for name, (_title, permissions) in BUILT_IN.items()),
        update_conflicts=True, unique_fields=['name'], update_fields=['permissions'],
    )  # fmt: skip


def _page(permission: str) -> BasePage | None:
    """The page that a permission names, or None."""
    try:
        return registry.page(permission.partition(':')[0])
    except KeyError:
        return None


def wide_subjects() -> list[str]:
    """Every subject that covers more than one page."""
    areas = dict.fromkeys(page.area for page in registry.pages())
    return ['*', *(f'right.{right}' for right in Right), *(f'area.{area}' for area in areas)]


def check_permissions(value: object) -> None:
    """Validator of the field: a list of permissions that this version knows."""
    if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
        raise ValidationError(gettext('Send a list of permissions, each PAGE:ACTION.'))
    if len(value) > MOST:
        raise ValidationError(gettext('Give at most %(most)d permissions.') % {'most': MOST})
    wide = set(wide_subjects())
    unknown = []
    for one in value:
        subject, _, action = one.partition(':')
        page = _page(one)
        if not (subject in wide and action in WHOLE_ACTIONS) and not (
            page is not None and action in {*page.actions(), *WHOLE_ACTIONS}
        ):
            unknown.append(one)
    if unknown:
        raise ValidationError(
            gettext('There is no such permission: %(names)s. Give PAGE:ACTION, for example domains:view.')
            % {'names': ', '.join(unknown)[:200]}
        )


def beyond(who: Grants, asked: Grants) -> list[str]:
    """The permissions of ``asked`` that ``who`` does not have; one set of ``asked`` within ``who`` is enough."""
    smallest: list[str] | None = None
    for permissions in asked.sets:
        more = [one for one in sorted(permissions) if not covers(who, one)]
        if smallest is None or len(more) < len(smallest):
            smallest = more
    return smallest or []


def covers(who: Grants, permission: str) -> bool:
    """Whether ``who`` has ``permission``, on every page it is about, those still to be written included."""
    page = _page(permission)
    return bool(who.sets) and all(any(implies(held, permission, page) for held in held_set) for held_set in who.sets)


def require_covered(who: Grants, asked: Grants) -> None:
    """Raise PermissionDenied when ``asked`` goes beyond what ``who`` may do."""
    if more := beyond(who, asked):
        raise PermissionDenied(
            gettext('You cannot give or take rights that you do not have: %(names)s.')
            % {'names': ', '.join(more[:5]) + (' …' if len(more) > 5 else '')}
        )


# ---- writers and rules of the page


def name_is_free(role: Any, before: Any) -> None:
    """Names differ by more than case, and none looks like a built-in role."""
    others = type(role).objects.filter(name__iexact=role.name).exclude(pk=role.pk)
    titles = {str(title).lower() for title, _ in BUILT_IN.values()}
    if role.name.strip().lower() in titles or others.exists():
        raise ValidationError({'name': gettext('There is a role %(name)s already.') % {'name': role.name}})


def locked(role: Any) -> Text:
    """Why a role stays as it is, or ''."""
    return gettext('This role is built in. Copy it to make one of your own.') if role.name in BUILT_IN else ''


def create(actor: Actor, values: Mapping[str, Any]) -> Any:
    """Add a role."""
    from impadmin.console.models import Role

    role = Role(**values)
    require_covered(actor.grants, role.grants)
    role.save()
    return role


def update(actor: Actor, role: Any, values: Mapping[str, Any]) -> Any:
    """Change a role: neither the old permissions nor the new ones go beyond the actor's."""
    require_covered(actor.grants, role.grants)
    for name, value in values.items():
        setattr(role, name, value)
    require_covered(actor.grants, role.grants)
    role.save()
    return role


def delete(actor: Actor, role: Any) -> None:
    """Delete a role that nobody has."""
    require_covered(actor.grants, role.grants)
    if held := list(role.administrators.order_by('username')[:5]):
        names = gettext(', ').join(str(one) for one in held)
        raise Refused(gettext('It is still in use by: %(names)s. Change these first.') % {'names': names})
    role.delete()


def named(names: Iterable[str]) -> list[Role]:
    """The roles of these names. Raises ValidationError at ``roles``."""
    from impadmin.console.models import Role

    wanted = list(names)
    found = {role.name: role for role in Role.objects.filter(name__in=wanted)}
    if missing := [name for name in wanted if name not in found]:
        known: Sequence[str] = list(Role.objects.order_by('name').values_list('name', flat=True)[:20])
        raise ValidationError(
            {
                'roles': gettext('There is no role %(name)s. Choose one of: %(choices)s.')
                % {'name': missing[0], 'choices': ', '.join(known)}
            }
        )
    return [found[name] for name in wanted]
