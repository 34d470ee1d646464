"""Active Notifications: what must be restarted for saved changes to take effect, open alarms, and standing advice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Notification:
    """One line of System > Notifications.

    key       stable identity: the same as long as the same thing is the matter
    kind      restart, alarm or advice
    severity  High (a service misbehaves), Medium (a change is inactive), Low (advice)
    node      node name, '' for the whole cluster
    service   service key ('' when none must restart); service_name: the product's name
    page      menu path in English, e.g. ``Messaging > Settings``
    changes   (field label, value in force, saved value) as people read them, in the language of the request
    rule      id of the restart rule, e.g. ``RST-R10``
    """

    key: str
    kind: str
    severity: str
    node: str
    service: str
    page: str
    since: datetime
    rule: str = ''
    text: str = ''
    paths: tuple[tuple[str, Any, Any], ...] = ()


def active() -> list[Notification]:
    """All active notifications, the most severe first."""
    raise NotImplementedError


def as_json() -> dict[str, Any]:
    """``{"count": n, "results": [...]}`` for ``GET /api/v1/notifications/``; the same as the page shows."""
    raise NotImplementedError


def unseen(request: HttpRequest) -> list[Notification]:
    """Those this browser session has not dismissed: the pop-up shows them."""
    raise NotImplementedError


def dismiss(request: HttpRequest) -> None:
    """Do not show the present ones again in this browser session. They stay in the header and on the page."""
    raise NotImplementedError
