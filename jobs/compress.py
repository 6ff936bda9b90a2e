"""spark-submit jobs/compress.py --env cluster [key=value ...]: the stage `compress`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "compress", *sys.argv[1:]]))
