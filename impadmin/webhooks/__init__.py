"""Webhooks: changes, jobs and alarms told to other systems by signed HTTP requests."""
