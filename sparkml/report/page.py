"""Contents -> the page: key figures, plots, templates. All is escaped but what plots and templates write."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sparkml.report import formats, plots
from sparkml.report.classifier import Finetuning
from sparkml.report.contents import SECTIONS, Contents
from sparkml.report.duplicates import Duplicates
from sparkml.report.plots import Curve
from sparkml.report.scores import Scores
from sparkml.report.stages import short_commit
from sparkml.report.training import Training

_FILTERS = (
    formats.clock,
    formats.compact,
    formats.count,
    formats.duration,
    formats.label,
    formats.measured,
    formats.percent,
    formats.score,
    formats.shown,
    formats.size,
    short_commit,
)


@dataclass(frozen=True)
class KeyFigure:
    """A figure of the summary: what it is, its value, and what it compares with."""

    name: str
    value: str
    note: str


def render(contents: Contents) -> str:
    """The whole page as HTML; it refers to nothing outside itself."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in _FILTERS:
        environment.filters[function.__name__] = function
    return environment.get_template("report.html.j2").render(
        contents=contents,
        sections=SECTIONS,
        figures=key_figures(contents),
        plots=drawn(contents),
        nothing=formats.NOTHING,
    )


def _template(name: str) -> str:
    # Through importlib.resources: the package may be a zip on a cluster.
    folder = importlib.resources.files("sparkml.report").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


def key_figures(contents: Contents) -> tuple[KeyFigure, ...]:
    """What a reader wants to know first; a dash where a stage has not run."""
    return (*_sizes(contents), *_results(contents))


def _sizes(contents: Contents) -> list[KeyFigure]:
    funnel = contents.funnel
    if funnel is None:
        return [KeyFigure(name, formats.NOTHING, "not read yet") for name in ("Documents", "Text", "Tokens")]
    read = funnel.steps[0]
    left = next(step for step in reversed(funnel.steps) if step.bytes is not None)
    first = next(step for step in funnel.steps if step.bytes is not None)
    word = "kept" if left.name == "dedupe" else f"after {left.name}"
    return [
        KeyFigure(
            f"Documents {word}",
            formats.compact(left.documents),
            f"of {formats.count(read.documents)} read, {formats.percent(left.share)}",
        ),
        KeyFigure(
            f"Text {word}",
            formats.size(left.bytes),
            f"of {formats.size(first.bytes)} read, {formats.percent(left.bytes_share)}",
        ),
        KeyFigure(
            "Tokens",
            formats.compact(funnel.tokens),
            "not packed yet" if funnel.tokens is None else f"in {formats.count(funnel.samples)} samples",
        ),
    ]


def _results(contents: Contents) -> list[KeyFigure]:
    tuned, scores, stages = contents.finetuning, contents.scores, contents.stages
    figures = [
        KeyFigure("Accuracy", formats.score(tuned.pretrained.accuracy if tuned else None), _against(tuned)),
        KeyFigure(
            "Documents scored",
            formats.compact(scores.newest.documents - scores.newest.errors if scores else None),
            f"{formats.count(scores.newest.errors)} errors, by {scores.newest.name}"
            if scores
            else "not scored yet",
        ),
    ]
    slowest = max(stages.rows, key=lambda row: row.seconds or 0.0) if stages else None
    return [
        *figures,
        KeyFigure(
            "Time",
            formats.duration(stages.seconds if stages else None),
            f"longest: {slowest.name}, {formats.duration(slowest.seconds)}" if slowest else "no runs yet",
        ),
    ]


def _against(tuned: Finetuning | None) -> str:
    if tuned is None:
        return "no classifier yet"
    if tuned.random is None or tuned.random.accuracy is None:
        return f"model {tuned.model}"
    return f"against {formats.score(tuned.random.accuracy)} from random weights"


