"""The BERT-shaped encoder: its shape, a masked language model around it, and its model folder.

torch and transformers are imported where they are used, so that reading `EncoderShape` (the configuration of
the train stage holds one) does not cost the seconds that importing them takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparkml.errors import InputError
from sparkml.models.folder import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    check_folder,
    read_json,
    write_json,
)
from sparkml.models.tokenizer import PAD_ID, SPECIAL_TOKENS

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedModel

ModelT = TypeVar("ModelT", bound="nn.Module")


# What transformers adds to config.json about the writing machine, or about heads that this model has not.
_NOT_OURS = ("_name_or_path", "id2label", "label2id", "problem_type", "dtype", "return_dict")


class EncoderShape(BaseModel):
    """Size of a BERT-shaped encoder (Devlin et al. 2019, arXiv:1810.04805)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(128, ge=8, description="Width of a token's vector")
    layers: int = Field(3, ge=1, description="Transformer blocks")
    heads: int = Field(4, ge=1, description="Attention heads; divides hidden")
    intermediate: int = Field(512, ge=8, description="Width inside a block's feed-forward part")
    max_length: int = Field(128, ge=8, description="Longest sequence in tokens, [CLS] and [SEP] included")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Share of activations dropped in training")

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> EncoderShape:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


def bert_config(shape: EncoderShape, vocab_size: int) -> BertConfig:
    """The transformers configuration of a shape: tied embeddings, one segment, [PAD] = 0, sdpa attention."""
    from transformers import BertConfig

    if vocab_size <= len(SPECIAL_TOKENS):
        raise InputError(
            "vocabulary too small for an encoder",
            got=str(vocab_size),
            expected=f"more than the {len(SPECIAL_TOKENS)} special tokens",
            next_action="train the tokenizer on more text",
        )
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.max_length,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=shape.dropout,
        type_vocab_size=1,
        # BERT's 0.02 is right for a width of 768. With it a narrow network hardly hears its own attention and
        # stays at the words' frequencies for hundreds of steps: the spread of activations is kept instead.
        initializer_range=0.02 * (768 / shape.hidden) ** 0.5,
        pad_token_id=PAD_ID,
        tie_word_embeddings=True,
    )


def build_masked_lm(shape: EncoderShape, vocab_size: int, seed: int) -> BertForMaskedLM:
    """A masked language model with random weights; equal seeds give equal weights.

    The global random state is left as it was.
    """
    import torch
    from transformers import BertForMaskedLM

    config = bert_config(shape, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config)


def save_model(model: PreTrainedModel, folder: str | Path, tokenizer: bytes) -> Path:
    """Write model.safetensors, config.json and tokenizer.json into a folder that is there."""
    from safetensors.torch import save_file

    staging = Path(folder)
    save_file(untied_state(model), staging / WEIGHTS_FILE, metadata={"format": "pt"})
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_OURS}
    write_json(staging / CONFIG_FILE, {**config, "architectures": [type(model).__name__]})
    (staging / TOKENIZER_FILE).write_bytes(tokenizer)
    return staging


def untied_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights by name, each storage once: safetensors refuses two names for one tensor."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            state[name] = tensor.detach().cpu().contiguous()
    return state


def load_encoder(folder: str | Path) -> BertModel:
    """The encoder of a model folder (of a masked LM or a classifier) in eval mode, without any head.

    Raises `InputError` for a folder that is incomplete, holds pickle weights, or is not BERT-shaped.
    """
    from transformers import BertModel

    path = check_bert_folder(folder)
    return _filled(BertModel(_folder_config(path), add_pooling_layer=False), path, prefix="bert.")


def load_masked_lm(folder: str | Path) -> BertForMaskedLM:
    """The whole masked language model of a folder written by `save_model`, in eval mode."""
    from transformers import BertForMaskedLM

    path = check_bert_folder(folder)
    return _filled(BertForMaskedLM(_folder_config(path)), path, prefix="")


def encoder_shape(folder: str | Path) -> EncoderShape:
    """Read the shape back from a model folder's config.json."""
    config = read_json(check_bert_folder(folder) / CONFIG_FILE)
    return EncoderShape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        max_length=config["max_position_embeddings"],
        dropout=config["hidden_dropout_prob"],
    )


def check_bert_folder(folder: str | Path) -> Path:
    """Return the folder when it holds a BERT-shaped model with its tokenizer, else raise `InputError`."""
    path = check_folder(folder, WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE)
    model_type = read_json(path / CONFIG_FILE).get("model_type")
    if model_type != "bert":
        raise InputError(
            "this encoder cannot be loaded",
            where=str(path / CONFIG_FILE),
            got=f"model_type {model_type!r}",
            expected="model_type 'bert'",
        )
    return path


def _folder_config(path: Path) -> BertConfig:
    from transformers import BertConfig

    return BertConfig(**read_json(path / CONFIG_FILE))


def _filled(model: ModelT, path: Path, *, prefix: str) -> ModelT:
    """Load a folder's weights into a network; every weight of the network must be there with its shape."""
    from safetensors.torch import load_file

    state = load_file(path / WEIGHTS_FILE)
    if prefix and any(name.startswith(prefix) for name in state):
        state = {
            name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)
        }
    wanted = {name: tensor.shape for name, tensor in untied_state(model).items()}
    wrong = sorted(name for name, shape in wanted.items() if name not in state or state[name].shape != shape)
    if wrong:
        raise InputError(
            "the weights do not fit the network of config.json",
            where=str(path / WEIGHTS_FILE),
            got=f"missing or of another shape: {', '.join(wrong[:3])} ({len(wrong)} in all)",
            next_action="write the model folder again with the stage that made it",
        )
    # Not strict: tied names are absent from the file, and an encoder leaves the weights of a head behind.
    model.load_state_dict(state, strict=False)
    return model.eval()
