"""Links between the nodes of one cluster (docs/decisions/0011-node-links.md)."""
