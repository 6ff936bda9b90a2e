"""Images from files to scores, by their pipeline; `tests/slow` has sounds and the other pipelines beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import identities, media
from tests.command_line import call


@pytest.mark.rare
def test_images_from_files_to_scores(spark: object, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    words = media.settings("images", media.write(tmp_path / "media"))
    code, shown = call("run-all", "--pipeline", "images", f"lake={lake}", *words, *media.SMALL)
    assert code == 0, shown[-3000:]
    assert identities.violations(lake) == []
    rejects = identities.table(lake, "rejects").to_pylist()
    assert [(row["step"], row["drop_reason"]) for row in rejects] == [("images", "broken_image")]
    assert identities.column(lake, "images_duplicates", "kind") == ["exact"]
    kept = identities.table(lake, "images_kept").select(["doc_id", "label"]).to_pylist()
    labels = {row["doc_id"]: row["label"] for row in kept}
    scores = identities.table(lake, "scores").to_pylist()
    assert len(scores) == len(labels) == 2 * media.EACH + 1
    assert [row["error"].split()[0] for row in scores if row["error"]] == ["broken_image"]
    right = [row["prediction"] == labels[row["doc_id"]] for row in scores if not row["error"]]
    assert sum(right) >= 2 * media.EACH - 2
    (run,) = (run for run in identities.succeeded(lake) if run["step"] == "images")
    assert dict(run["metrics"])["accuracy"] > 0.8
    assert dict(run["metrics"])["baseline_accuracy"] > 0.5
