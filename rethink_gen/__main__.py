"""`python -m rethink_gen`: the same as the command `rethink-gen`."""

import sys

from rethink_gen.cli.main import main

sys.exit(main())
