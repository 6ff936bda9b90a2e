"""spark-submit jobs/run.py STEP... --env cluster [--pipeline NAME] [key=value ...]: some steps of a pipeline."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
