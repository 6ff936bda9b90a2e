"""spark-submit jobs/run_all.py --env cluster [--until STAGE] [key=value ...]: the whole way."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run-all", *sys.argv[1:]]))
