"""`python -m kernels.interpreter`."""

import sys

from .cli import main

sys.exit(main())
