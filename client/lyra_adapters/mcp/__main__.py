"""`python -m lyra_adapters.mcp`."""

import sys

from lyra_adapters.mcp import main

sys.exit(main())
