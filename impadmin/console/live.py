"""Live view: jobs, services and nodes tell open pages what happens, through Redis and one WebSocket per page."""

from __future__ import annotations

from impadmin.console.generations import publish

__all__ = ['publish']
