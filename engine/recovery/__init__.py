"""High availability of a Presence Redundancy Group without sockets, clock or database."""
