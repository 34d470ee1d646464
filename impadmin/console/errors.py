"""Error answers: no traceback reaches a user, every message says what is wrong and what would be right.

Pages get ``templates/errors/STATUS.html`` with the request id; REST gets ``{"detail": text}`` or, for wrong values,
``{"errors": {field: [text, ...]}}``, both with ``"request_id"``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation, ValidationError
from django.db import DataError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler, set_rollback

from impadmin.console.access import grants_of, is_api, may
from impadmin.console.actions import Refused, Stale
from impadmin.console.foureyes import REQUESTS_PAGE, Waiting
from impadmin.console.registry import page, page_url

log = logging.getLogger(__name__)
GENERAL = 'non_field_errors'
"""The name of errors that belong to no field."""


def _id(request: Any) -> str:
    return str(getattr(request, 'request_id', ''))


def answer(request: HttpRequest, status: int, text: str = '', headers: Mapping[str, str] | None = None) -> HttpResponse:
    """The error page of ``status``, or its REST body. ``text`` replaces the page's own explanation."""
    if is_api(request):
        body = {'detail': text or _plain(status), 'request_id': _id(request)}
        return JsonResponse(body, status=status, headers=headers)
    theme = request.COOKIES.get('theme', '')
    context = {
        'status': status,
        'title': _title(status),
        'text': text or _plain(status),
        'request_id': _id(request),
        'theme': theme if theme in ('light', 'dark') else '',
        'signed_in': bool(getattr(getattr(request, 'user', None), 'is_authenticated', False)) and status != 500,
    }
    # without context processors: an error page needs neither database nor menus
    response = HttpResponse(render_to_string(f'errors/{status}.html', context), status=status)
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def _title(status: int) -> str:
    return {
        400: gettext('The request is not valid'),
        403: gettext('Not allowed'),
        404: gettext('Not found'),
        409: gettext('Not possible now'),
    }.get(status, gettext('The console could not answer'))


def _plain(status: int) -> str:
    return {
        400: gettext('The request is not valid.'),
        401: gettext('Sign in or send a token.'),
        403: gettext('Your role does not allow this.'),
        404: gettext('There is nothing at this address.'),
        409: gettext('The action is not possible now.'),
    }.get(status, gettext('The console could not answer. Try again; if it happens again, look at its log.'))


def of_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
    """The page for what an action refused and the view did not catch; None for everything else."""
    if isinstance(error, Waiting):
        return waiting(request, error)
    if isinstance(error, Refused):
        return answer(request, 409, str(error))
    if isinstance(error, ValidationError):
        return answer(request, 400, ' '.join(error.messages))
    if isinstance(error, DataError | UnicodeEncodeError):
        log.warning('request %s has a value the database refuses', _id(request), exc_info=True)
        return answer(request, 400, gettext('A value cannot be stored. Check its characters and size.'))
    if isinstance(error, OperationalError):
        log.error('request %s: the database does not answer', _id(request), exc_info=True)
        return answer(request, 503, gettext('The database does not answer. Try again.'))
    return None


def waiting(request: HttpRequest, error: Waiting) -> HttpResponse:
    """To the page of the request that waits for approval, or to the own requests of who may not open it."""
    error.keep()
    messages.info(request, str(error))
    opens = may(grants_of(request), page(REQUESTS_PAGE))
    url = page_url(REQUESTS_PAGE, 'edit', error.request.pk) if opens else '/account/#requests'
    if request.headers.get('HX-Request') == 'true':  # htmx would put the page into a part of this one
        return HttpResponse(status=204, headers={'HX-Redirect': url})
    return HttpResponseRedirect(url)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400. The text of a BadRequest is meant for the user, that of other suspicious requests is not."""
    return answer(request, 400, str(exception) if isinstance(exception, BadRequest) else '')


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    return answer(request, 403, str(exception or ''))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404. Only texts that views wrote are shown, never the resolver's list of patterns."""
    text = str(exception.args[0]) if exception is not None and exception.args else ''
    return answer(request, 404, '' if text.startswith('{') else text)


