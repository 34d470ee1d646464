"""One small file per XEP or rule. Importing a module of this package attaches it (see registry.py)."""
