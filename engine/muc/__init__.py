"""Rooms of XEP-0045 as a pure machine: stanzas and the time go in, stanzas come out. No input, no output, no waiting.

``rooms.Rooms`` is the whole of it for one chat node; the service Cisco XCP Text Conference Manager carries its answers.
"""
