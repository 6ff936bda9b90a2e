"""`python -m sparkml.cli`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
