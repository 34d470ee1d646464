"""All that the console may import of the engine: configuration, names, parameters, pure rules shared by both sides."""
