"""datatrove's tokenizer step over the same texts, for `bench_shard`: `python shard_peer.py JOB.json`."""

from __future__ import annotations

import json
import sys
import time

from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer


def main(job_file: str) -> None:
    """Tokenise, and print the processor's seconds and the number of tokens."""
    with open(job_file, encoding="utf-8") as stream:
        job = json.load(stream)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(job["texts"])]
    step = DocumentTokenizer(
        output_folder=job["folder"],
        tokenizer_name_or_path=job["tokenizer"],
        eos_token=job["end"],
        shuffle_documents=False,
    )
    started = time.process_time()
    step.run(iter(documents), 0, 1)
    seconds = time.process_time() - started
    print(json.dumps({"seconds": seconds, "tokens": step.stats["tokens"].total}))


if __name__ == "__main__":
    main(sys.argv[1])
