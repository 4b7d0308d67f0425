"""`python -m kernels.interpreter check` is `metal-check`."""

import sys

from .cli import main

sys.exit(main())
