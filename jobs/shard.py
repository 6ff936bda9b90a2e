"""spark-submit jobs/shard.py --env cluster [key=value ...]: the stage `shard`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "shard", *sys.argv[1:]]))
