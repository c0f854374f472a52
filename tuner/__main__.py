"""`python -m tuner` is `wattfront`."""

import sys

from tuner.cli.parser import main

sys.exit(main())
