"""Who calls, what it may do, and which adapters exist for it."""
