"""Formats of a language where Django's own are not what its people write."""
