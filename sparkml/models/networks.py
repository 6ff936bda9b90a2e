"""Networks from model directories: any architecture of transformers, from safetensors, never with code of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkml.errors import InputError
from sparkml.models.folder import CONFIG_FILE, check_folder, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

# Head layers that transformers counts to the base network, and that a pretrained one may lack.
_HEADS_IN_BASE = ("pooler.",)
_SHOWN = 3
_NOT_KEPT = ("_name_or_path", "transformers_version")
_WRITERS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


@dataclass(frozen=True)
class NetworkSpec:
    """Which network a task wants: transformers' Auto class, and what its configuration must say.

    `vector`: there is no head, the pooled vector is what it says.
    """

    head: str
    labels: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    pooling: str = ""
    vector: bool = False

    @property
    def writes(self) -> bool:
        """Its answers are text, a token after the other, each from those before it."""
        return self.head in _WRITERS


@dataclass(frozen=True)
class Loaded:
    """A network, and the modules that its directory had no weights for: a head that is still to be learnt."""

    network: nn.Module
    new_modules: frozenset[str]


def check_model(folder: str | Path) -> Path:
    """The folder as a Path where it holds a model that can be loaded safely, else InputError.

    Refused: no config.json, weights in a pickle format or none at all, code that would have to be trusted.
    """
    path = check_folder(folder, CONFIG_FILE)
    config = read_json(path / CONFIG_FILE)
    if config.get("auto_map"):
        raise InputError(
            "the model directory wants code of its own to be run",
            where=str(path / CONFIG_FILE),
            got=f"auto_map {config['auto_map']}",
            expected="an architecture that transformers has",
            next_action="code from model directories is never run: take a model of a built-in architecture",
        )
    if not any(path.glob("*.safetensors")):
        raise InputError(
            "the model directory has no weights",
            where=str(path),
            got=", ".join(sorted(entry.name for entry in path.iterdir())),
            expected="model.safetensors",
        )
    return path


def load_network(
    folder: str | Path,
    head: str,
    *,
    labels: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    random: bool = False,
) -> Loaded:
    """The network of a model directory under transformers' Auto class `head`, in float32 and in training mode.

    `labels` name the outputs of a new head; `settings` are further fields of the configuration. What the directory has
    no weights for is drawn from `seed`; `random`: everything is. InputError where the architecture has no such head,
    or where weights of the network itself are missing or of another shape. The global random state stays as it was.
    """
    import torch
    import transformers

    import sparkml.models.small
    import sparkml.models.whisper  # noqa: F401  # our own architectures, as transformers' own

    path = check_folder(folder, CONFIG_FILE) if random else check_model(folder)
    auto = getattr(transformers, head)
    config = _config(path, labels, settings or {})
    if type(config) not in auto._model_mapping:
        raise InputError(
            "this architecture has no network for the task",
            where=str(path / CONFIG_FILE),
            got=f"model_type {config.model_type!r}",
            expected=f"one of the {len(auto._model_mapping)} that transformers' {head} knows",
        )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        if random:
            network: nn.Module = auto.from_config(config, dtype=torch.float32)
            return Loaded(network.train(), frozenset(name for name, _ in network.named_parameters()))
        try:
            network, info = auto.from_pretrained(
                path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                "the model directory cannot be loaded",
                where=str(path),
                got=f"{type(error).__name__}: {error}",
                next_action="load it with transformers by hand to see more",
            ) from error
    mismatched = {str(entry[0]) for entry in info["mismatched_keys"]}
    new = frozenset(info["missing_keys"]) | mismatched
    _check_base(path, network, new, mismatched)
    return Loaded(network.train(), new)


def write_config(config: Mapping[str, Any], folder: Path, **fields_of_inputs: Any) -> None:
    """Write config.json of a new network: `model_type`, its fields, and what its inputs say (`vocab_size` and ids)."""
    import transformers

    import sparkml.models.small  # noqa: F401

    fields = dict(config)
    model_type = fields.pop("model_type", None)
    if model_type not in transformers.CONFIG_MAPPING:
        raise InputError(
            "there is no such architecture",
            got=repr(model_type),
            expected="a model_type of transformers, such as bert, modernbert, gpt2, t5",
        )
    try:
        described = transformers.AutoConfig.for_model(model_type, **{**fields_of_inputs, **fields})
    except (TypeError, ValueError) as error:
        raise InputError("not a configuration of that architecture", got=str(error)) from error
    if described.is_encoder_decoder and getattr(described, "decoder_start_token_id", None) is None:
        described.decoder_start_token_id = described.pad_token_id  # as T5 begins what it writes
    write_json(folder / CONFIG_FILE, kept_config(described.to_dict()))


def kept_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what transformers notes about the machine that wrote it."""
    return {key: value for key, value in config.items() if key not in _NOT_KEPT}


