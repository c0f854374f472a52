"""`python -m tuner` is `wattfront`."""

import sys

from tuner.cli import main

sys.exit(main())
