"""WebSocket routes."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from impadmin.console.live import LiveConsumer


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """There is no WebSocket at this address."""
    await send({'type': 'websocket.close'})


websocket_urlpatterns: list[Any] = [path('ws/live/', LiveConsumer.as_asgi()), re_path('', refuse)]  # type: ignore[arg-type]
