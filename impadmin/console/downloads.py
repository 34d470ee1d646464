"""Downloads that pages declare (``Page.files``): of one object, or of the page with its selection in ``?pk=``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase

from impadmin.console import errors
from impadmin.console.actions import Refused
from impadmin.console.editview import object_of
from impadmin.console.page import Page


def of_page(view: Callable[..., Any]) -> bool:
    """Whether a download is the page's, not one object's: its second parameter is annotated ``None``."""
    return list(inspect.signature(view).parameters.values())[1].annotation in ('None', None)


def answer(request: HttpRequest, page: Page, name: str, pk: str | None = None) -> HttpResponseBase:
    """The file; 404 when the page or the object has none of that name. Raises Refused."""
    view = page.files.get(name)
    if view is None or of_page(view) != (pk is None):
        raise Http404
    found: HttpResponseBase = view(request, None if pk is None else object_of(page, pk))
    return found


def file_view(request: HttpRequest, page: Page, name: str, pk: str | None = None) -> Any:
    """The same in the console, where a refusal is a page."""
    try:
        return answer(request, page, name, pk)
    except Refused as error:
        return errors.refused(request, str(error))
