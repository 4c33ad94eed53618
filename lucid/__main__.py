"""``python -m lucid``: the lucid command."""

import sys

from lucid.cli import main

sys.exit(main())
