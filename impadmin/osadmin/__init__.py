"""Cisco Unified IM and Presence OS Administration: certificates."""
