"""Cisco XCP Text Conference Manager: the chat rooms of this node (XEP-0045)."""

from engine.services.text_conference_manager.manager import TextConferenceManager

__all__ = ['TextConferenceManager']
