"""Cisco XCP Router: who is signed in, and where every stanza goes (RFC 6121 8)."""

from engine.services.xcp_router.router import XcpRouter
from engine.session import BindRefused

__all__ = ['BindRefused', 'XcpRouter']
