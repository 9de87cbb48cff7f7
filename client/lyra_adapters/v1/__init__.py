"""The generated stubs of `lyra_adapters.v1` (protos/generate.py). Never edited by hand."""
