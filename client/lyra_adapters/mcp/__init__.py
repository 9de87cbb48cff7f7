"""Tools for language models over MCP, `lyra-adapters-mcp`.

This file needs nothing but the standard library: it says what is missing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the tools over stdio or HTTP until it is stopped, and returns the exit status."""
    try:
        command = importlib.import_module("lyra_adapters.mcp.command")
    except ImportError as error:
        # Also an SDK that is too old to have what is imported from it. A fault of this package's own is raised.
        if (error.name or "").startswith("lyra_adapters"):
            raise
        print(
            f"lyra-adapters-mcp needs packages that are not installed, or newer ones ({error}).\n"
            "Install them: pip install 'lyra-adapters[mcp]'",
            file=sys.stderr,
        )
        return 2
    status: int = command.run(list(sys.argv[1:] if argv is None else argv))
    return status
