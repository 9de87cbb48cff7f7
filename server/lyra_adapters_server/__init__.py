"""The server: a gRPC service, its jobs, its registry and its trainer (docs/architecture.md)."""
