"""The identities that hold after every successful run, recomputed with another reader (delta-rs) from the tables alone.

python -m tests.identities LAKE

Steps are taken from the ledger: a lake may hold any number of them, of any pipeline.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder

Run = dict[str, Any]
KEYS = {
    "bronze": ["doc_id"],
    "clean": ["doc_id"],
    "rejects": ["step", "doc_id"],
    "kept": ["doc_id"],
    "duplicates": ["doc_id"],
    "samples": ["sample_id"],
    "manifests": ["manifest_id"],
    "models": ["model_id", "version"],
    "scores": ["step", "doc_id", "model_id", "model_version"],
    "_runs": ["run_id"],
}
# Tables in which each step owns some rows.
SHARED = ("rejects", "scores", "manifests")
TRACED = 3


def table(lake: str | Path, name: str, version: int | None = None) -> pa.Table:
    """A table as delta-rs reads it."""
    found = DeltaTable(str(Path(lake, name)), version=version)
    rows = pa.table(QueryBuilder().register("rows", found).execute("SELECT * FROM rows").read_all())
    return rows.cast(pa.schema(found.schema().to_arrow()))


def column(lake: str | Path, name: str, field: str, version: int | None = None) -> list[Any]:
    """One column as a list."""
    return table(lake, name, version).column(field).to_pylist()


def tables_of(lake: str | Path) -> list[str]:
    """The tables of a lake."""
    return sorted(log.parent.name for log in Path(lake).glob("*/_delta_log") if any(log.glob("*.json")))


def violations(
    lake: str | Path, *, similarity_threshold: float = 0.7, copy_of: str | None = None
) -> list[str]:
    """Every identity that does not hold, in words; empty for a sound lake.

    `copy_of`: the URI that a lake was copied from; its rows name files there.
    """
    last = {str(run["step"]): run for run in succeeded(lake)}
    found = [*_keys(lake), *_ledger(lake), *_models(lake, copy_of or str(lake)), *_traces(lake, last)]
    for run in last.values():
        found += _account(lake, run)
        check = _BY_STAGE.get(str(run["stage"]))
        found += check(lake, run, similarity_threshold) if check else []
    return found


def succeeded(lake: str | Path) -> list[Run]:
    """The runs that succeeded, oldest first, `inputs` and `outputs` as {table: version}."""
    rows = [row for row in table(lake, "_runs").to_pylist() if row["status"] == "succeeded"]
    for row in rows:
        for name in ("inputs", "outputs"):
            row[name] = {pair["table"]: pair["version"] for pair in row[name] or []}
        row["config"] = json.loads(row["config"])
    return sorted(rows, key=lambda row: row["started_at"])


def _keys(lake: str | Path) -> list[str]:
    found = []
    for name in tables_of(lake):
        rows = table(lake, name)
        fields = KEYS.get(name, [])
        distinct = rows.select(fields).group_by(fields).aggregate([]).num_rows if fields else rows.num_rows
        if distinct != rows.num_rows:
            found.append(f"{name}: {rows.num_rows} rows, {distinct} keys of {fields}")
        if rows.column("run_id").null_count:
            found.append(f"{name}: rows without run_id")
    return found


def _rejects(lake: str | Path, run: Run) -> pa.Table:
    """The rejects of a step as its last run left them."""
    name = run["config"].get("rejects", "rejects")
    version = run["outputs"].get(name)
    if version is None:
        return pa.table({"doc_id": [], "drop_reason": []})
    rows = table(lake, name, version)
    return rows.filter(pc.equal(rows.column("step"), run["step"]))


def _account(lake: str | Path, run: Run) -> list[str]:
    """Rows in = rows kept + rows rejected, by the ledger and by the tables."""
    if run["rows_in"] is None:
        return []
    found = []
    kept, rejected = run["rows_kept"], run["rows_rejected"] or 0
    if run["rows_in"] != kept + rejected:
        found.append(f"{run['run_id']}: {run['rows_in']} != {kept} + {rejected}")
    if sum(dict(run["reasons"] or []).values()) != rejected:
        found.append(f"{run['run_id']}: the reasons do not add up to {rejected}")
    source = run["config"].get("source")
    if isinstance(source, str) and source in run["inputs"] and run["stage"] != "stream":
        read = table(lake, source, run["inputs"][source]).num_rows
        if read != run["rows_in"]:
            found.append(f"{run['run_id']}: {source} has {read} rows, the ledger says {run['rows_in']}")
    return found


def _ingest(lake: str | Path, run: Run, _: float) -> list[str]:
    target = run["config"]["target"]
    bronze, rejects = table(lake, target, run["outputs"][target]).num_rows, _rejects(lake, run).num_rows
    if run["rows_in"] != bronze + rejects:
        return [
            f"records read = {target} + rejects of {run['step']}: {run['rows_in']} != {bronze} + {rejects}"
        ]
    return []


def _clean(lake: str | Path, run: Run, _: float) -> list[str]:
    source, target = run["config"]["source"], run["config"]["target"]
    before = sorted(column(lake, source, "doc_id", run["inputs"][source]))
    kept = column(lake, target, "doc_id", run["outputs"][target])
    if before != sorted([*kept, *_rejects(lake, run).column("doc_id").to_pylist()]):
        return [f"{source} = {target} + rejects of {run['step']} does not hold"]
    return []


def _dedupe(lake: str | Path, run: Run, threshold: float) -> list[str]:
    config, outputs = run["config"], run["outputs"]
    kept = set(column(lake, config["target"], "doc_id", outputs[config["target"]]))
    rows = table(lake, config["duplicates"], outputs[config["duplicates"]]).to_pylist()
    before = column(lake, config["source"], "doc_id", run["inputs"][config["source"]])
    after = [*kept, *(row["doc_id"] for row in rows), *_rejects(lake, run).column("doc_id").to_pylist()]
    found = (
        [] if sorted(before, key=str) == sorted(after, key=str) else [f"{run['step']}: documents were lost"]
    )
    found += [f"kept_id {row['kept_id']} is not kept" for row in rows if row["kept_id"] not in kept]
    found += [f"{row['doc_id']} is kept and a duplicate" for row in rows if row["doc_id"] in kept]
    clusters: dict[str, set[str]] = {}
    members: dict[str, set[str]] = {}
    for row in rows:
        clusters.setdefault(row["cluster_id"], set()).add(row["kept_id"])
        members.setdefault(row["cluster_id"], {row["kept_id"]}).add(row["doc_id"])
        if row["kind"] == "near" and not row["similarity"] >= threshold:
            found.append(f"{row['doc_id']}: near with similarity {row['similarity']}")
    found += [f"cluster {cluster} keeps {sorted(ids)}" for cluster, ids in clusters.items() if len(ids) != 1]
    found += [
        f"{row['doc_id']}: partner {row['partner_id']} is not in its cluster"
        for row in rows
        if row["partner_id"] not in members[row["cluster_id"]]
    ]
    return found


def _shard(lake: str | Path, run: Run, _: float) -> list[str]:
    config = run["config"]
    rows = table(lake, config["target"], run["outputs"][config["target"]])
    found = _samples(lake, run, config["target"], rows, "doc_ids")
    lengths = set(pc.list_value_length(rows.column("input_ids")).to_pylist())
    if len(lengths) > 1:
        found.append(f"samples of different lengths: {sorted(lengths)}")
    return found


def _finetune(lake: str | Path, run: Run, _: float) -> list[str]:
    config = run["config"]
    name = config["samples"]
    rows = table(lake, name, run["outputs"][name])
    found = _samples(lake, run, name, rows, "doc_id")
    windows = set(zip(rows.column("doc_id").to_pylist(), rows.column("window").to_pylist(), strict=True))
    if rows.num_rows != len(windows):
        found.append(f"a window stands twice in {name}")
    return found


def _samples(lake: str | Path, run: Run, name: str, rows: pa.Table, ids: str) -> list[str]:
    """Samples are of documents of the source, each in one split, and pinned by one manifest a split."""
    config, version = run["config"], run["outputs"][name]
    kept = set(column(lake, config["source"], "doc_id", run["inputs"][config["source"]]))
    sides: dict[str, set[str]] = {}
    for row in rows.select(["split", ids]).to_pylist():
        sides.setdefault(row["split"], set()).update(row[ids] if ids == "doc_ids" else [row[ids]])
    found = []
    if foreign := set().union(*sides.values()) - kept:
        found.append(f"samples of documents that are not in {config['source']}: {sorted(foreign)[:3]}")
    if both := sides.get("train", set()) & sides.get("validation", set()):
        found.append(f"documents in train and validation: {sorted(both)[:3]}")
    manifests = [
        row
        for row in table(lake, config["manifests"]).to_pylist()
        if (row["table"], row["version"]) == (name, version)
    ]
    if sorted(row["split"] for row in manifests) != ["train", "validation"]:
        found.append(f"{name}@{version} is not pinned by one manifest a split")
    for row in manifests:
        counted = sum(sum(file["row_groups"]) for file in row["files"])
        pinned = rows.column("split").to_pylist().count(row["split"])
        if not counted == pinned == row["rows"]:
            found.append(
                f"manifest {row['split']}: {counted} in row groups, {pinned} in the table, {row['rows']} said"
            )
    return found


def _score(lake: str | Path, run: Run, _: float) -> list[str]:
    config = run["config"]
    wanted = sorted(map(str, column(lake, config["source"], "doc_id", run["inputs"][config["source"]])))
    model = next((ref.partition(":")[2], v) for ref, v in run["inputs"].items() if ref.startswith("models:"))
    rows = [
        row
        for row in table(lake, config["target"], run["outputs"][config["target"]]).to_pylist()
        if (row["step"], row["model_id"], row["model_version"]) == (run["step"], *model)
    ]
    scored = sorted(row["doc_id"] for row in rows)
    found = (
        []
        if scored == wanted
        else [f"{run['step']}: {len(wanted)} documents, {len(scored)} scored by {model}"]
    )
    empty = [row["doc_id"] for row in rows if (row["prediction"] is None) == (row["error"] is None)]
    return found + ([f"neither scored nor failed: {empty[:3]}"] if empty else [])


def _stream(lake: str | Path, run: Run, _: float) -> list[str]:
    """What of a followed table is there now was answered; what it had before may have been, too."""
    config = run["config"]
    rows = [row for row in table(lake, config["target"]).to_pylist() if row["step"] == run["step"]]
    scored = {row["doc_id"] for row in rows}
    found = []
    if config["source"] in run["inputs"]:
        ids = column(lake, config["source"], "doc_id", run["inputs"][config["source"]])
        found += [
            f"{run['step']}: {doc_id} was not scored" for doc_id in ids if doc_id not in scored | {None}
        ]
    empty = [row["doc_id"] for row in rows if (row["prediction"] is None) == (row["error"] is None)]
    return found + ([f"neither scored nor failed: {empty[:3]}"] if empty else [])


_BY_STAGE = {
    "ingest": _ingest,
    "clean": _clean,
    "dedupe": _dedupe,
    "shard": _shard,
    "finetune": _finetune,
    "score": _score,
    "stream": _stream,
}


def _ledger(lake: str | Path) -> list[str]:
    """Every version that a succeeded run names is there; what it read, a succeeded run (or a stranger) had left."""
    runs = {run["run_id"]: run for run in succeeded(lake)}
    rows = table(lake, "_runs").to_pylist()
    known = {row["run_id"] for row in rows}
    whole = {row["run_id"] for row in rows if "whole_commits" in dict(row["metrics"] or ())}
    counting = runs.keys() | whole
    found = []
    for run in runs.values():
        found += [
            f"{run['run_id']}: parent {parent} did not succeed"
            for parent in run["parent_run_ids"]
            if parent not in runs
        ]
        for kind in ("inputs", "outputs"):
            for name, version in run[kind].items():
                if name.startswith("models:") or "/" in name:
                    continue
                writer = _writer(lake, name, version)
                if writer in known and writer not in counting:
                    found.append(
                        f"{run['run_id']}: {name}@{version} of its {kind} was left by {writer}, which did not succeed"
                    )
                if kind == "outputs" and name not in SHARED and writer != run["run_id"]:
                    found.append(f"{run['run_id']}: {name}@{version} was written by {writer}")
    for name in tables_of(lake):
        strangers = set() if name == "_runs" else set(column(lake, name, "run_id")) & (known - counting)
        if strangers:
            found.append(f"{name}: rows of runs that did not succeed: {sorted(strangers)[:3]}")
    return found


@cache
def _history(lake: str, name: str, newest: int) -> dict[int, str | None]:
    writers = {}
    for commit in DeltaTable(str(Path(lake, name))).history():
        mark = commit.get("userMetadata")
        writers[commit["version"]] = json.loads(mark).get("run_id") if mark else None
    return writers


def _writer(lake: str | Path, name: str, version: int) -> str | None:
    newest = DeltaTable(str(Path(lake, name))).version()
    return _history(str(lake), name, newest).get(version)


def _models(lake: str | Path, home: str) -> list[str]:
    """Every file of every model of a succeeded run is as it was written."""
    if "models" not in tables_of(lake):
        return []
    runs = {run["run_id"] for run in succeeded(lake)}
    return [
        problem
        for row in table(lake, "models").to_pylist()
        if row["stage_run"] in runs
        for problem in _damage(Path(row["path"].replace(home, str(lake), 1)))
    ]


def _damage(folder: Path) -> Iterator[str]:
    sums = json.loads((folder / "checksums.json").read_text())
    for name, entry in sums.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != entry["sha256"]:
            yield f"{folder / name} is not as it was written"


def _traces(lake: str | Path, last: dict[str, Run]) -> list[str]:
    """From a few rows of each kind a trace leads over every step on the way, at the versions of the ledger."""
    from sparkml.frame.ledger import Ledger
    from sparkml.frame.lineage import trace
    from sparkml.frame.tables import Tables

    def no_session() -> Any:
        raise AssertionError("a trace needs no Spark")

    tables = Tables(str(lake), no_session)
    found = []
    for name in ("scores", "kept", "clean", "duplicates", "rejects"):
        rows = table(lake, name).to_pylist() if name in tables_of(lake) else []
        for row in sorted(rows, key=lambda row: str(row["doc_id"]))[:TRACED]:
            if row["doc_id"] is None:
                continue
            stations = trace(tables, Ledger(tables), name, row["doc_id"])
            steps = dict(stations[-1].facts) if stations else {}
            if row["run_id"] not in steps:
                found.append(f"the trace of {row['doc_id']} in {name} does not begin at {row['run_id']}")
            for run in _ancestors(last, row["run_id"]):
                if run["run_id"] not in steps:
                    found.append(f"the trace of {row['doc_id']} in {name} leaves out {run['run_id']}")
    return found


def _ancestors(last: dict[str, Run], run_id: str) -> list[Run]:
    runs = {run["run_id"]: run for run in last.values()}
    found, queue = [], [run_id]
    while queue:
        run = runs.get(queue.pop())
        if run is not None and run not in found:
            found.append(run)
            queue += run["parent_run_ids"]
    return found


if __name__ == "__main__":
    broken = violations(sys.argv[1])
    sys.stdout.write("\n".join(broken) + "\n" if broken else "all identities hold\n")
    sys.exit(1 if broken else 0)
