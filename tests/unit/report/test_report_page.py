from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sparkml
from sparkml.errors import InputError, StorageError
from sparkml.report.classifier import Finetuning, LabelResult, Start, confusion_of
from sparkml.report.contents import SECTIONS, Contents
from sparkml.report.lake import read_lines, read_object
from sparkml.report.page import key_figures, render
from sparkml.report.rejects import Example, Reason, Rejects, StageRejects
from sparkml.report.stages import Provenance
from sparkml.stages.report import destination, write_page

EVIL = "</style><script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>"
VOID = {"meta", "br", "img", "link", "hr"}
EMPTY = Contents(
    title="sparkml run report",
    lake="/lakes/demo",
    run_id="20260301T120000-report-abcdef",
    written_at=datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc),
    provenance=Provenance(None, None, (), None, None),
    funnel=None,
    rejects=None,
    duplicates=None,
    training=None,
    finetuning=None,
    compression=None,
    scores=None,
    stages=None,
)


class Page(HTMLParser):
    """Elements and references of a page; fails where a tag is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rejected(text: str) -> Rejects:
    example = Example("d1", text, text, 3.0, 50.0, text, text)
    reason = Reason("too_few_words", 4, 0.4, 1.0, 7.0, 1.0, 49.0, (50.0,), (example,))
    return Rejects(4, (StageRejects("clean", 4, 10, (reason,), 0),))


def tuned(label: str) -> Finetuning:
    return Finetuning(
        model="classifier/v2",
        path="/models/classifier/v2",
        parent="encoder/v1",
        pretrained=Start("pretrained", 0.9, 0.8, ((1.0, 2.0), (2.0, 1.0)), ((2.0, 0.9),)),
        random=Start("random", 0.7, 0.6, ((1.0, 2.2), (2.0, 1.5)), ()),
        labels=(LabelResult(label, 0.5, 0.25, 1 / 3, 0.1, 12.0),),
        more_labels=0,
        documents=12,
        train_documents=100,
        matrix_labels=(label, "b"),
        matrix=((9.0, 3.0), (0.0, 4.0)),
        majority=0.75,
    )


def test_an_empty_lake_gives_a_page_of_sentences() -> None:
    page = render(EMPTY)
    for key, title, missing in SECTIONS:
        assert f'<section id="{key}"' in page
        assert title in page
        assert missing in page
    assert [figure.value for figure in key_figures(EMPTY)] == ["–"] * 6


def test_texts_of_documents_cannot_become_markup() -> None:
    page = render(replace(EMPTY, title=EVIL, lake=EVIL, rejects=rejected(EVIL), finetuning=tuned(EVIL)))
    found = Page(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(found.tags)
    assert found.tags.count("style") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page


def test_a_page_refers_to_nothing_outside_itself() -> None:
    page = render(replace(EMPTY, rejects=rejected("some text"), finetuning=tuned("numpy")))
    found = Page(page)
    assert found.references
    assert all(reference.startswith("#") for reference in found.references)
    assert len(found.ids) == len(set(found.ids))
    assert {reference[1:] for reference in found.references} <= set(found.ids)
    assert not re.search(r"url\((?!#)|@import|https?://", page)
    assert "default-src 'none'" in page


def test_figures_and_headers_of_tables_are_there_for_those_who_do_not_see() -> None:
    page = render(replace(EMPTY, rejects=rejected("text"), finetuning=tuned("numpy")))
    assert '<html lang="en">' in page
    assert page.count("<svg") == page.count('role="img" aria-label=') == 3
    assert page.count("<table") == page.count("<caption>")
    assert not re.search(r"<th>|<th class", page)  # every header says of what: scope="row" or "col"
    assert 'scope="row"' in page


def test_the_summary_compares_pretrained_with_random_weights() -> None:
    figure = key_figures(replace(EMPTY, finetuning=tuned("numpy")))[3]
    assert (figure.name, figure.value, figure.note) == (
        "Accuracy",
        "0.900",
        "against 0.700 from random weights",
    )


def test_equal_contents_are_equal_pages() -> None:
    contents = replace(EMPTY, rejects=rejected("text"), finetuning=tuned("numpy"))
    assert render(contents) == render(contents)


def test_templates_are_read_from_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_confusion_matrix_that_does_not_fit_is_left_out() -> None:
    good = {"confusion": {"labels": ["a", "b"], "counts": [[1, 2], [3, 4]]}}
    assert confusion_of(good, ["b", "a"]) == (("b", "a"), ((4.0, 3.0), (2.0, 1.0)))
    for counts in ([[1, 2]], [[1], [2]], [["x", 1], [2, 3]], None, []):
        assert confusion_of({"confusion": {"labels": ["a", "b"], "counts": counts}}, []) == ((), ())
    assert confusion_of({}, []) == ((), ())


def test_a_curve_that_was_cut_off_and_a_report_that_is_none_are_read_as_far_as_they_go(
    tmp_path: Path,
) -> None:
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n[2]\n{"step": 3}\n{"ste', encoding="utf-8")
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    assert read_lines(str(tmp_path), "curve.jsonl") == [{"step": 1}, {"step": 3}]
    assert read_object(str(tmp_path), "report.json") == {}
    assert read_object(str(tmp_path / "missing"), "report.json") == {}


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report" / "report.html"
    write_page(file, b"old")
    write_page(file, b"new")
    assert file.read_text(encoding="utf-8") == "new"
    assert [entry.name for entry in file.parent.iterdir()] == ["report.html"]
    (tmp_path / "taken").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write the report"):
        write_page(tmp_path / "taken" / "report.html", b"page")


def test_the_place_of_the_page() -> None:
    assert destination("/lake/_artifacts", None) == Path("/lake/_artifacts/report/report.html")
    assert destination("s3a://bucket/artifacts", "/mnt/report.html") == Path("/mnt/report.html")
    assert destination("file:///lake/_artifacts", None) == Path("/lake/_artifacts/report/report.html")
    with pytest.raises(InputError, match=r"report\.file=PATH"):
        destination("s3a://bucket/artifacts", None)
