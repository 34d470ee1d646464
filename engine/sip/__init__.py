"""SIP without input and output: bytes and time go in, messages and bytes come out (RFC 3261 and its companions)."""
