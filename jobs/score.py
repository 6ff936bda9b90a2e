"""spark-submit jobs/score.py --env cluster [key=value ...]: the stage `score`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "score", *sys.argv[1:]]))
