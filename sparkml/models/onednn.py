"""Whether products go by oneDNN; apart, so that whoever asks needs no transformers."""

from __future__ import annotations

import torch


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN, and may use it."""
    return bool(torch.backends.mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
