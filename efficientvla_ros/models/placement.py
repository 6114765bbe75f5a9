"""Networks without memory, filled tensor by tensor where they are to run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import CogACTConfig, OpenVLAConfig, VLMConfig
from efficientvla_ros.models.errors import CheckpointError
from efficientvla_ros.models.openvla import OpenVLA

Policy = CogACT | OpenVLA
Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_NARROW = torch.bfloat16
_LAYERS = 'llm_backbone.llm.model.layers.'


def build_empty(config: VLMConfig) -> Policy:
    """The networks on the meta device: all parameters, no memory; constant tables are real."""
    with torch.device('meta'):
        if isinstance(config, CogACTConfig):
            model: Policy = CogACT(config)
        elif isinstance(config, OpenVLAConfig):
            model = OpenVLA(config)
        else:
            raise TypeError(f'no policy is described by a {type(config).__name__}')
    return model.eval().requires_grad_(False)


def parameter_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Type of the parameter `name` of a policy that is wanted in `dtype`.

    The diffusion head is float32 always, as in the released code.
    """
    return torch.float32 if name.startswith('action_model.') else dtype


def is_wanted(name: str, layers: Collection[int] | None) -> bool:
    """Whether the parameter `name` lies outside the decoder layers or in one of `layers`.

    All are wanted where `layers` is None.
    """
    if layers is None or not name.startswith(_LAYERS):
        return True
    return int(name.removeprefix(_LAYERS).partition('.')[0]) in layers


def set_parameter(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor in the place of the parameter `name`, of the same shape."""
    owner_name, _, leaf = name.rpartition('.')
    owner = model.get_submodule(owner_name)
    expected = owner.get_parameter(leaf).shape
    if tensor.shape != expected:
        raise ValueError(f'{name} has shape {tuple(tensor.shape)}, expected {tuple(expected)}')
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))


def place_buffers(model: nn.Module, device: torch.device) -> None:
    """Moves the constant tables of a model."""
    for module in model.modules():
        for name, value in module.named_buffers(recurse=False):
            setattr(module, name, value.to(device))


def fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    device: str | torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
    layers: Collection[int] | None = None,
) -> None:
    """Copies tensors into an empty model.

    Args:
        model: what `build_empty` returned; afterwards on `device`.
        tensors: parameter names and values, each read when its turn comes. Beside the model,
            no more than one of them is in memory.
        device: where the parameters are to be.
        dtype: their type; see `parameter_dtype`.
        progress: called after each tensor with the bytes of parameters done and in all.
        layers: decoder layers that `tensors` has, for `progress`; None is all.
    """
    device = torch.device(device)
    total = weight_bytes(model, dtype, layers)
    done = 0
    for name, value in tensors:
        kind = parameter_dtype(name, dtype)
        set_parameter(
            model, name, torch.empty(value.shape, dtype=kind, device=device).copy_(value)
        )
        done += value.numel() * kind.itemsize
        if progress is not None:
            progress(done, total)
    place_buffers(model, device)


def allocate(
    model: nn.Module,
    device: str | torch.device,
    dtype: torch.dtype,
    layers: Collection[int] | None = None,
) -> None:
    """Gives an empty model memory of undefined content on a device.

    Decoder layers other than `layers` stay empty; None is all.
    """
    for name, value in list(model.named_parameters()):
        if not is_wanted(name, layers):
            continue
        kind = parameter_dtype(name, dtype)
        set_parameter(model, name, torch.empty(value.shape, dtype=kind, device=device))
    place_buffers(model, torch.device(device))


def weight_bytes(
    model: nn.Module, dtype: torch.dtype, layers: Collection[int] | None = None
) -> int:
    """Bytes of a model's parameters in `dtype`, with some of its decoder layers or all."""
    return sum(
        value.numel() * parameter_dtype(name, dtype).itemsize
        for name, value in model.named_parameters()
        if is_wanted(name, layers)
    )


def required_bytes(
    config: VLMConfig, dtype: torch.dtype, layers: Collection[int] | None = None
) -> int:
    """Bytes of memory that loading a policy needs: its parameters and one tensor in float32."""
    model = build_empty(config)
    largest = max(value.numel() for value in model.parameters())
    return weight_bytes(model, dtype, layers) + 4 * largest


def available_bytes(device: str | torch.device) -> int:
    """Bytes of memory that are free on a device."""
    device = torch.device(device)
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def require_memory(
    config: VLMConfig,
    device: str | torch.device,
    dtype: torch.dtype,
    layers: Collection[int] | None = None,
) -> None:
    """Refuses a model, with some of its decoder layers or all, that does not fit a device.

    Raises:
        CheckpointError: it says how much is needed, how much there is, and how much bfloat16
            would need.
    """
    needed, available = required_bytes(config, dtype, layers), available_bytes(device)
    if needed <= available:
        return
    message = (
        f'{config.name} in {_name(dtype)} needs {_amount(needed)} on {device}, '
        f'{_amount(available)} are available'
    )
    if dtype.itemsize > _NARROW.itemsize:
        message += f'; {_name(_NARROW)} needs {_amount(required_bytes(config, _NARROW, layers))}'
    raise CheckpointError(message)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def _amount(count: int) -> str:
    return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{count / 1e6:.1f} MB'
