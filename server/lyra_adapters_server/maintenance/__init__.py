"""What operators do with a registry itself: examine and mend it, back it up, restore it. No gRPC, no torch."""
