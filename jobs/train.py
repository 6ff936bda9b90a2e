"""spark-submit jobs/train.py --env cluster [key=value ...]: the stage `train`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "train", *sys.argv[1:]]))
