from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tokenizers import Tokenizer

from sparkml.errors import TableError
from sparkml.feed.manifest import Manifest, ShardFile
from sparkml.frame.ledger import Ledger
from sparkml.frame.splits import with_split
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import DataFile, Tables
from sparkml.hosting.manifests import check_equal_groups, read_facts
from sparkml.hosting.sizes import FileShape
from sparkml.kernels.hashing import bucket_of
from sparkml.models.inputs import read_text_inputs
from sparkml.stages.shard import stage
from sparkml.stages.shard.stage import ShardConfig, run, transform
from sparkml.stages.shard.vocabulary import save_tokenizer, train_tokenizer
from tests.runs import new_run
from tests.tiny import tiny_encoder

KEPT_DDL = "doc_id string, text string"
DUPLICATES_DDL = (
    "doc_id string, kind string, cluster_id string, partner_id string, kept_id string, similarity double"
)
PAD, CLS, SEP = 0, 2, 3
SMALL = ShardConfig(
    source="source",
    duplicates="twins",
    vocabulary_size=300,
    sequence_length=16,
    n_buckets=3,
    rows_per_row_group=8,
    file_bytes=384,  # 16 samples of 16 tokens
    validation_fraction=0.3,
    leak_similarity=0,  # tests/spark/test_leaks.py
)
WORDS = ["the", "function", "returns", "an", "array", "of", "floats", "with", "the", "same", "shape"]


def text_of(number: int) -> str:
    """Texts of one to forty words, all different."""
    return " ".join(WORDS[(number * 7 + k) % len(WORDS)] for k in range(1 + number % 40)) + f" {number}"


DOCUMENTS: list[tuple[object, ...]] = [(f"doc-{number:03d}", text_of(number)) for number in range(60)]


