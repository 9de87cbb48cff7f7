"""Keeps a serving host's directory, and the engine that serves from it, in step with what is in force."""
