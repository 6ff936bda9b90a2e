"""spark-submit jobs/finetune.py --env cluster [key=value ...]: the stage `finetune`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "finetune", *sys.argv[1:]]))
