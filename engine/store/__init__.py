"""The engine's access to PostgreSQL: one module per table family. No other package of the engine has SQL."""
