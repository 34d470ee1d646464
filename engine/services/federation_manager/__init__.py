"""Cisco XCP XMPP Federation Connection Manager: streams with the servers of other domains."""

from engine.services.federation_manager.manager import FederationManager

__all__ = ['FederationManager']
