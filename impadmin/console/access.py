"""Who may do what: rights per role as data, default-deny over every URL and REST route.

A view that nothing declares is refused for everyone. Declare one with ``public``, ``signed_in``, ``for_page`` or
``rest``; the middleware and the REST permission decide from the declaration, the role, and whether the request writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils.translation import gettext
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:
    from impadmin.console.page import BasePage


class Right(StrEnum):
    """Groups of pages that are granted together."""

    CONFIGURATION = 'configuration'
    USERS = 'users'
    SERVICES = 'services'
    BULK = 'bulk'
    MONITOR = 'monitor'
    """Notifications, dashboards, history: nothing to write."""
    ADMINISTRATORS = 'administrators'


class Level(StrEnum):
    """How far a role reaches into a group."""

    NONE = 'none'
    READ = 'read'
    WRITE = 'write'


_RANK = {Level.NONE: 0, Level.READ: 1, Level.WRITE: 2}
_ALL = dict.fromkeys(Right, Level.WRITE)
RIGHTS: dict[str, dict[Right, Level]] = {
    'administrator': _ALL,
    'operator': _ALL | {Right.CONFIGURATION: Level.READ, Right.ADMINISTRATORS: Level.NONE},
    'bulk_operator': dict.fromkeys(Right, Level.READ) | {Right.BULK: Level.WRITE, Right.ADMINISTRATORS: Level.NONE},
    'read_only': dict.fromkeys(Right, Level.READ) | {Right.ADMINISTRATORS: Level.NONE},
}
SAFE_METHODS = frozenset({'GET', 'HEAD', 'OPTIONS'})


def level(role: str, right: Right) -> Level:
    """What ``role`` may do with pages of ``right``; an unknown role may do nothing.

    ``a+b`` is what both roles allow: a token of role a that belongs to a user of role b.
    """
    levels = [RIGHTS.get(part, {}).get(right, Level.NONE) for part in role.split('+')]
    return min(levels, key=_RANK.__getitem__)


def may_read(role: str, right: Right) -> bool:
    """Whether ``role`` sees pages of ``right``."""
    return level(role, right) is not Level.NONE


def may_write(role: str, right: Right) -> bool:
    """Whether ``role`` changes what pages of ``right`` show."""
    return level(role, right) is Level.WRITE


def combined(token_role: str, user_role: str) -> str:
    """The role of a token: never more than either of the two allows."""
    return token_role if token_role == user_role else f'{token_role}+{user_role}'


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a view asks of the request. ``writes``: which methods need the right to write ('unsafe': all but GET, HEAD
    and OPTIONS; 'always': every one, e.g. an Add form; 'never': changes only what belongs to the user himself)."""

    who: Literal['public', 'signed_in', 'right', 'rest']
    right: Right | None = None
    writes: Literal['unsafe', 'always', 'never'] = 'unsafe'

    def allows(self, role: str, method: str) -> bool:
        """Whether a signed-in ``role`` may send ``method``."""
        if self.right is None:
            return True
        write = self.writes == 'always' or (self.writes == 'unsafe' and method not in SAFE_METHODS)
        return may_write(role, self.right) if write else may_read(role, self.right)


View = TypeVar('View', bound=Callable[..., Any])


def _declare(view: View, requirement: Requirement) -> View:
    view.access = requirement  # type: ignore[attr-defined]
    return view


def public(view: View) -> View:
    """Anybody may open ``view``: sign-in, language, health."""
    return _declare(view, Requirement('public'))


def signed_in(view: View) -> View:
    """Every administrator may open ``view``, whatever the role: start page, search, own preferences."""
    return _declare(view, Requirement('signed_in', writes='never'))


def for_page(page: BasePage, view: View, *, writes: Literal['unsafe', 'always', 'never'] = 'unsafe') -> View:
    """``view`` belongs to ``page``: its right decides. Give each URL its own function or partial."""
    return _declare(view, Requirement('right', page.right, writes))


def rest(view: View) -> View:
    """A REST view: ``ApiPermission`` decides after token or session are known."""
    return _declare(view, Requirement('rest'))


def requirement_of(view: Any) -> Requirement | None:
    """The declaration of a view, or None: refused for everyone."""
    found = getattr(view, 'access', None)
    return found if isinstance(found, Requirement) else None


def is_api(request: HttpRequest) -> bool:
    """Whether the answer is for a program."""
    return request.path.startswith('/api/v')


def role_of(request: HttpRequest | Request) -> str:
    """The role in force for this request: '' when nobody is signed in, never more than the token's."""
    user = getattr(request, 'user', None)
    if user is None or not user.is_authenticated or not user.is_active:
        return ''
    token = getattr(request, 'auth', None)
    role = str(getattr(user, 'role', ''))
    return combined(str(token.role), role) if token is not None and hasattr(token, 'role') else role


class AccessMiddleware:
    """Refuses every request that no declaration allows."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Nothing to do before the view is known."""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> HttpResponse | None:
        """Let the request through (None), send to the sign-in page, or refuse."""
        requirement = requirement_of(view)
        if requirement is None:
            raise Http404
        if requirement.who in ('public', 'rest'):
            return None
        role = role_of(request)
        if not role:
            return to_login(request)
        if not requirement.allows(role, request.method or 'GET'):
            raise PermissionDenied(gettext('Your role does not allow this.'))
        return None


def to_login(request: HttpRequest) -> HttpResponse:
    """Where a request without a signed-in user goes."""
    if is_api(request):
        return JsonResponse({'detail': gettext('Sign in or send a token.')}, status=401)
    target = request.get_full_path() if request.method in SAFE_METHODS else '/'
    url = f'{settings.LOGIN_URL}?{urlencode({"next": target})}' if target != '/' else settings.LOGIN_URL
    if request.headers.get('HX-Request') == 'true':  # htmx would put the sign-in page into a part of this one
        return HttpResponse(status=401, headers={'HX-Redirect': settings.LOGIN_URL})
    return HttpResponseRedirect(url)


class ApiPermission(BasePermission):
    """REST permission: the view names its requirement per request in ``requirement()``; without one it is refused."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether this role may send this request."""
        role = role_of(request)
        if not role:
            return False
        declared = getattr(view, 'requirement', None)
        if declared is None:
            return False
        requirement: Requirement = declared()
        return requirement.allows(role, request.method or 'GET')
