"""spark-submit jobs/report.py --env cluster [key=value ...]: the stage `report`."""

import sys

from sparkml.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "report", *sys.argv[1:]]))
