"""The XMPP protocol core: bytes, answers and time in; bytes, events and stanzas out. No sockets, no event loop."""
