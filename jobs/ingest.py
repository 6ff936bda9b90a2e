"""spark-submit jobs/ingest.py --env cluster [key=value ...]: the stage `ingest`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "ingest", *sys.argv[1:]]))
