"""`python -m lyra_adapters.cli`."""

import sys

from lyra_adapters.cli import main

sys.exit(main())
