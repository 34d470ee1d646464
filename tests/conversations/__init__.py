"""Conversations as files: see README.md. ``python -m tests.conversations`` plays them against a real Prosody."""