class Lake:
    """A lake of its own with documents, on which the stage runs."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.tables = Tables(str(folder / "lake"), lambda: spark)
        self.ledger = Ledger(self.tables)
        self.tables.overwrite(spark.createDataFrame([], DUPLICATES_DDL), "twins")

    def put(self, documents: list[tuple[object, ...]] | DataFrame) -> None:
        """Write the documents as table `source`."""
        rows = (
            documents if isinstance(documents, DataFrame) else self.spark.createDataFrame(documents, KEPT_DDL)
        )
        self.tables.overwrite(rows, "source")

    def shard(self, config: ShardConfig = SMALL, step: str = "shard") -> RunReport:
        """Run the stage on what lies there."""
        job = new_run(self.tables, self.ledger, self.folder / "artifacts", "shard", step=step)
        report = run(job, config)
        report.check("shard")
        return report

    def samples(self, version: int | None = None) -> DataFrame:
        """The samples without the run that wrote them."""
        return self.tables.read("samples", version).drop("run_id")

    def manifests(self, table: str = "samples") -> dict[str, Manifest]:
        """The manifest of each split of a table of samples."""
        rows = self.tables.read("manifests").where(F.col("table") == table).collect()
        assert len(rows) == 2
        return {row["split"]: Manifest.from_record(row.asDict(recursive=True)) for row in rows}

    def manifest_ids(self) -> dict[str, str]:
        """What the manifests are called."""
        return {split: manifest.manifest_id for split, manifest in self.manifests().items()}


@pytest.fixture
def fresh(spark: SparkSession, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(spark, tmp_path)


@pytest.fixture(scope="module")
def sharded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, RunReport]:
    """`DOCUMENTS`, sharded once for all the tests that only look."""
    lake = Lake(spark, tmp_path_factory.mktemp("sharded"))
    lake.put(spark.createDataFrame(DOCUMENTS, KEPT_DDL).repartition(1))
    return lake, lake.shard()


def documents_in(samples: list[dict[str, object]]) -> Iterator[tuple[str, list[int]]]:
    """Take the samples apart again: every document with its tokens."""
    found: dict[str, list[int]] = {}
    for sample in samples:
        ids: list[int] = sample["input_ids"]  # type: ignore[assignment]
        starts: list[int] = sample["doc_starts"]  # type: ignore[assignment]
        ends = [*starts[1:], len(ids)]
        for start, end, doc_id in zip(starts, ends, sample["doc_ids"], strict=True):  # type: ignore[call-overload]
            found.setdefault(doc_id, []).extend(ids[start:end])
    yield from found.items()


def test_golden_sample(spark: SparkSession, tmp_path: Path) -> None:
    """Tokens of single bytes: what is packed can be read off the text."""
    tokenizer = train_tokenizer([], 261)
    ids = {character: Tokenizer.from_str(tokenizer).token_to_id(character) for character in "abcdef"}
    inputs = read_text_inputs(tmp_path / "tokenizers" / save_tokenizer(tokenizer, str(tmp_path)))
    documents = spark.createDataFrame(
        [("d1", "abc", "train"), ("d2", "de", "train"), ("d3", "f", "validation")],
        "doc_id string, text string, split string",
    )
    a, b, c, d, e, f = (ids[character] for character in "abcdef")
    # The order inside a bucket is that of xxhash64(seed, doc_id): with this seed d2 comes before d1.
    expected = spark.createDataFrame(
        [
            ("train", 0, 0, [CLS, d, e, SEP, a, b, c, SEP], [1, 4], ["d2", "d1"], 2, 8),
            ("validation", 0, 0, [CLS, f, SEP, PAD, PAD, PAD, PAD, PAD], [1], ["d3"], 1, 3),
        ],
        "split string, bucket int, nth int, input_ids array<int>, doc_starts array<int>, "
        "doc_ids array<string>, n_documents int, n_tokens int",
    )
    actual = transform(documents, inputs, n_buckets=1, sequence_length=8, seed=5).orderBy("split")
    assert_df_equality(actual, expected, ignore_nullable=True)


def test_the_bucket_of_a_document_is_known_from_its_id(sharded: tuple[Lake, RunReport]) -> None:
    lake, report = sharded
    assert report.metrics["buckets"] == 3
    rows = lake.samples(0).orderBy("sample_id").select("split", "bucket", "doc_ids").collect()
    assert {row["bucket"] for row in rows} == {0, 1, 2}
    for row in rows:
        assert {bucket_of(doc_id, 3) for doc_id in row["doc_ids"]} == {row["bucket"]}
    places = [(row["split"], row["bucket"]) for row in rows]
    assert places == sorted(places)  # files and row groups that lack a bucket are told by their statistics


def test_every_token_of_every_document_is_there_once(sharded: tuple[Lake, RunReport]) -> None:
    lake, report = sharded
    (file,) = lake.folder.glob("artifacts/tokenizers/*/tokenizer.json")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (file.parent.name, file.name) == (digest, "tokenizer.json")
    assert {manifest.tokenizer_hash for manifest in lake.manifests().values()} == {digest}
    tokenizer = Tokenizer.from_file(str(file))
    rows = [row.asDict() for row in lake.samples(0).orderBy("sample_id").collect()]
    assert [row["sample_id"] for row in rows] == list(range(len(rows)))
    assert {(len(row["input_ids"]), row["input_ids"][0], row["doc_starts"][0]) for row in rows} == {
        (16, CLS, 1)
    }
    found = {doc_id: [t for t in ids if t != PAD] for doc_id, ids in documents_in(rows)}
    expected = {
        str(doc_id): [*tokenizer.encode(text, add_special_tokens=False).ids, SEP]
        for doc_id, text in DOCUMENTS
    }
    assert found == expected
    assert report.metrics["tokens"] == sum(len(ids) - 1 for ids in expected.values())
    assert (report.rows_in, report.rows_kept, report.metrics["samples"]) == (60, 60, len(rows))


def test_a_document_lies_in_the_split_of_its_cluster(
    spark: SparkSession, sharded: tuple[Lake, RunReport]
) -> None:
    duplicates = spark.createDataFrame([], DUPLICATES_DDL)
    by_rule = with_split(spark.createDataFrame(DOCUMENTS, KEPT_DDL), duplicates, 0.3, 17)
    by_samples = sharded[0].samples(0).select(F.explode("doc_ids").alias("doc_id"), "split").distinct()
    assert_df_equality(
        by_samples, by_rule.select("doc_id", "split"), ignore_row_order=True, ignore_nullable=True
    )
    assert by_rule.select("split").distinct().count() == 2


def test_row_groups_are_equal_and_the_manifest_names_them(
    spark: SparkSession, sharded: tuple[Lake, RunReport]
) -> None:
    manifests = sharded[0].manifests()
    assert set(manifests) == {"train", "validation"}
    next_id = 0
    for split in ("train", "validation"):
        manifest = manifests[split]
        assert (manifest.table, manifest.version, manifest.sequence_length) == ("samples", 0, 16)
        groups = [rows for file in manifest.files for rows in file.row_groups]
        assert groups[:-1] == [8] * (len(groups) - 1)
        assert 1 <= groups[-1] <= 8
        assert [sum(file.row_groups) for file in list(manifest.files)[:-1]] == [16] * (
            len(manifest.files) - 1
        )
        first_id = next_id
        for file in manifest.files:
            next_id += check_file(file, split, next_id)
        assert next_id - first_id == manifest.rows
    assert len(manifests["train"].files) > 2
    assert spark.conf.get("parquet.block.row.count.limit", None) is None


def check_file(file: ShardFile, split: str, first_id: int) -> int:
    """The file is what the manifest says; returns its rows."""
    content = Path(file.path).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.checksum)
    metadata = pq.read_metadata(file.path)
    found = tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    assert found == file.row_groups
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    rows = pq.read_table(file.path, columns=["sample_id", "split"])
    assert rows.column("sample_id").to_pylist() == list(range(first_id, first_id + len(rows)))
    assert set(rows.column("split").to_pylist()) == {split}
    return len(rows)


def test_twice_is_the_same_table(sharded: tuple[Lake, RunReport]) -> None:
    lake, _ = sharded
    ids = lake.manifest_ids()
    lake.shard()
    assert_df_equality(lake.samples(1), lake.samples(0), ignore_row_order=True)
    assert lake.manifest_ids() == ids
    assert {manifest.version for manifest in lake.manifests().values()} == {1}
    assert len(list(lake.folder.glob("artifacts/tokenizers/*"))) == 1


def test_a_unigram_tokenizer_is_trained_once_and_best_fit_keeps_documents_whole(
    spark: SparkSession, fresh: Lake
) -> None:
    fresh.put(spark.createDataFrame(DOCUMENTS, KEPT_DDL))
    config = SMALL.model_copy(
        update={"tokenizer_kind": "unigram", "packing": "best_fit", "sequence_length": 48, "n_buckets": 1}
    )
    reports = [fresh.shard(config), fresh.shard(config)]
    assert_df_equality(fresh.samples(1), fresh.samples(0), ignore_row_order=True)
    assert {report.rows_kept for report in reports} == {len(DOCUMENTS)}
    rows = [row.asDict() for row in fresh.samples().collect()]
    parts = [doc_id for row in rows for doc_id in row["doc_ids"]]
    longer = {doc_id for doc_id, ids in documents_in(rows) if len(ids) > 47}
    assert {doc_id for doc_id in parts if parts.count(doc_id) > 1} <= longer
    assert reports[0].metrics["padding_fraction"] < 0.3


def test_row_order_and_partitions_do_not_matter(
    spark: SparkSession,
    fresh: Lake,
    sharded: tuple[Lake, RunReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor do they for the number of buckets: three of them follow from the bytes as from the configuration."""
    n_bytes = sum(len(str(text)) for _, text in DOCUMENTS)
    monkeypatch.setattr(stage, "_SMALL_BUCKET_BYTES", n_bytes // 3 + 1)
    fresh.put(spark.createDataFrame(DOCUMENTS[::-1], KEPT_DDL).repartition(5))
    fresh.shard(SMALL.model_copy(update={"n_buckets": None}))
    assert_df_equality(fresh.samples(), sharded[0].samples(0), ignore_row_order=True)
    assert fresh.manifest_ids() == sharded[0].manifest_ids()


def test_row_groups_and_files_follow_from_the_samples(fresh: Lake) -> None:
    fresh.put([(f"doc-{number:03d}", text_of(number) * 30) for number in range(60)])
    report = fresh.shard(SMALL.model_copy(update={"rows_per_row_group": None, "file_bytes": 128 << 20}))
    for manifest in fresh.manifests().values():
        (file,) = manifest.files
        assert file.row_groups == tuple(
            min(1024, manifest.rows - first) for first in range(0, manifest.rows, 1024)
        )
    assert report.metrics["row_groups"] > 2


def test_empty_input_gives_empty_tables(fresh: Lake) -> None:
    fresh.put([])
    report = fresh.shard()
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (0, 0, 0)
    assert fresh.samples().collect() == []
    sizes = {split: (manifest.rows, list(manifest.files)) for split, manifest in fresh.manifests().items()}
    assert sizes == {"train": (0, []), "validation": (0, [])}


def test_a_document_without_text_becomes_a_reject(spark: SparkSession, fresh: Lake) -> None:
    fresh.put([("null", None), ("empty", ""), ("space", " "), ("text", "a [SEP] b [PAD]")])
    report = fresh.shard()
    assert (report.rows_in, report.rows_kept, dict(report.reasons)) == (4, 2, {"no_tokens": 2})
    # Another step of the stage has its own samples, manifests and rejects.
    fresh.tables.overwrite(
        spark.createDataFrame([("none", None), ("text", "a b c")], KEPT_DDL), "other_source"
    )
    other = SMALL.model_copy(update={"source": "other_source", "target": "longer", "sequence_length": 32})
    assert fresh.shard(other, step="longer").rows_kept == 1
    lengths = {
        table: {manifest.sequence_length for manifest in fresh.manifests(table).values()}
        for table in ("samples", "longer")
    }
    assert lengths == {"samples": {16}, "longer": {32}}
    rejects = fresh.tables.read("rejects").select("stage", "step", "doc_id", "drop_reason", "value", "detail")
    expected = spark.createDataFrame(
        [
            ("shard", "shard", "empty", "no_tokens", 0.0, "text is empty"),
            ("shard", "shard", "null", "no_tokens", 0.0, "text is null"),
            ("shard", "longer", "none", "no_tokens", 0.0, "text is null"),
        ],
        "stage string, step string, doc_id string, drop_reason string, value double, detail string",
    )
    assert_df_equality(rejects, expected, ignore_row_order=True, ignore_nullable=True)
    tokens = dict(documents_in([row.asDict() for row in fresh.samples().collect()]))["text"]
    # The document speaks of special tokens; only the [SEP] that closes it is one, and the rest is padding.
    assert [token for token in tokens if token in (CLS, SEP)] == [SEP]


def test_unequal_row_groups_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "part 1.parquet"
    table = pa.table(
        {
            "sample_id": pa.array(range(10)),
            "split": ["train"] * 10,
            "input_ids": pa.array([[CLS, 9]] * 10, pa.list_(pa.int32())),
            "doc_starts": pa.array([[1]] * 10, pa.list_(pa.int32())),
            "doc_ids": [["d"]] * 10,
        }
    )
    pq.write_table(table, path, row_group_size=4)
    facts = read_facts(
        spark, [DataFile(path.as_uri(), path.stat().st_size, 10)], ["input_ids", "doc_starts", "doc_ids"]
    )
    assert [(file.path, file.row_groups) for file in facts] == [(str(path), (4, 4, 2))]
    check_equal_groups(facts, FileShape(4, 12))
    with pytest.raises(TableError, match="equal row groups"):
        check_equal_groups(facts, FileShape(5, 10))


def test_the_tokenizer_of_a_model_packs_for_it(tmp_path: Path, fresh: Lake) -> None:
    """Samples for a model to go on from: its tokenizer, its special tokens, its hash in the manifests."""
    fresh.put(DOCUMENTS[:20])
    model = tiny_encoder(tmp_path / "model")
    report = fresh.shard(SMALL.model_copy(update={"tokenizer": str(model)}))
    assert report.rows_kept == 20
    inputs = read_text_inputs(model)
    assert {manifest.tokenizer_hash for manifest in fresh.manifests().values()} == {inputs.identity}
    rows = [row.asDict() for row in fresh.samples().orderBy("sample_id").collect()]
    found = {doc_id: [token for token in ids if token != PAD] for doc_id, ids in documents_in(rows)}
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    for doc_id, text in DOCUMENTS[:20]:
        assert found[str(doc_id)] == [*tokenizer.encode(text, add_special_tokens=False).ids, SEP]
