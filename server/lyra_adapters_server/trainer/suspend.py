"""How work learns that it has to end now and will go on in another process. Imports no torch."""

from __future__ import annotations


class Suspend(Exception):
    """Thrown into work between two turns: write down what is needed to go on, say so, and end."""
