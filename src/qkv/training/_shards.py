"""A model whose weights, gradients and optimizer state several processes share: each holds a part (FSDP2).

PyTorch's ``fully_shard`` gathers a layer's weights when it is their turn and averages gradients into the parts. What is
written stays whole, so that a checkpoint is the same whoever wrote it: any number of processes goes on from it.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import DependencyError


def shard_model(model: nn.Module, device: str) -> None:
    """Leave each process its part of every weight, in place: rows, as evenly as they go.

    Args:
        model: with equal weights in all processes.
        device: the type of those that compute, such as ``"cpu"``.

    Raises:
        DependencyError: where this PyTorch has no public FSDP2.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise DependencyError(
            f"shard: expected a PyTorch with fully_shard in public, 2.6 or newer, got {torch.__version__}: "
            "pip install 'torch>=2.6', or leave out --shard"
        ) from error
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    # By default the outermost module keeps what it gathered until a backward pass, and validation has none.
    for module in (*_layers(model), model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """What repeats in a model: the elements of its outermost lists."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _layers(child)


def accept_parts(accelerator: Any) -> None:
    """Have accelerate prepare a shared model for autocast alone, and tell the norm of whole gradients.

    DistributedDataParallel, which it wraps around models in several processes, wants all weights in each.
    """
    prepare, clip = accelerator.prepare_model, accelerator.clip_grad_norm_
    accelerator.prepare_model = partial(prepare, evaluation_mode=True)
    accelerator.clip_grad_norm_ = lambda *arguments, **named: clip(*arguments, **named).full_tensor()


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with whole weights. Every process of a shared model calls this; the first one alone gets them."""
    named = model.state_dict(keep_vars=True)  # a weight that goes by two names is one object, and stays one
    whole = {key: _whole(weight) for key, weight in {id(weight): weight for weight in named.values()}.items()}
    return {name: whole[id(weight)] for name, weight in named.items()}


def part_like(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole tensor where the parameter is one's part; otherwise the tensor itself."""
    if not _is_part(parameter):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


def keep_whole_states(optimizer: torch.optim.Optimizer) -> None:
    """Have ``state_dict`` give whole tensors and ``load_state_dict`` take them: each in all processes at once."""

    def gather(_: Any, packed: dict[str, Any]) -> dict[str, Any]:
        return {
            **packed,
            "state": {
                number: {name: _whole(value) for name, value in state.items()}
                for number, state in packed["state"].items()
            },
        }

    def split(_: Any, packed: dict[str, Any]) -> dict[str, Any]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return {
            **packed,
            "state": {
                number: {
                    # The number of updates, a scalar, is every process's own.
                    name: part_like(value, parameters[number]) if value.shape == parameters[number].shape else value
                    for name, value in state.items()
                }
                for number, state in packed["state"].items()
            },
        }

    optimizer.register_state_dict_post_hook(gather)
    optimizer.register_load_state_dict_pre_hook(split)


def _is_part(value: Any) -> bool:
    return hasattr(value, "full_tensor")


def _whole(value: Any) -> Any:
    if not _is_part(value):
        return value.detach() if isinstance(value, torch.Tensor) else value
    whole = value.detach().full_tensor()
    return whole.cpu() if torch.distributed.get_rank() == 0 else whole.new_empty(0)
