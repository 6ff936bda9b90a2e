"""The identities that hold after every successful run, recomputed with another reader (delta-rs).

python tests/identities.py LAKE
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable


def table(lake: str | Path, name: str, version: int | None = None) -> pa.Table:
    """A table as delta-rs reads it."""
    return DeltaTable(str(Path(lake, name)), version=version).to_pyarrow_table()


def column(lake: str | Path, name: str, field: str) -> list[object]:
    """One column as a list."""
    return table(lake, name).column(field).to_pylist()


def violations(lake: str | Path, *, similarity_threshold: float = 0.7) -> list[str]:
    """Every identity that does not hold, in words; empty for a sound lake."""
    return [
        *_accounts(lake),
        *_keys(lake),
        *_duplicates(lake, similarity_threshold),
        *_samples(lake),
        *_scores(lake),
        *_runs(lake),
    ]


def _rejected(lake: str | Path, stage: str) -> int:
    return column(lake, "rejects", "stage").count(stage)


def names_of_tables(lake: str | Path) -> list[str]:
    """The tables that the lake holds."""
    return sorted(path.parent.name for path in Path(lake).glob("*/_delta_log"))


def _accounts(lake: str | Path) -> list[str]:
    bronze, clean = len(column(lake, "bronze", "doc_id")), len(column(lake, "clean", "doc_id"))
    kept, duplicates = len(column(lake, "kept", "doc_id")), len(column(lake, "duplicates", "doc_id"))
    read = max(row["rows_in"] for row in _succeeded(lake) if row["stage"] == "ingest")
    claims = {
        "records read = bronze + rejects of ingest": (read, bronze + _rejected(lake, "ingest")),
        "bronze = clean + rejects of clean": (bronze, clean + _rejected(lake, "clean")),
        "clean = kept + duplicates + rejects of dedupe": (
            clean,
            kept + duplicates + _rejected(lake, "dedupe"),
        ),
    }
    return [f"{claim}: {left} != {right}" for claim, (left, right) in claims.items() if left != right]


def _keys(lake: str | Path) -> list[str]:
    keys = {
        "bronze": ["doc_id"],
        "clean": ["doc_id"],
        "rejects": ["stage", "doc_id"],
        "kept": ["doc_id"],
        "duplicates": ["doc_id"],
        "samples": ["sample_id"],
        "manifests": ["manifest_id"],
        "models": ["model_id", "version"],
        "scores": ["doc_id", "model_id", "model_version"],
        "_runs": ["run_id"],
    }
    found = []
    for name, fields in keys.items():
        rows = table(lake, name)
        distinct = rows.select(fields).group_by(fields).aggregate([]).num_rows
        if distinct != rows.num_rows:
            found.append(f"{name}: {rows.num_rows} rows, {distinct} keys of {fields}")
        if rows.column("run_id").null_count:
            found.append(f"{name}: rows without run_id")
    return found


def _duplicates(lake: str | Path, threshold: float) -> list[str]:
    kept = set(column(lake, "kept", "doc_id"))
    rows = table(lake, "duplicates").to_pylist()
    found = [f"kept_id {row['kept_id']} is not kept" for row in rows if row["kept_id"] not in kept]
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


def _samples(lake: str | Path) -> list[str]:
    kept = set(column(lake, "kept", "doc_id"))
    rows = table(lake, "samples")
    sides: dict[str, set[str]] = {"train": set(), "validation": set()}
    for row in rows.select(["split", "doc_ids"]).to_pylist():
        sides[row["split"]].update(row["doc_ids"])
    found = []
    if foreign := (sides["train"] | sides["validation"]) - kept:
        found.append(f"samples of documents that are not kept: {sorted(foreign)[:3]}")
    if both := sides["train"] & sides["validation"]:
        found.append(f"documents in train and validation: {sorted(both)[:3]}")
    lengths = set(pc.list_value_length(rows.column("input_ids")).to_pylist())
    if len(lengths) > 1:
        found.append(f"samples of different lengths: {sorted(lengths)}")
    for row in table(lake, "manifests").to_pylist():
        counted = sum(sum(file["row_groups"]) for file in row["files"])
        pinned = table(lake, "samples", row["version"]).column("split").to_pylist().count(row["split"])
        if not counted == pinned == row["rows"]:
            found.append(
                f"manifest {row['split']}: {counted} in row groups, {pinned} in the table, {row['rows']} said"
            )
    return found


def _scores(lake: str | Path) -> list[str]:
    kept = sorted(str(doc_id) for doc_id in column(lake, "kept", "doc_id"))
    rows = table(lake, "scores").to_pylist()
    newest = max((row["model_version"] for row in rows), default=0)
    scored = sorted(row["doc_id"] for row in rows if row["model_version"] == newest)
    found = [] if scored == kept else [f"{len(kept)} kept, {len(scored)} scored by version {newest}"]
    empty = [row["doc_id"] for row in rows if (row["prediction"] is None) == (row["error"] is None)]
    return found + ([f"neither scored nor failed: {empty[:3]}"] if empty else [])


def _succeeded(lake: str | Path) -> list[dict[str, object]]:
    rows = table(lake, "_runs").to_pylist()
    return [row for row in rows if row["status"] == "succeeded"]


def _runs(lake: str | Path) -> list[str]:
    found = []
    for row in _succeeded(lake):
        rejected = row["rows_rejected"]
        if row["rows_in"] != row["rows_kept"] + rejected:
            found.append(f"{row['run_id']}: {row['rows_in']} != {row['rows_kept']} + {rejected}")
    known = {row["run_id"] for row in _succeeded(lake)}
    for name in ("bronze", "clean", "kept", "duplicates", "samples", "scores"):
        strangers = set(column(lake, name, "run_id")) - known
        if strangers:
            found.append(f"{name}: rows of runs that did not succeed: {sorted(map(str, strangers))[:3]}")
    return found


if __name__ == "__main__":
    broken = violations(sys.argv[1])
    sys.stdout.write("\n".join(broken) + "\n" if broken else "all identities hold\n")
    sys.exit(1 if broken else 0)