def refused(request: HttpRequest, text: str) -> HttpResponse:
    """409: the action is not possible in the present state."""
    return answer(request, 409, text)


def server_error(request: HttpRequest) -> HttpResponse:
    """500. The traceback is in the log, under the same request id."""
    log.error('request %s failed: %s %s', _id(request), request.method, request.path)
    try:
        return answer(request, 500)
    except Exception:  # the template or the database may be what failed
        log.exception('the error page failed')
        return HttpResponse(f'The console could not answer. Request {_id(request)}.', 'text/plain', 500)


def csrf_failure(request: HttpRequest, reason: str = '') -> HttpResponse:
    """The answer when a form's token is missing or old."""
    log.warning('request %s refused: %s', _id(request), reason)
    return answer(request, 403, gettext('This form is too old or was not sent from this console. Load the page again.'))


def by_field(error: ValidationError) -> dict[str, list[str]]:
    """Messages by field; those of no field under ``non_field_errors``."""
    if hasattr(error, 'error_dict'):
        return {
            GENERAL if name == '__all__' else name: [str(text) for text in messages]
            for name, messages in error.message_dict.items()
        }
    return {GENERAL: [str(text) for text in error.messages]}


def api_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST error bodies for everything a view can raise; None (500) for what nobody foresaw."""
    request = context.get('request')
    if isinstance(error, ValidationError):
        return _body({'errors': by_field(error)}, 400, request)
    if isinstance(error, exceptions.ValidationError):
        return _body({'errors': _flat(error.detail)}, 400, request)
    if isinstance(error, Waiting):
        error.keep()
        answered = _body({'detail': str(error), 'request': error.request.pk, 'url': error.url}, 202, request)
        answered['Location'] = error.url
        return answered
    if isinstance(error, Stale):
        return _body({'detail': str(error)}, 412, request)
    if isinstance(error, Refused):
        return _body({'detail': str(error)}, 409, request)
    if isinstance(error, BadRequest):
        return _body({'detail': str(error)}, 400, request)
    if isinstance(error, SuspiciousOperation):  # e.g. a body beyond DATA_UPLOAD_MAX_MEMORY_SIZE
        return _body({'detail': gettext('The request is too large or not valid.')}, 400, request)
    if isinstance(error, DataError | UnicodeEncodeError):
        log.warning('request %s has a value the database refuses', _id(request), exc_info=True)
        return _body({'detail': gettext('A value cannot be stored. Check its characters and size.')}, 400, request)
    if isinstance(error, OperationalError):
        log.error('request %s: the database does not answer', _id(request), exc_info=True)
        return _body({'detail': gettext('The database does not answer. Try again.')}, 503, request)
    if isinstance(error, Http404):
        text = str(error) or gettext('There is nothing at this address.')
        return _body({'detail': text}, 404, request)
    if isinstance(error, PermissionDenied):
        return _body({'detail': str(error) or gettext('Your role does not allow this.')}, 403, request)
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(response.data, dict):
        response.data = {'detail': str(response.data.get('detail', '')), 'request_id': _id(request)}
    return response


def _body(data: dict[str, Any], status: int, request: Any) -> Response:
    set_rollback()
    return Response({**data, 'request_id': _id(request)}, status=status)


def _flat(detail: Any) -> dict[str, list[str]]:
    if isinstance(detail, Mapping):
        return {str(name): _texts(messages) for name, messages in detail.items()}
    return {GENERAL: _texts(detail)}


def _texts(messages: Any) -> list[str]:
    if isinstance(messages, Mapping):
        return [f'{name}: {text}' for name, inner in messages.items() for text in _texts(inner)]
    if isinstance(messages, list | tuple):
        return [text for inner in messages for text in _texts(inner)]
    return [str(messages)]
