"""Cisco XCP Web Connection Manager: XMPP for web clients. See docs/decisions/0014-web-clients.md.

XEP-0124 with XEP-0206 (BOSH), RFC 7395 (WebSocket) and XEP-0156 (discovery by host-meta) on one HTTPS port. Not
implemented of XEP-0124, all of it optional: several streams in one session, ``route``, compressed bodies.
"""

from engine.features.registry import xep
from engine.services.web_connection_manager.manager import WebConnectionManager

__all__ = ['WebConnectionManager']

XEPS = (xep(124, '1.11.2'), xep(156, '1.4.0'), xep(206, '1.4'))
