"""gRPC only: the servicer, conversion between messages and domain, interceptors. No torch, no SQL."""
