"""How a pretrained network is adapted: the settings, and which of them make sense together. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparkml.errors import ConfigError

Method = Literal["full", "frozen", "lora", "adalora", "adapters", "prefix", "prompt"]

# What can be folded into the weights of the base, so that the result is a network like the base itself.
MERGEABLE = frozenset({"full", "frozen", "lora", "adalora"})
LOW_RANK = frozenset({"lora", "adalora"})
PROMPTS = frozenset({"prefix", "prompt"})
# What trains parameters inside the blocks, so that rates and times can differ from block to block.
IN_BLOCKS = frozenset({"full", "lora", "adalora", "adapters"})


class AdaptSettings(BaseModel):
    """What of a pretrained network is trained. Fields of methods that are not chosen have no effect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(
        "full",
        description="full: every weight; frozen: the new head alone; lora, adalora: low-rank updates of linear "
        "layers; adapters: bottlenecks behind attention and feed-forward; prefix, prompt: virtual tokens",
    )
    features_once: bool = Field(
        True,
        description="frozen: what the head is given is computed once, by a Spark job, and kept in the table of "
        "samples; false: at every step, with whatever the task changes at random",
    )
    rank: int = Field(8, ge=1, le=1024, description="lora: rank of every update")
    alpha: int = Field(
        16,
        ge=1,
        le=65536,
        description="lora, adalora: the update is scaled with alpha / rank (adalora: initial rank)",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="lora, adalora: dropout before the update")
    network_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="lora, adalora: dropout of the network itself while it is adapted; 0 is a fifth faster on a CPU; "
        "null: as its configuration says",
    )
    target_modules: tuple[str, ...] | Literal["attention"] | None = Field(
        None,
        description="lora, adalora: names of linear layers, or their last parts; attention: those of the attention; "
        "null: all linear layers of the blocks",
    )
    last_layers: int | None = Field(
        None,
        ge=1,
        description="lora, adalora: so many blocks, the nearest to the head, are adapted; those below are used as they "
        "are, without dropout and gradients: less time and memory; null: all blocks",
    )
    bias: Literal["none", "lora_only", "all"] = Field(
        "none", description="lora, adalora: biases that are trained too: none, those of adapted layers, all"
    )
    target_rank: int = Field(4, ge=1, le=1024, description="adalora: mean rank of an update in the end")
    initial_rank: int = Field(8, ge=1, le=1024, description="adalora: rank of every update at the start")
    tinit_fraction: float = Field(
        0.1, ge=0, lt=1, description="adalora: share of the steps before ranks begin to fall"
    )
    tfinal_fraction: float = Field(
        0.3, ge=0, lt=1, description="adalora: share of the steps after ranks are final"
    )
    delta_t: int = Field(
        10, ge=1, le=100_000, description="adalora: ranks are allotted anew every so many steps"
    )
    orthogonal_weight: float = Field(
        0.1, ge=0, le=1000, description="adalora: weight of the term that keeps singular vectors orthogonal"
    )
    bottleneck: int = Field(48, ge=1, le=65536, description="adapters: width of a bottleneck")
    after: Literal["both", "feed_forward"] = Field(
        "both",
        description="adapters: both: after attention and feed-forward (Houlsby et al. 2019); feed_forward: after "
        "the feed-forward alone (Pfeiffer et al. 2021)",
    )
    virtual_tokens: int = Field(
        20, ge=1, le=4096, description="prefix, prompt: number of virtual tokens before the text"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate for every layer further away from the head (1: none)",
    )
    unfreeze_epochs: float | None = Field(
        None,
        gt=0,
        description="gradual unfreezing: the head first, one block more from the top every so many epochs; null: "
        "all from the start",
    )
    merge: bool = Field(
        True,
        description="write the network with the adaptation folded in; false: the adaptation alone, beside a "
        "reference to its base. null: true where the method can be folded in",
    )
    train_head: tuple[str, ...] | None = Field(
        None,
        description="modules that are trained in full besides those that the pretrained folder lacked",
    )

    @model_validator(mode="before")
    @classmethod
    def _merge_where_possible(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("merge") is None:
            return {**values, "merge": values.get("method", "full") in MERGEABLE}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> AdaptSettings:
        self._check_merge()
        self._check_layers()
        if self.method == "adalora":
            self._check_ranks()
        return self

    def _check_merge(self) -> None:
        if self.merge and self.method not in MERGEABLE:
            raise ConfigError(
                f"the method {self.method} cannot be folded into the weights of its base",
                got="merge: true",
                expected="merge: false",
                next_action=f"set merge to false, or choose one of {', '.join(sorted(MERGEABLE))}",
            )
        if not self.merge and self.method == "full":
            raise ConfigError(
                "full training changes every weight: nothing is left that could lie beside its base",
                got="merge: false",
                expected="merge: true",
                next_action="set merge to true, or choose lora",
            )

    def _check_layers(self) -> None:
        if self.layer_decay != 1 and self.method not in IN_BLOCKS:
            raise ConfigError(
                f"the method {self.method} trains nothing inside the layers",
                got=f"layer_decay: {self.layer_decay:g}",
                expected=f"layer_decay: 1, or one of the methods {', '.join(sorted(IN_BLOCKS))}",
            )
        if self.unfreeze_epochs is not None and self.method not in IN_BLOCKS - {"adalora"}:
            why = (
                "compares the ranks of all layers from the start"
                if self.method == "adalora"
                else "trains nothing inside the layers"
            )
            raise ConfigError(
                f"the method {self.method} {why}: layers cannot be unfrozen one after another",
                got=f"unfreeze_epochs: {self.unfreeze_epochs:g}",
                expected="unfreeze_epochs: null, or one of the methods adapters, full, lora",
            )

    def _check_ranks(self) -> None:
        if self.target_rank > self.initial_rank:
            raise ConfigError(
                "AdaLoRA takes ranks away, it adds none",
                got=f"initial_rank: {self.initial_rank}, target_rank: {self.target_rank}",
                expected="target_rank not above initial_rank",
            )
        if self.tinit_fraction + self.tfinal_fraction >= 1:
            raise ConfigError(
                "AdaLoRA has no steps left in which ranks fall",
                got=f"tinit_fraction: {self.tinit_fraction:g}, tfinal_fraction: {self.tfinal_fraction:g}",
                expected="a sum below 1",
            )
