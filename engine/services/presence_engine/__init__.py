"""Cisco Presence Engine: contact lists, subscriptions, availability (RFC 6121 2-4)."""

from engine.services.presence_engine.engine import PresenceEngine

__all__ = ['PresenceEngine']
