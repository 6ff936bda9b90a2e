"""Tagging: which token answers for a word, windows, spans, figures, a training, directories that others wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.errors import InputError, NotApplicableError
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import ManifestFile, write_manifest
from sparkml.inference.scorer import Scorer, load_scorer, rows_of
from sparkml.models.directory import publish, read_task
from sparkml.models.inputs import TextInputs
from sparkml.models.text_encoder import Window
from sparkml.tasks.tag import Tag, TagOptions
from sparkml.tasks.task import Targets, task_spec
from sparkml.tasks.word_tags import allowed_in_iob2, best_path, tag_names, words_of
from sparkml.training.run import read_answers, train
from sparkml.training.settings import LoopSettings, Start, TrainingJob

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = [
    ("Anna Karenina lives in Paris .", "B-PER I-PER O O B-LOC O"),
    ("Berlin greets Anna .", "B-LOC O B-PER O"),
    ("In Paris Boris sleeps .", "O B-LOC B-PER O O"),
    ("Boris Godunov and Anna travel to New York .", "B-PER I-PER O B-PER O O B-LOC I-LOC O"),
    ("New York sleeps .", "B-LOC I-LOC O O"),
    ("Nobody lives here .", "O O O O"),
    ("Anna Godunov greets Berlin and Paris .", "B-PER I-PER O B-LOC O B-LOC O"),
    ("Karenina travels .", "B-PER O O"),
    ("York greets nobody .", "B-LOC O O O"),
    ("Here sleeps Boris Karenina .", "O O B-PER I-PER O"),
]
LABELS = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")


def rows(tokens: Sequence[Any], tags: Sequence[Any] | None = None) -> pa.RecordBatch:
    kind = pa.list_(pa.string())
    columns = {"doc_id": pa.array([f"d{n}" for n in range(len(tokens))]), "tokens": pa.array(tokens, kind)}
    if tags is not None:
        columns["tags"] = pa.array(tags, kind)
    return pa.RecordBatch.from_pydict(columns)


def sentences() -> pa.RecordBatch:
    return rows([text.split() for text, _ in SENTENCES], [tags.split() for _, tags in SENTENCES])


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    """A tokenizer that cuts most words into pieces, trained on the sentences."""
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=70, special_tokens=SPECIAL, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=290, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.train_from_iterator([text for text, _ in SENTENCES], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def inputs_of(kind: str) -> TextInputs:
    tokenizer = tokenizer_of(kind)
    return TextInputs(tokenizer.to_str(), 0, 4, 2, 3, (0, 1, 2, 3, 4), tokenizer.get_vocab_size(), 512, True)


def tagger(kind: str = "wordpiece", labels: tuple[str, ...] = LABELS, **options: Any) -> Tag:
    return Tag(TagOptions(**options), Targets(labels=labels), inputs_of(kind))


def numbers(column: pa.Array) -> list[list[int]]:
    return [np.frombuffer(value, "<i4").tolist() for value in column.to_pylist()]


# Which token answers.


@pytest.mark.parametrize("kind", ["wordpiece", "bytelevel"])
def test_the_first_token_of_a_word_carries_its_tag(kind: str) -> None:
    samples = tagger(kind).encode(sentences(), purpose="train").samples
    assert samples.num_rows == len(SENTENCES)
    split = 0
    for (text, tags), ids, words, target in zip(
        SENTENCES,
        numbers(samples.column("input_ids")),
        numbers(samples.column("words")),
        numbers(samples.column("target")),
        strict=True,
    ):
        assert [word for word in words if word >= 0] == list(range(len(text.split())))
        assert [LABELS[number] for number in target if number >= 0] == tags.split()
        assert [number >= 0 for number in target] == [word >= 0 for word in words]
        assert words[0] == words[-1] == -1
        pieces = [str(tokenizer_of(kind).id_to_token(number)) for number in ids]
        starts = [piece for piece, word in zip(pieces, words, strict=True) if word >= 0]
        assert all(
            piece.startswith("\u0120") if kind == "bytelevel" else piece[:2] != "##" for piece in starts
        )
        split += len(ids) - 2 - len(starts)
    assert split > 10  # words were cut, and their other tokens answer nothing


def test_a_word_without_a_token_is_answered_o() -> None:
    task = tagger()
    samples = task.encode(rows([["Anna", "\u200d", "sleeps"]]), purpose="answer").samples
    assert [word for word in numbers(samples.column("words"))[0] if word >= 0] == [0, 2]
    output = np.array([[0, 0, 0, 1, 0, 0], [2, 0, 1, 0, 0, 0]], np.float32)
    answer = task.answer({"tokens": ["Anna", "\u200d", "sleeps"]}, output)
    assert answer.prediction == "B-PER O B-LOC"
    assert answer.score == 1.0


@pytest.mark.parametrize("kind", ["wordpiece", "bytelevel"])
@pytest.mark.parametrize("overlap", [0, 3, 4])
def test_every_word_of_a_long_text_is_answered_once_where_most_is_read(kind: str, overlap: int) -> None:
    tokens = [word for text, _ in SENTENCES for word in text.split()] + ["\u00e9\u4e2d"] * 6
    task = tagger(kind, max_length=16, max_windows=40, overlap=overlap)
    samples = task.encode(rows([tokens]), purpose="answer").samples
    assert samples.num_rows > 4
    assert samples.column("window").to_pylist() == list(range(samples.num_rows))
    answered = [word for words in numbers(samples.column("words")) for word in words if word >= 0]
    assert answered == list(range(len(tokens)))
    # As in a window that holds all of it, a word is answered by its first token.
    whole = tagger(kind, max_length=512).encode(rows([tokens]), purpose="answer").samples
    words_and_ids = (numbers(whole.column(name))[0] for name in ("words", "input_ids"))
    first = dict(zip(*words_and_ids, strict=True))
    for words, ids in zip(
        numbers(samples.column("words")), numbers(samples.column("input_ids")), strict=True
    ):
        assert all(first[word] == number for word, number in zip(words, ids, strict=True) if word >= 0)


def test_of_two_windows_the_one_with_more_on_its_nearer_side_answers() -> None:
    def window(words: list[int]) -> Window:
        return Window([9] * len(words), [0] * len(words), words, [(0, 1)] * len(words))

    # Word 3 has two tokens, and the second window begins within it: it cannot answer for it there.
    windows = [window([-1, 0, 1, 2, 3, 3, 4, 5, -1]), window([-1, 3, 4, 5, 6, 7, 8, -1])]
    assert words_of(windows, overlap=3) == [[-1, 0, 1, 2, 3, -1, 4, -1, -1], [-1, -1, -1, 5, 6, 7, 8, -1]]


def test_words_beyond_the_windows_are_o() -> None:
    task = tagger(max_length=16, max_windows=1)
    tokens = ["Anna"] * 40
    samples = task.encode(rows([tokens], [["B-PER"] * 40]), purpose="train").samples
    read = [word for word in numbers(samples.column("words"))[0] if word >= 0]
    assert 0 < len(read) < 16
    output = np.array([[word, 0, 0, 1, 0, 0] for word in read], np.float32)
    assert task.answer({"tokens": tokens}, output).prediction == " ".join(
        ["B-PER"] * len(read) + ["O"] * (40 - len(read))
    )


# What cannot be used.


def test_rows_that_cannot_be_used_say_why() -> None:
    tokens = [["a", "b"], [], None, ["a"], ["a"], ["a", None], ["a"]]
    tags = [["O"], [], ["O"], None, ["PER"], ["O", "O"], ["B-PER"]]
    encoded = tagger().encode(rows(tokens, tags), purpose="train")
    found = {reject.example: (reject.reason, reject.detail) for reject in encoded.rejects}
    assert found == {
        0: ("tags_mismatch", "2 tokens, 1 tags"),
        1: ("tokens_missing", "empty"),
        2: ("tokens_missing", "null"),
        3: ("tags_missing", "null"),
        4: ("tags_invalid", "'PER' is no tag such as O, B-PER, I-PER"),
        5: ("tokens_missing", "token 1 is null"),
    }
    assert set(encoded.samples.column("example").to_pylist()) == {6}
    answering = tagger().encode(rows(tokens), purpose="answer")
    assert [reject.example for reject in answering.rejects] == [1, 2, 5]
    assert answering.samples.column("target").null_count == answering.samples.num_rows == 4


def test_labels_are_both_marks_of_every_kind_of_the_training_rows() -> None:
    counts = Tag.count(
        TagOptions(), rows([["a"] * 5, ["a"]], [["B-Y", "I-Y", "E-Y", "O", "S-X"], ["O", "O"]])
    )
    assert counts == {"B-Y": 1, "I-Y": 2, "O": 1, "B-X": 1}  # the row that does not fit is not counted
    learnt = Tag.fit(TagOptions(), {"train": counts, "validation": {"B-Z": 4.0}})
    assert learnt.labels == ("O", "B-X", "B-Y", "I-X", "I-Y")
    assert learnt.counts == {"X": 1, "Y": 1}
    with pytest.raises(NotApplicableError, match="no tags to learn"):
        Tag.fit(TagOptions(), {"train": {"O": 9.0}})


# From probabilities to tags.


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_best_path_is_the_best_of_all_allowed_ones(n_words: int, seed: int) -> None:
    labels = ("O", "B-X", "B-Y", "I-X", "I-Y")
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(labels)), n_words)

    def fits(path: tuple[int, ...]) -> bool:
        tags = ["O", *(labels[number] for number in path)]
        return all(not tag.startswith("I") or before[2:] == tag[2:] for before, tag in pairwise(tags))

    every = (path for path in product(range(len(labels)), repeat=n_words) if fits(path))
    best = max(
        every, key=lambda path: sum(np.log(probabilities[word, number]) for word, number in enumerate(path))
    )
    assert tuple(best_path(probabilities, allowed_in_iob2(labels)).tolist()) == best


def test_spans_have_the_characters_of_the_text() -> None:
    tokens = ["In", "New", "York", "\u00c9lan", "met", "\U0001f600", "Bo"]
    tags = ["O", "B-LOC", "I-LOC", "B-PER", "O", "O", "B-PER"]
    output = np.full((7, 6), 0.05, np.float32)
    output[:, 0] = range(7)
    for word, (tag, sure) in enumerate(zip(tags, [0.8, 0.9, 0.7, 0.8, 0.8, 0.8, 0.6], strict=True)):
        output[word, 1 + LABELS.index(tag)] = sure
    answer = tagger().answer({"tokens": tokens}, output)
    assert answer.prediction == " ".join(tags)
    assert answer.score == pytest.approx(0.6)
    text = " ".join(tokens)
    found = [(text[span["start"] : span["end"]], span["label"]) for span in answer.spans or []]
    assert found == [("New York", "LOC"), ("\u00c9lan", "PER"), ("Bo", "PER")]
    assert [span["score"] for span in answer.spans or []] == pytest.approx([0.8, 0.8, 0.6])
    assert tagger().answer({"tokens": tokens}, output * np.float32(np.nan)).error


# Figures.


class Fixed:
    """A network that says what it was given."""

    def __init__(self, logits: Any) -> None:
        self._logits = logits

    def __call__(self, **inputs: Any) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self._logits)


TAGS = st.lists(st.sampled_from([*LABELS, "B-NEW", "I-NEW"]), min_size=1, max_size=9)


@given(st.lists(TAGS, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_summed_spans_give_the_f1_of_seqeval(tags: list[list[str]], seed: int) -> None:
    import torch

    task = tagger(max_length=128)
    examples = rows([["Anna"] * len(row) for row in tags], tags)
    samples = rows_of(task.encode(examples, purpose="measure").samples)
    random = np.random.default_rng(seed)
    sums, outputs = np.zeros(task.n_sums), []
    for part in np.array_split(np.arange(len(tags)), 2):  # the sums of batches are added up
        if not len(part):
            continue
        batch = task.collate({name: column[part] for name, column in samples.items()}, None)
        network: Any = Fixed(torch.from_numpy(3 * random.normal(size=(*batch.targets["words"].shape, 5))))
        sums += task.sums(network, batch).numpy()
        outputs += task.outputs(network, batch)
    guessed = [
        (task.answer({"tokens": ["Anna"] * len(row)}, output).prediction or "").split()
        for row, output in zip(tags, outputs, strict=True)
    ]
    # seqeval reads what no scheme allows as we do; a kind that is not learnt is gold, and never found.
    values = task.values(sums)
    assert values["span_f1"] == pytest.approx(f1_score(tags, guessed, zero_division=0))
    evaluation = task.evaluate(pa.Table.from_batches([examples]), outputs, seed=1)
    assert evaluation is not None
    assert evaluation.metrics["micro_f1"] == pytest.approx(values["span_f1"])
    assert evaluation.metrics["token_accuracy"] == pytest.approx(values["token_accuracy"])
    gold = dict.fromkeys(("LOC", "PER", "NEW"), 0)
    for row in tags:
        for label, _, _ in get_entities(row):
            gold[label] += 1
    assert {figure.label: figure.support for figure in evaluation.labels if figure.support} == {
        label: n for label, n in gold.items() if n
    }


def test_the_baseline_is_the_most_frequent_tag_of_a_word() -> None:
    train_rows = rows(
        [["Paris", "is", "Paris"], ["Paris", "Hilton"]], [["B-LOC", "O", "B-LOC"], ["B-PER", "I-PER"]]
    )
    held_out = rows([["Paris", "and", "Hilton"], ["Rome"]], [["B-LOC", "O", "B-PER"], ["B-LOC"]])
    found = tagger().baseline(pa.Table.from_batches([train_rows]), pa.Table.from_batches([held_out]), 1)
    assert found is not None
    # Of the gold spans Paris, Hilton and Rome the first two are found: I-PER after O begins a span.
    assert found.metrics["micro_precision"] == 1.0
    assert found.metrics["micro_recall"] == pytest.approx(2 / 3)


# A training, and what it made.


def encoder_folder(folder: Path) -> Path:
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of("wordpiece"), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def written(samples: pa.RecordBatch, split: str, folder: Path, tokenizer: str) -> ManifestFile:
    table = pa.Table.from_batches([samples]).append_column("sample_id", pa.array(np.arange(samples.num_rows)))
    file = folder / f"{split}.parquet"
    pq.write_table(table, file)
    shard = ShardFile(str(file), (table.num_rows,), file.stat().st_size, "")
    manifest = Manifest("0" * 64, "t", 0, split, ShardFiles.of([shard]), table.num_rows, tokenizer, 0, 1)
    return write_manifest(manifest, str(folder / "manifests"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float], TrainingJob]:
    """A model directory that has learnt the sentences by heart, in windows of 12 tokens."""
    folder = tmp_path_factory.mktemp("tag")
    start = encoder_folder(folder / "encoder")
    options = TagOptions(max_length=12, overlap=3)
    learnt = Tag.fit(options, {"train": Tag.count(options, sentences())})
    assert learnt.labels == LABELS
    task = Tag(options, learnt, Tag.read_inputs(str(start)))
    samples = task.encode(sentences(), purpose="train").samples
    assert samples.num_rows > len(SENTENCES)
    manifests = [written(samples, split, folder, task.inputs.identity) for split in ("train", "validation")]
    job = TrainingJob(
        task=task_spec(task),
        start=Start(folder=str(start)),
        loop=LoopSettings(
            max_epochs=None, max_steps=150, batch_size=8, learning_rate=0.01, validation_every_steps=50
        ),
        seed=3,
        train_manifest=manifests[0],
        validation_manifest=manifests[1],
        reader="arrow",
        checkpoint_every_steps=1000,
        keep_checkpoints=1,
        run_folder=str(folder / "run"),
        run_name="tag",
        tensorboard_folder=str(folder / "tensorboard"),
        mlflow_uri="",
        mlflow_store="",
    )
    measured = train(job, SingleProcess(), Reporter(None))
    model = folder / "model"
    lineage = {"model": "ner", "step": "ner", "parent": "encoder", "table": "kept", "version": 0}
    publish(
        model,
        result=folder / "run" / "result",
        inputs=start,
        task=task_spec(task),
        lineage=lineage,
        metrics={},
    )
    return model, measured, job


def test_ten_sentences_are_learnt_by_heart(trained: tuple[Path, dict[str, float], TrainingJob]) -> None:
    model, measured, _ = trained
    assert measured["validation_span_f1"] == 1.0
    assert measured["validation_token_accuracy"] == 1.0
    scorer = load_scorer(model)
    answers = scorer.answer(tokens=[text.split() for text, _ in SENTENCES])
    assert [answer.prediction for answer in answers] == [tags for _, tags in SENTENCES]
    for (text, _), answer in zip(SENTENCES, answers, strict=True):
        assert all(span["label"] in ("PER", "LOC") and 0 < span["score"] <= 1 for span in answer.spans or [])
        assert 0 < (answer.score or 0) <= 1
        assert answer.n_tokens > len(text.split())
    text = SENTENCES[3][0]
    found = [text[span["start"] : span["end"]] for span in answers[3].spans or []]
    assert found == ["Boris Godunov", "Anna", "New York"]


def test_what_ranks_wrote_gives_the_figures(trained: tuple[Path, dict[str, float], TrainingJob]) -> None:
    model, _, job = trained
    task = load_scorer(model).task
    answered = read_answers(job.run_folder)
    flat = [
        np.frombuffer(output, kind)
        for output, kind in zip(
            answered.column("output").to_pylist(), answered.column("dtype").to_pylist(), strict=True
        )
    ]
    places = task.encode(sentences(), purpose="train").samples.column("example").to_numpy()
    outputs = [
        task.combine({}, [flat[number] for number in np.flatnonzero(places == place)])
        for place in range(len(SENTENCES))
    ]
    evaluation = task.evaluate(pa.Table.from_batches([sentences()]), outputs, seed=1)
    assert evaluation is not None
    assert evaluation.metrics["micro_f1"] == evaluation.metrics["row_accuracy"] == 1.0
    assert task.answer({}, outputs[1]).prediction == SENTENCES[1][1]  # also without its tokens


def test_an_answer_depends_on_its_example_alone(trained: tuple[Path, dict[str, float], TrainingJob]) -> None:
    scorer = load_scorer(trained[0])
    tokens = [text.split() for text, _ in SENTENCES] + [
        [word for text, _ in SENTENCES for word in text.split()]
    ]
    together = scorer.answer(tokens=tokens)
    alone = [scorer.answer(tokens=[row])[0] for row in tokens]
    assert [answer.prediction for answer in together] == [answer.prediction for answer in alone]
    assert [answer.score for answer in together] == pytest.approx(
        [answer.score for answer in alone], abs=1e-5
    )
    assert [len(answer.spans or []) for answer in together] == [len(answer.spans or []) for answer in alone]
    bad = scorer.answer(tokens=[[], None, ["Anna"]])
    assert [answer.error for answer in bad] == ["tokens_missing empty", "tokens_missing null", None]


# Directories that others wrote.


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        (("O", "B-PER", "I-PER"), ["O", "B-PER", "I-PER"]),
        (("PER", "O", "LOC"), ["I-PER", "O", "I-LOC"]),
        (("NOUN", "VERB"), ["B-NOUN", "B-VERB"]),
        (("O", "B-X", "L-X", "U-X"), ["O", "B-X", "E-X", "S-X"]),
        (("O", "Bat", "I"), ["O", "I-Bat", "I-I"]),
    ],
)
def test_labels_of_every_scheme_are_tags(labels: tuple[str, ...], tags: list[str]) -> None:
    assert tag_names(labels) == tags


def test_a_plain_directory_with_labels_of_its_own_is_scored(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForTokenClassification

    folder = encoder_folder(tmp_path / "plain")
    config = BertConfig.from_pretrained(folder, num_labels=3, id2label={0: "PER", 1: "O", 2: "I-LOC"})
    network = BertForTokenClassification(config)
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    network.save_pretrained(folder)
    spec = read_task(folder)
    assert spec == {
        "name": "tag",
        "options": {"constrained": False},
        "targets": {"labels": ["PER", "O", "I-LOC"]},
    }
    scorer: Scorer = load_scorer(folder)
    (answer,) = scorer.answer(tokens=[["Anna", "Karenina"]])
    assert answer.prediction == "B-PER I-PER"  # I- begins an entity where nothing of the kind is before it
    assert [(s["start"], s["end"], s["label"]) for s in answer.spans or []] == [(0, 13, "PER")]
    config_file = folder / "config.json"
    config_file.write_text(
        json.dumps({**json.loads(config_file.read_text()), "architectures": ["BertModel"]})
    )
    with pytest.raises(InputError, match="no task"):
        read_task(folder)
