"""A part of the model on every rank: torch's `fully_shard`, and its tensor parallelism inside groups of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import Reporter
from sparkml.errors import ConfigError
from sparkml.models.adapt import Adapted
from sparkml.tasks.task import Batch
from sparkml.training.pieces import Piece
from sparkml.training.settings import SpreadSettings
from sparkml.training.spread import R
from sparkml.training.tensor_plan import split_blocks

# What can be done with a network that lies in parts; the others look at whole matrices between the passes.
_METHODS = ("full", "frozen", "lora")


class _Root(nn.Module):
    """Calls a function of the network, which may use any part of it: all that is not a block is then gathered."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[Any, Batch], R], batch: Batch) -> R:
        return function(self.network, batch)


class InParts:
    """A part of the model on each rank; `adapted` is left with the parts of this one. Made by every rank.

    `spare` is a batch to repeat where a rank has nothing of its own; `lower`: blocks are gathered in bfloat16.
    """

    is_whole = False

    def __init__(
        self,
        adapted: Adapted,
        settings: SpreadSettings,
        collective: Collective,
        reporter: Reporter,
        device: torch.device,
        spare: Batch,
        *,
        lower: bool,
    ) -> None:
        _check(adapted)
        self._collective, self._reporter, self._spare = collective, reporter, spare
        self._network = adapted.network
        n_readers = collective.size // settings.tensor_ranks
        names = ("data", "tensor")
        mesh = init_device_mesh(device.type, (n_readers, settings.tensor_ranks), mesh_dim_names=names)
        if settings.tensor_ranks > 1:
            split_blocks(adapted, mesh["tensor"])
        root = _Root(adapted.network)
        if n_readers > 1:
            _shard(root, adapted, mesh["data"], lower=lower)
        self._root = root.to(device)
        self._held = {
            name: parameter
            for name, parameter in adapted.network.named_parameters()
            if name in adapted.trained_parameters()
        }
        self.pieces = {
            name: _piece(parameter, collective.rank, settings.tensor_ranks)
            for name, parameter in self._held.items()
        }
        # Plain tensors over the same memory: the optimiser, averages and checkpoints need not know of meshes.
        local = {name: nn.Parameter(_local(parameter.data)) for name, parameter in self._held.items()}
        adapted.hold(local)
        self.gradients = _PartGradients(self._held, local, collective, settings.tensor_ranks)

    def call(self, function: Callable[[Any, Batch], R], batch: Batch) -> R:
        """See `Spread.call`."""
        with self._reporter.waiting():
            found: R = self._root(function, batch)
        return found

    def backward(self, loss: Tensor) -> None:
        """See `Spread.backward`."""
        with self._reporter.waiting():
            loss.backward()  # type: ignore[no-untyped-call]

    def even(self, count: int, parts: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
        """As many as the rank that has most."""
        counts = torch.zeros(self._collective.size, dtype=torch.float64)
        counts[self._collective.rank] = count
        self._collective.allreduce_(counts)
        last = self._spare
        for last in parts:
            yield last, True
        for _ in range(count, int(counts.max())):
            yield last, False

    def whole_state(self) -> dict[str, Tensor] | None:
        """See `Spread.whole_state`."""
        whole: dict[str, Tensor] = {}
        with self._reporter.waiting(), torch.no_grad():
            for name, tensor in self._network.state_dict().items():
                full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
                if self._collective.rank == 0:
                    whole[name] = full.detach().to("cpu", copy=True)
        return whole if self._collective.rank == 0 else None


class _PartGradients:
    """The gradients of the parts: summed by the backward passes themselves."""

    def __init__(
        self,
        held: Mapping[str, nn.Parameter],
        local: Mapping[str, nn.Parameter],
        collective: Collective,
        tensor_ranks: int,
    ) -> None:
        self._pairs = [(parameter, local[name]) for name, parameter in held.items()]
        self._collective, self._tensor_ranks = collective, tensor_ranks
        self._n_readers = collective.size // tensor_ranks

    def zero(self) -> None:
        """See `Gradients.zero`."""
        for parameter, own in self._pairs:
            parameter.grad = own.grad = None

    def last_pass(self) -> None:
        """Every pass sums: to keep whole gradients until the last one would need the memory that is not there."""

    def sum_over_ranks(self, sums: Sequence[float]) -> list[float]:
        """See `Gradients.sum_over_ranks`."""
        for parameter, own in self._pairs:
            own.grad = torch.zeros_like(own) if parameter.grad is None else _local(parameter.grad)
        totals = torch.tensor(sums, dtype=torch.float64)
        self._collective.allreduce_(totals)
        return [float(total) / self._tensor_ranks for total in totals]

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """See `Gradients.scale_and_clip`."""
        squares = torch.zeros(1, dtype=torch.float64)
        for parameter, own in self._pairs:
            if own.grad is not None:
                squares += own.grad.double().square().sum().cpu() / self._copies(parameter)
        self._collective.allreduce_(squares)
        norm = float(squares.sqrt()) * scale
        factor = scale * max_norm / norm if 0 < max_norm < norm else scale
        for _, own in self._pairs:
            if own.grad is not None:
                own.grad.mul_(factor)
        return norm

    def _copies(self, parameter: nn.Parameter) -> int:
        """On how many ranks the same part of a parameter lies."""
        size = self._n_readers * self._tensor_ranks
        if not isinstance(parameter, DTensor):
            return size
        mesh = parameter.device_mesh
        parts = [mesh.size(dim) for dim, placement in enumerate(parameter.placements) if placement.is_shard()]
        return size // int(torch.tensor(parts or [1]).prod())


def _shard(root: _Root, adapted: Adapted, mesh: DeviceMesh, *, lower: bool) -> None:
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if lower else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for module in adapted.blocks():
        fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(root, mesh=mesh, mp_policy=policy)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # Sums, as everywhere: the mean is over units, not over ranks.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _check(adapted: Adapted) -> None:
    settings = adapted.settings
    if settings.method not in _METHODS or settings.unfreeze_epochs is not None:
        unfreezing = " with unfreeze_epochs" if settings.unfreeze_epochs is not None else ""
        raise ConfigError(
            "a model that lies in parts cannot be adapted so",
            got=f"adapt.method {settings.method}{unfreezing}",
            expected=f"one of {', '.join(_METHODS)}, without unfreeze_epochs",
            next_action="choose another method, or parallel=data",
        )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _piece(parameter: nn.Parameter, rank: int, tensor_ranks: int) -> Piece:
    shape = tuple(parameter.shape)
    if not isinstance(parameter, DTensor):
        return Piece((0,) * len(shape), shape, shape, is_own=rank == 0)
    mesh, placements = parameter.device_mesh, parameter.placements
    local, offset = compute_local_shape_and_global_offset(parameter.shape, mesh, placements)
    # The ranks of a group hold the same of what is not split among them.
    names = zip(mesh.mesh_dim_names or (), placements, strict=True)
    split = any(name == "tensor" and placement.is_shard() for name, placement in names)
    return Piece(tuple(offset), tuple(local), shape, is_own=split or rank % tensor_ranks == 0)
