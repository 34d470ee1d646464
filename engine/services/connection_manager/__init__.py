"""Cisco XCP Connection Manager: client connections over STARTTLS and direct TLS."""

from engine.services.connection_manager.manager import ConnectionManager

__all__ = ['ConnectionManager']
