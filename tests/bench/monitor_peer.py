"""What evidently says of each day beside the reference: `python monitor_peer.py DAYS.parquet REFERENCE_DAYS`."""

import json
import sys
import time
import warnings

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")


def main() -> None:
    """Print, of every day behind the reference, whether any column drifted and whether the data set did."""
    frame = pd.read_parquet(sys.argv[1])
    first = int(sys.argv[2])
    definition = DataDefinition(
        numerical_columns=["score", "characters", "words"],
        categorical_columns=["prediction"],
        text_columns=["text"],
    )
    reference = Dataset.from_pandas(frame[frame.day < first].drop(columns="day"), data_definition=definition)
    found: dict[str, list[bool]] = {"any": [], "dataset": []}
    begun = time.monotonic()
    for day in range(first, int(frame.day.max()) + 1):
        current = Dataset.from_pandas(frame[frame.day == day].drop(columns="day"), data_definition=definition)
        snapshot = Report([DataDriftPreset()]).run(current, reference)
        metrics = json.loads(snapshot.json())["metrics"]
        drifted = next(m["value"] for m in metrics if m["metric_name"].startswith("DriftedColumnsCount"))
        found["any"].append(drifted["count"] > 0)
        found["dataset"].append(drifted["share"] >= 0.5)
    print(json.dumps({**found, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
