from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sparkml
from sparkml.errors import ConfigError, StorageError
from sparkml.frame import storage
from sparkml.frame.registry import ModelRecord
from sparkml.measures.calibration import ReliabilityBin
from sparkml.measures.evaluation import ConfusionCell, Evaluation, LabelFigures, Mistake
from sparkml.measures.intervals import Interval
from sparkml.report.charts import Bars
from sparkml.report.contents import Contents, Part
from sparkml.report.evaluations import EVALUATION, Measured, facts_of, headline, measured_facts
from sparkml.report.lake import Model, Place
from sparkml.report.page import render
from sparkml.report.rejects import Example, Reason, Rejects, StepRejects
from sparkml.report.section import Facts, Rows, Section
from sparkml.report.steps import Provenance
from sparkml.stages.report import destination
from tests.unit.report.page_reader import Page

EVIL = "</style><script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>"


def page_of(*parts: Part, title: str = "sparkml run report", lake: str = "/lakes/demo") -> Contents:
    return Contents(
        title=title,
        lake=lake,
        run_id="20260301T120000-report-abcdef",
        written_at=datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc),
        provenance=Provenance(),
        parts=parts,
    )


def rejected(text: str) -> Part:
    example = Example("d1", text, text, 3.0, 50.0, text, text)
    reason = Reason("too_few_words", 4, 0.4, 1.0, 7.0, 1.0, 49.0, (50.0,), (example,))
    found = Rejects(4, (StepRejects("clean", "clean", 4, 10, (reason,), 0),))
    return Part("rejects", "Rejected documents", "rejects", found)


def tuned(label: str, step: str = "topics") -> Part:
    figures = Evaluation(
        n=16,
        metrics={"accuracy": 0.9, "macro_f1": 0.8},
        intervals={"accuracy": Interval(0.75, 0.99, 0.95)},
        labels=(LabelFigures(label, 0.5, 0.25, 1 / 3, 12), LabelFigures("b", 1.0, 1.0, 1.0, 4)),
        confusion=(ConfusionCell(label, label, 9), ConfusionCell(label, "b", 3), ConfusionCell("b", "b", 4)),
        calibration=(ReliabilityBin(0.5, 1.0, 0.8, 0.75, 16),),
        worst=(Mistake("d1", label, "b", 0.99),),
    )
    found = facts_of(
        Measured(
            f"{step}/v2",
            "encoder/v1",
            "/models/topics/v2",
            figures,
            Evaluation(n=16, metrics={"accuracy": 0.7}),
            {"training loss": ((1.0, 2.0), (2.0, 1.0)), "held-out accuracy": ((2.0, 0.9),)},
            (("optimiser steps", "2"),),
        )
    )
    return Part(
        f"{step}.{EVALUATION.key}",
        f"Evaluation: {step}",
        EVALUATION.template,
        found,
        step=step,
        charts=EVALUATION.charts(found),
    )


def plain(found: Facts, step: str = "languages") -> Part:
    section = Section("Languages", lambda view: found)
    return Part(
        f"{step}.{section.key}",
        section.title,
        section.template,
        found,
        step=step,
        charts=section.charts(found),
    )


def test_a_part_without_contents_is_a_sentence() -> None:
    page = Page(
        render(page_of(Part("funnel", "Funnel", "funnel", None, "No step has counted documents yet.")))
    )
    assert page.sections == ["summary", "funnel"]
    assert page.text("funnel") == "Funnel No step has counted documents yet."


