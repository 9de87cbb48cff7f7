"""A job's life: acceptance, states, events, the supervisor. No gRPC, no torch."""
