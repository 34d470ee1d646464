"""Downloads: files that are sent while they are read, and those that pages declare (``Page.files``): of one object, or
of the page with its selection in ``?pk=``."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from impadmin.console import errors
from impadmin.console.access import grants_of
from impadmin.console.actions import Refused
from impadmin.console.editview import object_of
from impadmin.console.page import Page

BLOCK = 256 * 1024
CSV = 'text/csv; charset=utf-8'
JSON_LINES = 'application/x-ndjson'
TEXT = 'text/plain; charset=utf-8'
XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'


def streamed(
    request: Any, blocks: Iterator[bytes], name: str, kind: str, *, inline: bool = False
) -> StreamingHttpResponse:
    """Blocks of a file as they come. Under ASGI Django would collect an ordinary iterator before it sends the first
    byte, so each block is fetched by itself, in the thread of the request."""
    plain = getattr(request, '_request', request)  # a REST request wraps the one of Django
    response = StreamingHttpResponse(
        _one_by_one(blocks) if isinstance(plain, ASGIRequest) else blocks, content_type=kind
    )
    response['Content-Disposition'] = content_disposition_header(not inline, name) or 'inline'
    response['X-Content-Type-Options'] = 'nosniff'
    response['Cache-Control'] = 'private, no-store'
    return response


async def _one_by_one(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (block := await sync_to_async(lambda: next(blocks, None))()) is not None:
        yield block


def file_blocks(file: Any) -> Iterator[bytes]:
    """The bytes of an open file, which is closed at the end."""
    with file:
        while block := file.read(BLOCK):
            yield block


def of_page(view: Callable[..., Any]) -> bool:
    """Whether a download is the page's, not one object's: its second parameter is annotated ``None``."""
    return list(inspect.signature(view).parameters.values())[1].annotation in ('None', None)


def answer(request: HttpRequest, page: Page, name: str, pk: str | None = None) -> HttpResponseBase:
    """The file; 404 when the page or the object has none of that name. Raises Refused."""
    view = page.files.get(name)
    if view is None or of_page(view) != (pk is None):
        raise Http404
    found: HttpResponseBase = view(request, None if pk is None else object_of(page, grants_of(request), pk))
    return found


def file_view(request: HttpRequest, page: Page, name: str, pk: str | None = None) -> Any:
    """The same in the console, where a refusal is a page."""
    try:
        return answer(request, page, name, pk)
    except Refused as error:
        return errors.refused(request, str(error))
