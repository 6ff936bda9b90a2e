"""The nearest vectors, exactly: blocks of queries by blocks of a corpus, in a bounded part of the memory. No Spark.

    corpus = Neighbours.of(ids, vectors)              # float32 [n, width]
    found, similarities = corpus.search(queries, k=10)  # [n_queries, k] each
    corpus.save("folder")
    corpus = Neighbours.load("folder")                # safetensors and Arrow, mapped into memory

Similarity is the cosine. Products in float32 choose candidates, with room for their rounding; these are computed again
in float64, each sum in one fixed order. So neighbours and similarities are those of comparing every pair, and the same
bits however queries and corpus are cut into blocks. Of equal similarities the smaller id comes first.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import InputError

Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.object_]
VECTORS_FILE, IDS_FILE = "vectors.safetensors", "ids.arrow"
_TENSOR, _ID = "vectors", "id"
# What `searching` is given, queries before the corpus, and what it gives.
SIDE, QUERIES, CORPUS = "_side", 0, 1
FOUND_SCHEMA = pa.schema(
    [("doc_id", pa.string()), ("neighbour_id", pa.string()), ("similarity", pa.float64())]
)
_QUERY_ROWS, _CORPUS_ROWS = 512, 8192  # of a block: 16 MB of products
_NUMBERS_AT_ONCE = 1 << 21  # of vectors that are multiplied again: 16 MB of float64
# A float32 sum of n products of unit vectors is off by n of these at most (Higham 2002, section 3.1).
_UNIT_ROUNDOFF = 2.0**-24


class Neighbours:
    """Vectors of a corpus by id, each of length 1."""

    def __init__(self, ids: pa.StringArray, vectors: Float32) -> None:
        self.ids, self.vectors = ids, vectors

    @classmethod
    def of(cls, ids: Sequence[str], vectors: npt.ArrayLike) -> Neighbours:
        """Vectors [n, width], of any length but 0. InputError where they are none, or an id stands twice."""
        units = unit(np.asarray(vectors, np.float32))
        if len(ids) != len(units):
            raise InputError("as many ids as vectors are needed", got=f"{len(ids)} ids, {len(units)} vectors")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        twice = next((ids[a] for a, b in itertools.pairwise(order) if ids[a] == ids[b]), None)
        if twice is not None:
            raise InputError("two vectors have the same id", got=repr(twice))
        return cls(pa.array([ids[place] for place in order], pa.string()), units[order])

    def search(
        self, queries: npt.ArrayLike, k: int, *, own_ids: Sequence[str] | None = None
    ) -> tuple[Ids, npt.NDArray[np.float64]]:
        """The k nearest of each query [n_queries, width], nearest first: ids and cosines, [n_queries, k] each.

        Where there are fewer, None and not a number follow. `own_ids`: the ids of the queries, which do not find
        themselves.
        """
        best = Best(unit(np.asarray(queries, np.float32)), k, own_ids)
        for start in range(0, len(self.vectors), _CORPUS_ROWS):
            stop = start + _CORPUS_ROWS
            best.add(_objects(self.ids[start:stop]), self.vectors[start:stop])
        return best.ids, np.where(np.isneginf(best.similarities), np.nan, best.similarities)

    def save(self, folder: str | Path) -> None:
        """Write the folder, which is made where it is missing."""
        from safetensors.numpy import save_file

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        save_file({_TENSOR: np.ascontiguousarray(self.vectors)}, path / VECTORS_FILE)
        with pa.OSFile(str(path / IDS_FILE), "wb") as sink:
            table = pa.table({_ID: self.ids})
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)

    @classmethod
    def load(cls, folder: str | Path) -> Neighbours:
        """What `save` wrote; the vectors are read when they are compared. InputError for anything else."""
        path = Path(folder)
        try:
            vectors = _mapped(path / VECTORS_FILE)
            table = pa.ipc.open_file(pa.memory_map(str(path / IDS_FILE))).read_all()
            ids = table.column(_ID).combine_chunks()
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
            raise InputError(
                "not an index of neighbours",
                where=str(path),
                got=f"{type(error).__name__}: {error}",
                expected=f"{VECTORS_FILE} and {IDS_FILE}, as Neighbours.save writes them",
            ) from error
        if len(ids) != len(vectors):
            raise InputError(
                "the files of an index do not belong together",
                where=str(path),
                got=f"{len(ids)} ids, {len(vectors)} vectors",
            )
        return cls(ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids, vectors)


class Best:
    """The k best neighbours of some queries among those that were added, nearest first.

    ids: [n_queries, k], None where there are fewer; similarities: float64 [n_queries, k], -inf there.
    """

    def __init__(self, queries: Float32, k: int, own_ids: Sequence[str] | None = None) -> None:
        self.ids: Ids = np.full((len(queries), k), None, object)
        self.similarities = np.full((len(queries), k), -np.inf)
        self._queries, self._k = queries, k
        self._own = {} if own_ids is None else {doc_id: row for row, doc_id in enumerate(own_ids)}

    def add(self, ids: Ids, vectors: Float32) -> None:
        """Compare with vectors of length 1, float32 [n, width]; InputError where they are of another width."""
        if not len(vectors) or not len(self._queries):
            return
        if vectors.shape[1] != self._queries.shape[1]:
            raise InputError(
                "vectors of different lengths cannot be compared",
                got=f"{vectors.shape[1]} numbers a vector",
                expected=f"{self._queries.shape[1]}, as the queries have",
            )
        own = {row: place for place, doc_id in enumerate(ids) if (row := self._own.get(doc_id)) is not None}
        for start in range(0, len(self._queries), _QUERY_ROWS):
            self._add_to(slice(start, start + _QUERY_ROWS), ids, vectors, own)

    def _add_to(self, rows: slice, ids: Ids, vectors: Float32, own: dict[int, int]) -> None:
        queries = self._queries[rows]
        near = queries @ vectors.T
        for row in [row for row in own if rows.start <= row < rows.stop]:
            near[row - rows.start, own[row]] = -np.inf
        query, place = _candidates(near, self.similarities[rows, -1], self._k, queries.shape[1])
        if not len(query):
            return
        exact = _exact(queries, query, vectors, place)
        touched = np.unique(query)
        held = self.similarities[rows][touched]
        known = ~np.isneginf(held)
        owner = np.concatenate([np.repeat(touched, known.sum(axis=1)), query])
        similarity = np.concatenate([held[known], exact])
        neighbour = np.concatenate([self.ids[rows][touched][known], ids[place]])
        order = np.lexsort((neighbour, -similarity, owner))
        owner = owner[order]
        rank = np.arange(len(order)) - np.searchsorted(owner, owner)
        kept = rank < self._k
        at = rows.start + owner[kept], rank[kept]
        self.similarities[at], self.ids[at] = similarity[order][kept], neighbour[order][kept]


def _candidates(
    near: Float32, floor: npt.NDArray[np.float64], k: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs that may be among the k best of their query: of `near` [queries, n] row and column.

    `floor`: what the worst of the k best so far has, exactly, [queries].
    """
    room = 2 * width * _UNIT_ROUNDOFF
    least = (floor - room).astype(np.float32)
    chosen = near >= np.nextafter(least, np.float32(-np.inf))[:, None]
    if near.shape[1] > k and chosen.sum() > 2 * k * len(near):
        # More than can be: those of this block alone say how near the best ones are.
        kth = np.partition(near, near.shape[1] - k, axis=1)[:, near.shape[1] - k]
        chosen &= near >= (kth - np.float32(2 * room))[:, None]
    chosen &= np.isfinite(near)
    query, place = np.nonzero(chosen)
    return query, place


