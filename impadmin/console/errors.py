"""Error answers: no traceback reaches a user, every message says what is wrong and what would be right."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework.response import Response
from rest_framework.views import exception_handler


def csrf_failure(request: HttpRequest, reason: str = '') -> HttpResponse:
    """The page shown when a form's token is missing or old."""
    return render(request, 'errors/403.html', {'reason': reason}, status=403)


def api_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST error bodies."""
    return exception_handler(error, context)