def test_texts_of_documents_cannot_become_markup() -> None:
    facts = Facts(
        EVIL, {EVIL: EVIL}, (Rows(EVIL, (EVIL,), ((EVIL,),)),), {EVIL: Bars([EVIL], [1], EVIL, EVIL, EVIL)}
    )
    page = render(page_of(rejected(EVIL), tuned(EVIL), plain(facts), title=EVIL, lake=EVIL))
    found = Page(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(found.tags)
    assert found.tags.count("style") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page


def test_a_page_refers_to_nothing_outside_itself() -> None:
    page = render(page_of(rejected("some text"), tuned("numpy"), tuned("numpy", "tone")))
    found = Page(page)
    assert found.references
    assert all(reference.startswith("#") for reference in found.references)
    assert len(found.ids) == len(set(found.ids))
    assert {reference[1:] for reference in found.references} <= set(found.ids)
    assert not re.search(r"url\((?!#)|@import|https?://", page)
    assert "default-src 'none'" in page


def test_two_sections_of_one_stage_have_their_own_anchors_titles_and_drawings() -> None:
    found = Page(render(page_of(tuned("numpy"), tuned("torch", "tone"))))
    assert found.sections == ["summary", "topics.evaluation", "tone.evaluation"]
    assert "numpy" in found.text("topics.evaluation")
    assert "torch" not in found.text("topics.evaluation")
    assert "model tone/v2 made from encoder/v1" in found.text("tone.evaluation")
    # Loss, held-out accuracy, calibration and confusion matrix of each.
    assert found.tags.count("svg") == 8


def test_figures_and_headers_of_tables_are_there_for_those_who_do_not_see() -> None:
    table = Rows("By language", ("language", "documents"), (("en", 3),))
    page = render(page_of(rejected("text"), tuned("numpy"), plain(Facts(tables=(table,)))))
    assert '<html lang="en">' in page
    assert page.count("<svg") == page.count('role="img" aria-label=') == 4
    assert page.count("<table") == page.count("<caption>")
    assert not re.search(r"<th>|<th class", page)  # every header says of what: scope="row" or "col"
    assert 'scope="row"' in page


def test_an_evaluation_is_compared_with_the_simple_model() -> None:
    text = Page(render(page_of(tuned("numpy")))).text("topics.evaluation")
    lead = "Accuracy 0.900 (95% of resamples: 0.750 to 0.990) on 16 examples; the simple model reaches 0.700."
    assert lead in text
    assert "accuracy 0.9 0.75 0.99 0.7" in text
    assert "numpy 0.5 0.25 0.333 12" in text
    assert "numpy b 3" in text  # the one confusion that is no hit
    assert "d1 numpy b 0.99" in text


def test_the_first_metric_is_the_tasks_own() -> None:
    assert headline(Evaluation(n=1, metrics={"mae": 3.0, "rmse": 4.0})) == ("rmse", 4.0)
    assert headline(Evaluation(n=1, metrics={"bleu": 0.2})) == ("bleu", 0.2)
    assert headline(Evaluation(n=0, metrics={})) is None


def test_a_model_without_an_evaluation_shows_its_loss() -> None:
    curves = {"training loss": ((1.0, 2.0), (2.0, 1.0))}
    found = facts_of(Measured("encoder/v1", "", "/models/encoder/v1", None, None, curves))
    assert "The loss is the only figure" in found.lead
    assert (list(found.charts), found.tables) == (["Loss"], ())


def test_what_a_model_was_measured_to_be_is_shown_in_full() -> None:
    """The stage evaluate makes no model: what it found lies in a file of the step."""
    figures = Evaluation(n=8, metrics={"accuracy": 0.75}, worst=(Mistake("d1", "a", "b", 0.99),))
    files = {("tested", "f1"): json.loads(figures.to_json())}
    model = Model(ModelRecord("topics", 3, "/models/topics/v3", "finetuned"))
    view: Any = SimpleNamespace(
        step="tested",
        run=SimpleNamespace(fingerprint="f1"),
        lake=SimpleNamespace(evaluation=lambda step, fingerprint: files.get((step, fingerprint), {})),
        model=lambda field: {"model": model}[field],
        place=lambda field: {"source": Place("kept", 5)}[field],
        config={"split": "test"},
    )
    found = measured_facts(view)
    assert found is not None
    assert found.lead == "Accuracy 0.750 on 8 examples."
    assert {"model": "topics/v3", "table": "kept version 5", "split": "test"}.items() <= found.values.items()
    assert [table.caption for table in found.tables][-1].startswith("Worst mistakes")
    view.run = SimpleNamespace(fingerprint="gone")
    assert measured_facts(view) is None


def test_models_that_were_measured_on_the_same_examples_stand_in_one_table_best_first() -> None:
    def measured(model: str, accuracy: float, *, simple: float | None, rows: int) -> Measured:
        figures = Evaluation(
            n=8, metrics={"accuracy": accuracy}, intervals={"accuracy": Interval(0.5, 0.9, 0.95)}
        )
        baseline = None if simple is None else Evaluation(n=8, metrics={"accuracy": simple})
        return Measured(
            f"{model}/v1", "start", f"/{model}", figures, baseline, {}, (("training examples", rows),)
        )

    mine = measured("own", 0.7, simple=0.75, rows=900)
    table = facts_of(mine, [measured("minilm", 0.8, simple=None, rows=300)]).tables[0]
    assert table.caption == "Models on the same held-out examples"
    assert [list(row) for row in table.rows] == [
        ["minilm/v1", "start", 300, 0.8, 0.5, 0.9],
        ["simple model of own/v1", "–", 900, 0.75, None, None],
        ["own/v1", "start", 900, 0.7, 0.5, 0.9],
    ]
    assert facts_of(mine).tables[0].caption.startswith("Metrics with")


def test_facts_are_shown_without_a_template_of_their_own() -> None:
    found = Facts(
        "Two languages.",
        {"documents": 1234, "share": 0.25, "sampled": True, "lowest": None},
        (Rows("By language", ("language", "documents", "mean"), (("en", 1200, 1.5), ("fr", 34, None))),),
        {"Documents by language": Bars(["en", "fr"], [1200, 34], "language", "documents", "Two bars.")},
    )
    page = render(page_of(plain(found)))
    assert (
        Page(page)
        .text("languages.languages")
        .startswith(
            "Languages step languages Two languages. documents 1,234 share 0.25 sampled yes lowest – "
            "By language language documents mean en 1,200 1.5 fr 34 –"
        )
    )
    assert 'aria-label="Two bars."' in page
    assert "<figcaption>Documents by language</figcaption>" in page
    # Figures are aligned, names are not.
    assert '<th scope="col">language</th><th scope="col" class="num">documents</th>' in page


def test_facts_cannot_make_a_page_without_end_or_show_a_password() -> None:
    secret = "s3://user:secret@bucket/x?token=abc"
    rows = [(f"row-{n}", "word " * 2000) for n in range(1000)]
    page = render(page_of(plain(Facts(secret, {"place": secret}, (Rows("All", ("a", "b"), rows),)))))
    assert len(page) < 80_000
    assert "900 more rows are not shown." in page
    assert "secret" not in page
    assert "abc" not in page.replace("report-abcdef", "")
    assert "s3://***@bucket/x?***" in page


@pytest.mark.parametrize(
    ("title", "key"),
    [("Loss curves", "loss-curves"), ("Top 3: labels & more", "top-3-labels-more"), ("语言", "section")],
)
def test_the_key_of_a_section_is_a_part_of_an_anchor(title: str, key: str) -> None:
    assert Section(title, lambda view: None).key == key


def test_equal_contents_are_equal_pages() -> None:
    contents = page_of(rejected("text"), tuned("numpy"))
    assert render(contents) == render(contents)


def test_templates_are_read_from_a_zip(tmp_path: Path) -> None:
    package = Path(sparkml.__file__).parent
    archive = tmp_path / "sparkml.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in [package / "__init__.py", *(package / "report").rglob("*")]:
            if file.is_file():
                zipped.write(file, file.relative_to(package.parent))
    code = (
        "import importlib.resources, sparkml.report as r; "
        "f = importlib.resources.files('sparkml.report').joinpath('templates').joinpath('report.html.j2'); "
        "assert '.zip' in r.__file__; assert '<!doctype html>' in f.read_text(encoding='utf-8')"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {code}"], check=False
    )
    assert done.returncode == 0


def test_other_commands_import_neither_matplotlib_nor_jinja2() -> None:
    code = (
        "import sys; from sparkml.frame.stage import load_stage, stage_names; "
        "print(len([load_stage(name) for name in stage_names()])); import sparkml.cli.main; "
        "print(sorted({'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    stages, imported = done.stdout.split("\n", 1)
    assert int(stages) >= 9
    assert imported.strip() == "[]"


def test_a_confusion_matrix_that_nobody_could_read_is_left_out() -> None:
    def captions(n_labels: int) -> list[str]:
        cells = tuple(ConfusionCell(f"l{n}", f"l{n}", 1) for n in range(n_labels))
        figures = Evaluation(n=n_labels, metrics={"accuracy": 1.0}, confusion=cells)
        return list(facts_of(Measured("m/v1", "", "/m", figures, None)).charts)

    assert captions(20) == ["Confusion matrix"]
    assert captions(21) == captions(1) == []


def test_a_curve_that_was_cut_off_and_a_report_that_is_none_are_read_as_far_as_they_go(
    tmp_path: Path,
) -> None:
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n[2]\n{"step": 3}\n{"ste', encoding="utf-8")
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    model = Model(ModelRecord("topics", 1, f"file://{tmp_path}", "finetuned"))
    assert model.lines("curve.jsonl") == [{"step": 1}, {"step": 3}]
    assert model.object("report.json") == {}
    assert replace(model, record=replace(model.record, path=str(tmp_path / "missing"))).object("x.json") == {}


def test_the_place_of_the_page(tmp_path: Path) -> None:
    assert destination("/lake/_artifacts", None) == "/lake/_artifacts/report/report.html"
    assert destination("s3://bucket/artifacts", None) == "s3://bucket/artifacts/report/report.html"
    assert destination("s3://bucket/artifacts", "/mnt/report.html") == "/mnt/report.html"
    assert destination("/lake/_artifacts", "s3a://bucket/report.html") == "s3://bucket/report.html"
    assert destination("/lake/_artifacts", f"file://{tmp_path}/report.html") == f"{tmp_path}/report.html"
    with pytest.raises(ConfigError, match="must not carry credentials"):
        destination("/lake/_artifacts", "s3://key:secret@bucket/report.html")
    (tmp_path / "taken").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write_bytes(destination("/a", f"{tmp_path}/taken/report.html"), b"page")
