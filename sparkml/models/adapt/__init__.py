"""How a pretrained network is adapted to a task.

adapted = adapt(network, AdaptSettings(method="lora"), new_modules=["classifier"], total_steps=900, epoch_steps=300,
                seed=1)
optimizer = AdamW(adapted.parameter_groups(learning_rate=1e-4, weight_decay=0.01))
for step in range(900):
    adapted.train()
    adapted.before_step(step)
    loss = ... + (adapted.extra_loss() or 0)
    # backward, gradients averaged over ranks, rate of every group times its "scale", optimizer.step()
    adapted.after_step(step)
save_adapter(adapted, folder, base="all-minilm", base_sha256="...")  # or adapted.merged()

Plain torch, transformers and peft. Importing the package imports none of them.
"""

import importlib
from typing import Any

LOADED_BY_NAME = ("sparkml.models.adapt.*",)
_WHERE = {
    "AdaptSettings": "sparkml.models.adapt.settings",
    "Adapted": "sparkml.models.adapt.adapted",
    "adapt": "sparkml.models.adapt.build",
    "load_adapter": "sparkml.models.adapt.folder",
    "read_base": "sparkml.models.adapt.folder",
    "save_adapter": "sparkml.models.adapt.folder",
}
__all__ = ["AdaptSettings", "Adapted", "adapt", "load_adapter", "read_base", "save_adapter"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module `sparkml.models.adapt` has no attribute `{name}`")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
