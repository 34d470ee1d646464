"""Every URL: REST below /api/, the console everywhere else."""

from __future__ import annotations

from typing import Any

from django.urls import include, path

from impadmin.console import api

urlpatterns: list[Any] = [
    *getattr(api, 'urlpatterns', ()),
    path('', include('impadmin.console.urls')),
]
