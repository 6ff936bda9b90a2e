"""How a network writes text: greedily, by beams, or drawn at random. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GenerationSettings(BaseModel):
    """Settings of every task whose answers are text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(64, ge=1, description="Tokens that are written at most")
    num_beams: int = Field(
        1,
        ge=1,
        le=64,
        description="Texts that are followed side by side; 1: the likeliest token at each step",
    )
    length_penalty: float = Field(
        1.0,
        description="Beams: a text's log-probability is divided by its tokens to this power; above 1: longer",
    )
    no_repeat_ngram_size: int = Field(
        0, ge=0, description="So many tokens are never written twice in one order; 0: they may be"
    )
    sample: bool = Field(
        False, description="Draw each token instead of taking the likeliest; the same text gets the same draw"
    )
    temperature: float = Field(1.0, gt=0, description="Drawn: below 1 likely tokens become likelier")
    top_k: int = Field(0, ge=0, description="Drawn: among so many tokens, the likeliest; 0: all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Drawn: among the fewest tokens that have this probability together"
    )
    seed: int = Field(0, ge=0, description="Drawn: another seed, other texts")
    stop: tuple[str, ...] = Field(
        (), description="A text ends before any of these strings, which are not part of it"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> GenerationSettings:
        if self.sample and self.num_beams > 1:
            raise ValueError("tokens are drawn or beams are followed, not both: num_beams=1 or sample=false")
        drawn = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        others = [name for name, default in drawn.items() if getattr(self, name) != default]
        if others and not self.sample:
            raise ValueError(
                f"{', '.join(others)} of tokens that are not drawn: sample=true, or leave it out"
            )
        if "" in self.stop:
            raise ValueError("an empty string would end every text before it begins")
        return self
