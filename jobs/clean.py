"""spark-submit jobs/clean.py --env cluster [key=value ...]: the stage `clean`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "clean", *sys.argv[1:]]))