def _exact(
    queries: Float32, query: npt.NDArray[np.int64], vectors: Float32, place: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """float64 cosines of pairs; numpy sums each row by itself, in an order that its length alone decides."""
    found = np.empty(len(query))
    step = max(1, _NUMBERS_AT_ONCE // queries.shape[1])
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        products = queries[query[part]].astype(np.float64) * vectors[place[part]]
        found[part] = products.sum(axis=1)
    return found


def unit(vectors: Float32) -> Float32:
    """float32 [n, width] at length 1; InputError where a vector is no direction."""
    if vectors.ndim != 2:
        raise InputError(
            "not a matrix of vectors", got=f"{vectors.ndim} axes", expected="one vector a row, equally long"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise InputError(
            "a vector has no direction", where=f"row {wrong[0]}", got=f"length {lengths[wrong[0]]}"
        )
    return np.asarray((vectors / lengths[:, None]).astype(np.float32))


def _mapped(file: Path) -> Float32:
    """The tensor of a safetensors file, mapped into memory: 8 bytes with the length of the header, JSON, numbers."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > file.stat().st_size:
            raise ValueError(f"{file.name} is cut off")
        described = json.loads(opened.read(size))[_TENSOR]
    if described["dtype"] != "F32" or len(described["shape"]) != 2:
        raise ValueError(f"{file.name} holds {described['dtype']} of shape {described['shape']}")
    offset = 8 + size + described["data_offsets"][0]
    shape = tuple(described["shape"])
    if not all(shape):
        return np.empty(shape, np.float32)
    return np.memmap(file, np.dtype("<f4"), "r", offset, shape)


def _objects(ids: pa.Array) -> Ids:
    return np.asarray(ids.to_numpy(zero_copy_only=False), object)


def searching(
    k: int, *, exclude_self: bool, min_similarity: float | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: `_side`, `doc_id`, `embedding` in, queries first; `FOUND_SCHEMA` out.

    Queries are held, the corpus passes by a batch at a time.
    """

    def search(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        queries: list[pa.RecordBatch] = []
        best: Best | None = None
        ids: Ids = np.empty(0, object)
        for batch in batches:
            side = batch.column(SIDE).to_numpy()
            first = int(np.searchsorted(side, CORPUS))
            queries += [batch.slice(0, first)] if first else []
            corpus = batch.slice(first)
            if not corpus.num_rows or not queries:
                continue
            if best is None:
                together = pa.Table.from_batches(queries).combine_chunks().to_batches()[0]
                ids = _objects(together.column("doc_id"))
                best = Best(_vectors(together), k, ids.tolist() if exclude_self else None)
            for start in range(0, corpus.num_rows, _CORPUS_ROWS):
                part = corpus.slice(start, _CORPUS_ROWS)
                best.add(_objects(part.column("doc_id")), _vectors(part))
        if best is not None:
            yield _rows(ids, best, min_similarity)

    return search


def _vectors(batch: pa.RecordBatch) -> Float32:
    numbers = batch.column("embedding").flatten().to_numpy(zero_copy_only=False)
    return unit(np.asarray(numbers, np.float32).reshape(batch.num_rows, -1))


def _rows(ids: Ids, best: Best, min_similarity: float | None) -> pa.RecordBatch:
    kept = best.similarities >= (-np.inf if min_similarity is None else min_similarity)
    kept &= ~np.isneginf(best.similarities)
    query, _ = np.nonzero(kept)
    columns = (ids[query], best.ids[kept], best.similarities[kept])
    arrays = [pa.array(values, field.type) for values, field in zip(columns, FOUND_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=FOUND_SCHEMA)
