"""Cisco SIP Proxy: SIP clients and trunks send and get instant messages and availability (docs/decisions)."""

from __future__ import annotations

from engine.services.sip_proxy.service import SipProxy

__all__ = ['SipProxy']
