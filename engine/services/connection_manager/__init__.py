"""Cisco XCP Connection Manager: client connections over STARTTLS and direct TLS."""
