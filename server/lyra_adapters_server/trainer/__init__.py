"""The engine, and the only place that imports torch: takes a spec, yields events. No gRPC, no SQL."""
