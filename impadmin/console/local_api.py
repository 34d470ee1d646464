"""REST without HTTP: the command line sends requests to the REST views of this process.

So what a command checks, says, audits and announces is what REST does; only the channel of the history entry differs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.handlers.wsgi import WSGIRequest
from django.http import FileResponse, Http404, StreamingHttpResponse
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.urls import Resolver404, resolve
from django.utils import translation

from impadmin.console.access import Grants
from impadmin.console.actions import Actor


@dataclass(frozen=True, slots=True)
class Operator:
    """The user of a request made on the command line: whoever has a shell on the machine."""

    username: str
    grants: Grants
    pk: None = None
    is_authenticated: bool = True
    is_active: bool = True
    is_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, the JSON data, and for a file its name and bytes."""

    status: int
    data: Any = None
    file: str = ''
    content: bytes = b''


def call(
    actor: Actor,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Answer:
    """One request as ``actor``. ``files``: open binary files by field; then ``body`` is sent as a form."""
    if files:
        content, kind = encode_multipart(BOUNDARY, {**(body or {}), **files}), MULTIPART_CONTENT
    else:
        content, kind = (b'' if body is None else json.dumps(body).encode()), 'application/json'
    request: Any = WSGIRequest(
        {
            'REQUEST_METHOD': method,
            'PATH_INFO': path,
            'QUERY_STRING': urlencode(query or {}, doseq=True),
            'CONTENT_TYPE': kind,
            'CONTENT_LENGTH': str(len(content)),
            'REMOTE_ADDR': actor.source,
            'SERVER_NAME': 'localhost',
            'SERVER_PORT': '80',
            'HTTP_ACCEPT': 'application/json',
            'HTTP_ACCEPT_LANGUAGE': translation.get_language() or 'en',
            'wsgi.input': io.BytesIO(content),
            'wsgi.url_scheme': 'http',
        }
    )
    request.channel, request.approved_by = actor.channel, actor.approved_by
    request._force_auth_user = Operator(actor.name, actor.grants)  # how DRF is told who it is
    request._dont_enforce_csrf_checks = True
    try:
        found = resolve(path)
    except (Resolver404, Http404):
        return Answer(404, {'detail': f'There is no {path}.'})
    response: Any = found.func(request, *found.args, **found.kwargs)
    if isinstance(response, FileResponse | StreamingHttpResponse):
        parts: Any = response.streaming_content
        return Answer(response.status_code, file=_name(response), content=b''.join(parts))
    if not hasattr(response, 'data'):
        return Answer(response.status_code, file=_name(response), content=response.content)
    response.render()
    return Answer(response.status_code, json.loads(response.content) if response.content else None)


def _name(response: Any) -> str:
    disposition = str(response.get('Content-Disposition', ''))
    return disposition.partition('filename="')[2].partition('"')[0] or 'download'
