"""Every URL: REST below /api/, the console everywhere else."""

from __future__ import annotations

from typing import Any

from django.urls import include, path

from impadmin.console import api, errors, notifications, security

handler400 = errors.bad_request
handler403 = errors.permission_denied
handler404 = errors.not_found
handler500 = errors.server_error
urlpatterns: list[Any] = [
    path('healthz', security.health, name='health'),
    path('alerts/dismiss/', notifications.dismiss_view, name='dismiss'),
    *getattr(api, 'urlpatterns', ()),
    path('', include('impadmin.signin.urls')),
    path('', include('impadmin.console.urls')),
]
