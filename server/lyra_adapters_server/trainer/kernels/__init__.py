"""Compiled parts of the engine for CPUs that multiply bfloat16: see build.py (how) and ops.py (what)."""
