"""spark-submit jobs/run_all.py --env cluster [--pipeline NAME] [--until STEP] [key=value ...]: a whole pipeline."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run-all", *sys.argv[1:]]))