def drawn(contents: Contents) -> dict[str, Markup]:
    """Every plot that has data, by name."""
    found: dict[str, Markup] = {}
    if contents.duplicates is not None:
        found |= _duplicate_plots(contents.duplicates)
    if contents.training is not None:
        found |= _training_plots(contents.training)
    if contents.finetuning is not None:
        found |= _finetuning_plots(contents.finetuning)
    if contents.scores is not None:
        found |= _score_plots(contents.scores)
    return found


def _duplicate_plots(found: Duplicates) -> dict[str, Markup]:
    made = {}
    if found.size_counts:
        made["sizes"] = plots.bars(
            "sizes",
            found.size_labels,
            found.size_counts,
            x_label="documents in the cluster",
            y_label="clusters",
            description=f"Bar chart of cluster sizes: {found.clusters:,} clusters, the largest of "
            f"{found.largest:,} documents.",
        )
    if found.similarities:
        made["similarities"] = plots.histogram(
            "similarities",
            found.edges,
            found.similarities,
            x_label="Jaccard similarity to the partner",
            y_label="near duplicates",
            description=f"Histogram of the similarity of {sum(found.similarities):,} near duplicates.",
            mark=found.threshold,
            mark_label="" if found.threshold is None else f"threshold {found.threshold:g}",
        )
    return made


def _training_plots(found: Training) -> dict[str, Markup]:
    made = {}
    curves = [
        Curve("training loss", found.loss, "quiet"),
        Curve("validation loss", found.validation, "accent", dots=len(found.validation) < 30),
    ]
    curves = [curve for curve in curves if curve.points]
    if curves:
        made["loss"] = plots.lines(
            "loss",
            curves,
            x_label="step",
            y_label="masked-LM loss (nats)",
            description=f"Loss over {curves[0].points[-1][0]:,.0f} steps: "
            + "; ".join(f"{c.name} from {c.points[0][1]:.2f} to {c.points[-1][1]:.2f}" for c in curves)
            + ".",
        )
    if found.tokens_per_second:
        made["speed"] = plots.lines(
            "speed",
            [Curve("tokens a second", found.tokens_per_second)],
            x_label="step",
            y_label="tokens a second",
            description="Tokens a second over the steps of the training.",
            from_zero=True,
        )
    return made


def _finetuning_plots(found: Finetuning) -> dict[str, Markup]:
    made = {}
    starts = [("from pretrained", found.pretrained, "accent")]
    if found.random is not None:
        starts.append(("from random", found.random, "contrast"))
    for name, field, y_label in (
        ("tuning-loss", "loss", "training loss"),
        ("tuning-accuracy", "held_out_accuracy", "held-out accuracy"),
    ):
        curves = [
            Curve(text, getattr(start, field), colour, dots=len(getattr(start, field)) < 30, detail=60)
            for text, start, colour in starts
            if getattr(start, field)
        ]
        if curves:
            made[name] = plots.lines(
                name,
                curves,
                x_label="step",
                y_label=y_label,
                description=f"{y_label.capitalize()}: "
                + "; ".join(f"{c.name} ends at {c.points[-1][1]:.3f}" for c in curves)
                + ".",
            )
    if found.matrix:
        right = sum(row[at] for at, row in enumerate(found.matrix))
        total = sum(sum(row) for row in found.matrix)
        made["confusion"] = plots.confusion(
            "confusion",
            [formats.label(text, 18) for text in found.matrix_labels],
            found.matrix,
            description=f"Confusion matrix of {len(found.matrix)} labels: {right:,.0f} of {total:,.0f} "
            "held-out documents lie on the diagonal.",
        )
    return made


def _score_plots(found: Scores) -> dict[str, Markup]:
    if not any(found.histogram):
        return {}
    return {
        "confidence": plots.histogram(
            "confidence",
            found.edges,
            found.histogram,
            x_label="score of the predicted label",
            y_label="documents",
            description=f"Histogram of the scores of {sum(found.histogram):,} predictions.",
        )
    }
