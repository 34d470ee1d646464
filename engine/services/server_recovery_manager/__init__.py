"""Cisco Server Recovery Manager: two nodes of a Presence Redundancy Group stand in for each other (decision 0035)."""

from engine.services.server_recovery_manager.service import ServerRecoveryManager as ServerRecoveryManager
