"""``python -m lucid``: the lucid command."""

import sys

from lucid_command import main

sys.exit(main())