def _config(path: Path, labels: tuple[str, ...], settings: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    fields: dict[str, Any] = dict(settings)
    if labels:
        fields["num_labels"] = len(labels)
        fields["id2label"] = dict(enumerate(labels))
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "transformers does not know this architecture",
            where=str(path / CONFIG_FILE),
            got=str(error).splitlines()[0],
        ) from error
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def _check_base(path: Path, network: nn.Module, new: frozenset[str], mismatched: set[str]) -> None:
    """InputError where more than a head is new: nothing of a pretrained network keeps random weights unseen."""
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    owned = {name for name, _ in network.named_parameters() if name.startswith(prefix)}
    if new and not owned:  # the base lies in the network without a name of its own, or is the network
        prefix, owned = "", _names_of_base(network)
    lost = sorted(
        name for name in new if name in owned and not name.removeprefix(prefix).startswith(_HEADS_IN_BASE)
    )
    if lost:
        kind = "of another shape" if lost[0] in mismatched else "missing"
        raise InputError(
            "the weights do not fit the network of config.json",
            where=str(path),
            got=f"{kind}: {', '.join(lost[:_SHOWN])} ({len(lost)} in all)",
            next_action="write the model directory again with the program that made it",
        )


def _names_of_base(network: Any) -> set[str]:
    """Parameters that the architecture without a head has too; all where it has none of them, or is not known."""
    import torch
    import transformers

    auto: Any = transformers.AutoModel
    names = {name for name, _ in network.named_parameters()}
    if type(network.config) not in auto._model_mapping:
        return names
    with torch.device("meta"):  # names alone: nothing is allocated or drawn
        base = auto.from_config(network.config)
    return names & {name for name, _ in base.named_parameters()} or names


def decoder_start_of(network: Any) -> int:
    """The token with which an encoder-decoder begins; InputError where its files say none."""
    for said in (getattr(network, "generation_config", None), network.config):
        start = getattr(said, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise InputError(
        "the model does not say with which token its decoder begins",
        got=type(network).__name__,
        expected=f"decoder_start_token_id in {CONFIG_FILE} or generation_config.json",
    )


def untied_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights by name, each storage once: safetensors refuses two names for one tensor."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            seen.add(tensor.data_ptr())
            state[name] = tensor.detach().cpu().contiguous()
    return state


def take_state(
    network: nn.Module, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str, folder: Path
) -> nn.Module:
    """The network, in eval mode, with the weights of a folder's file in place of its own, which are `wanted`.

    InputError where they do not fit; `what` they are.
    """
    wrong = sorted(
        name
        for name in state.keys() | wanted.keys()
        if name not in state or name not in wanted or state[name].shape != wanted[name].shape
    )
    if wrong:
        raise InputError(
            f"the {what} weights do not fit the network of config.json",
            where=str(folder),
            got=f"missing or of another shape: {', '.join(wrong[:_SHOWN])} ({len(wrong)} in all)",
            next_action="compress the model again",
        )
    network.load_state_dict(state, strict=False)  # of weights that share memory one name is there
    return network.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and load reports of transformers: what is missing is said by our own errors."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
