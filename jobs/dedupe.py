"""spark-submit jobs/dedupe.py --env cluster [key=value ...]: the stage `dedupe`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "dedupe", *sys.argv[1:]]))
