"""A small corpus for a whole pipeline: three topics, with what real corpora bring along.

`Fates` says of every document whether it is kept, a duplicate (and of which), or rejected (and why).
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

TOPICS = {
    "sea": "harbour sailor anchor storm island captain whale reef tide lantern compass voyage gull current deck",
    "kitchen": "oven flour butter recipe onion pepper simmer whisk garlic pastry kettle spoon roast vinegar dough",
    "court": "judge witness verdict lawyer appeal evidence clerk statute jury trial motion plaintiff bail oath",
}
GLUE = "the of and to that with have be in a for was it on as by this from were"
VERBS = "found carried opened remembered followed answered counted kept watched described shared crossed"
DOCUMENTS_PER_TOPIC = 70


@dataclass(frozen=True)
class Fates:
    """What must become of the documents."""

    kept: set[str]
    exact: dict[str, str]
    near: dict[str, str]
    rejected_by_clean: dict[str, str]
    rejected_by_ingest: dict[str, int]


def document(topic: str, number: int) -> str:
    """A few paragraphs on a topic: the same for the same arguments on every machine."""
    chance = random.Random(f"{topic}-{number}")
    sentences = []
    for _ in range(14):
        words = []
        for _ in range(chance.randint(3, 5)):
            words += [
                chance.choice(GLUE.split()),
                chance.choice(TOPICS[topic].split()),
                chance.choice(VERBS.split()),
            ]
        sentences.append(f"{' '.join(words).capitalize()}.")
    return "\n\n".join(" ".join(sentences[start : start + 5]) for start in range(0, 14, 5))


def write(folder: Path) -> Fates:
    """Write the corpus as a plain and a gzip JSON Lines file; returns every document's fate."""
    folder.mkdir(parents=True)
    records = [
        {"id": f"{topic}-{number}", "body": document(topic, number), "topic": topic, "page": number}
        for topic in TOPICS
        for number in range(DOCUMENTS_PER_TOPIC)
    ]
    kept = {str(record["id"]) for record in records}
    # Shorter or later in the order of ids than their originals, so that the originals stay.
    exact = {f"zz-copy-{n}": f"sea-{n}" for n in range(4)}
    near = {f"zz-edit-{n}": f"court-{n}" for n in range(4)}
    copies = [{"id": key, "body": document("sea", int(key[-1])), "topic": "sea"} for key in exact]
    edits = [
        {"id": key, "body": document("court", int(key[-1])).rsplit(" ", 1)[0] + ".", "topic": "court"}
        for key in near
    ]
    short = [
        {"id": f"short-{n}", "body": " ".join(document("sea", 500 + n).split()[:40]), "topic": "sea"}
        for n in range(3)
    ]
    bad = ['{"id": "no-text", "topic": "sea"}', "[1, 2]", '{"id": "null-text", "body": null}', "{broken"]
    lines = [json.dumps(record) for record in records]
    (folder / "a.jsonl").write_text("\n".join([*lines[:120], *bad]) + "\n", encoding="utf-8")
    rest = [*lines[120:], *(json.dumps(record) for record in [*copies, *edits, *short])]
    with gzip.open(folder / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(rest) + "\n")
    return Fates(
        kept=kept,
        exact=exact,
        near=near,
        rejected_by_clean={str(record["id"]): "gopher_short_doc" for record in short},
        rejected_by_ingest={"missing_text": 1, "not_an_object": 1, "null_text": 1, "malformed_json": 1},
    )
