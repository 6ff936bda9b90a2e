"""A classifier over HTTP as many write it: FastAPI, a transformers pipeline, one process, for `bench_serve`.

python serve_peer.py MODEL PORT LONGEST     # imports nothing of ours: an environment of its own
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Body(BaseModel):
    """Texts to be classified."""

    texts: list[str]


def main() -> None:
    """Serve until a signal ends it."""
    model, port, longest = sys.argv[1:]
    classify = pipeline("text-classification", model, top_k=None, device="cpu")
    app = FastAPI()

    @app.post("/v1/score")
    def score(body: Body) -> dict[str, object]:
        found = classify(body.texts, batch_size=32, truncation=True, max_length=int(longest))
        return {"answers": [{one["label"]: one["score"] for one in scores} for scores in found]}

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
