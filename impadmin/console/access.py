"""Who may do what: permissions as data, default-deny over every URL and REST route.

``may(grants, page, action)`` is the one question; ``grants_of(request)`` says who asks, ``actor.grants`` who acts.
A view that nothing declares is refused for everyone. Declare one with ``public``, ``signed_in``, ``for_page`` or
``rest``; the middleware and the REST permission decide from it, the permissions, and what the request does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    """Groups of pages that a permission can name (``right.GROUP``); the built-in roles are made of them."""

    CONFIGURATION = 'configuration'
    USERS = 'users'
    SERVICES = 'services'
    BULK = 'bulk'
    MONITOR = 'monitor'
    """Notifications, dashboards, history: nothing to write."""
    ADMINISTRATORS = 'administrators'


OPEN_STEPS = 'open_steps'
"""Session key: what somebody who signed in must still do; until then nothing else opens."""
STEPS_URL = '/login/steps/'
SAFE_METHODS = frozenset({'GET', 'HEAD', 'OPTIONS'})


@dataclass(frozen=True, slots=True)
class Grants:
    """What somebody may do: sets of permissions of which each must allow it (roles of a user, a token's role, scopes).

    A permission is ``SUBJECT:ACTION``.
    SUBJECT  name of a page, ``area.AREA``, ``right.RIGHT``, or ``*``: every page, those still to be written included
    ACTION   view, add, change, delete, ``do/COMMAND``, do (every command), or ``*``
    """

    sets: tuple[frozenset[str], ...] = (frozenset(),)

    def limited_to(self, other: Grants) -> Grants:
        """What both allow."""
        return Grants(self.sets + other.sets)


def grants(permissions: Iterable[str]) -> Grants:
    """What these permissions allow."""
    return Grants((frozenset(permissions),))


NOBODY = Grants()
EVERYTHING = grants(['*:*'])


def subjects(page: BasePage) -> tuple[str, ...]:
    """The subjects of permissions that cover ``page``, the widest first."""
    return ('*', f'right.{page.right}', f'area.{page.area}', page.name)


def _actions(action: str) -> tuple[str, ...]:
    return ('*', 'do', action) if action.startswith('do/') else ('*', action)


def may(who: Grants, page: BasePage, action: str = 'view') -> bool:
    """Whether ``who`` may do ``action`` (view, add, change, delete, do/COMMAND) on ``page``. Every other needs view."""
    wanted = {f'{subject}:{one}' for subject in subjects(page) for one in _actions(action)}
    allowed = bool(who.sets) and not any(wanted.isdisjoint(permissions) for permissions in who.sets)
    return allowed and (action == 'view' or may(who, page))


def may_write(who: Grants, page: BasePage) -> bool:
    """Whether ``who`` may do anything on ``page`` but look."""
    return any(may(who, page, action) for action in page.actions() if action != 'view')


def implies(held: str, asked: str, page: BasePage | None) -> bool:
    """Whether the permission ``held`` includes ``asked``; ``page``: the page that ``asked`` names, if it names one."""
    (subject, _, action), (wanted, _, wanted_action) = held.partition(':'), asked.partition(':')
    wider = {'*', wanted} if page is None else {wanted, *subjects(page)}
    return subject in wider and action in {wanted_action, *_actions(wanted_action)}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a view asks of the request. ``action``: what a request that writes does on the page ('': anything but look);
    ``do`` is completed by the command of the URL. ``always``: also GET asks for it, e.g. an Add form."""

    who: Literal['public', 'signing_in', 'signed_in', 'page', 'rest']
    page: BasePage | None = None
    action: str = ''
    always: bool = False

    def allows(self, who: Grants, method: str, command: str = '') -> bool:
        """Whether a signed-in administrator may send ``method``."""
        if self.page is None:
            return True
        if method in SAFE_METHODS and not self.always:
            return may(who, self.page)
        if not self.action:
            return may_write(who, self.page)
        return may(who, self.page, f'do/{command}' if self.action == 'do' and command else self.action)


View = TypeVar('View', bound=Callable[..., Any])


def _declare(view: View, requirement: Requirement) -> View:
    view.access = requirement  # type: ignore[attr-defined]
    return view


def public(view: View) -> View:
    """Anybody may open ``view``: sign-in, language, health."""
    return _declare(view, Requirement('public'))


def signing_in(view: View) -> View:
    """Also somebody with open steps may open ``view``."""
    return _declare(view, Requirement('signing_in'))


def signed_in(view: View) -> View:
    """Every administrator may open ``view``, whatever the role: start page, search, what is his own."""
    return _declare(view, Requirement('signed_in'))


def for_page(page: BasePage, view: View, action: str = '', *, always: bool = False) -> View:
    """``view`` belongs to ``page``: see ``Requirement``. Give each URL its own function or partial."""
    return _declare(view, Requirement('page', page, action, always))


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


def grants_of(request: HttpRequest | Request) -> Grants:
    """What this request may do: nothing when nobody is signed in, never more than its token."""
    user: Any = getattr(request, 'user', None)
    if user is None or not user.is_authenticated or not user.is_active:
        return NOBODY
    token: Any = getattr(request, 'auth', None)
    own: Grants = user.grants
    return token.grants.limited_to(own) if hasattr(token, 'grants') else own


def is_known(request: HttpRequest | Request) -> bool:
    """Whether the request comes from an active administrator."""
    user = getattr(request, 'user', None)
    return user is not None and user.is_authenticated and user.is_active


def is_signed_in(request: HttpRequest | Request) -> bool:
    """Whether he may go on: no step of signing in is open. A token has no steps."""
    session = getattr(request, 'session', None) if getattr(request, 'auth', None) is None else None
    return is_known(request) and not (session is not None and session.get(OPEN_STEPS))


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
        if requirement.who == 'signing_in' and is_known(request):
            return None
        if not is_signed_in(request):
            return to_login(request)
        if not requirement.allows(grants_of(request), request.method or 'GET', kwargs.get('command', '')):
            raise PermissionDenied(gettext('Your role does not allow this.'))
        return None


def to_login(request: HttpRequest) -> HttpResponse:
    """Where a request without a signed-in user goes."""
    if is_api(request):
        return JsonResponse({'detail': gettext('Sign in or send a token.')}, status=401)
    if is_known(request):
        return HttpResponseRedirect(STEPS_URL)
    target = request.get_full_path() if request.method in SAFE_METHODS else '/'
    url = f'{settings.LOGIN_URL}?{urlencode({"next": target})}' if target != '/' else settings.LOGIN_URL
    if request.headers.get('HX-Request') == 'true':  # htmx would put the sign-in page into a part of this one
        return HttpResponse(status=401, headers={'HX-Redirect': settings.LOGIN_URL})
    return HttpResponseRedirect(url)


class ApiPermission(BasePermission):
    """REST permission: the view names its requirement per request in ``requirement()``; without one it is refused."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether this administrator or token may send this request."""
        if not is_signed_in(request):
            return False
        declared = getattr(view, 'requirement', None)
        if declared is None:
            return False
        requirement: Requirement = declared()
        return requirement.allows(grants_of(request), request.method or 'GET')
