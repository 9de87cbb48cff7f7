"""Versions, the pointer in force, the gate's verdict, and publishing files durably."""
