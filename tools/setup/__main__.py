"""`python3 -B tools/setup [--s3] [--kafka] [--lock] [--upgrade]`: the command line of the set-up."""

import os
import sys

# This file alone must also run on the other Pythons that a machine may call python3: it says what is missing.
if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    found = "{} is {}.{}".format(sys.executable, *sys.version_info)
    sys.exit(
        f"setup: Python 3.10, 3.11 or 3.12 is missing ({found}); or name one: make setup PYTHON=python3.11"
    )
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tools.setup.steps import main

sys.exit(main(sys.argv[1:]))
