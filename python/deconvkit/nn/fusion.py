"""Folding for inference: batch normalisation into weights, activations into the convolution's own pass."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deconvkit.nn.convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from deconvkit.ops._arguments import FLOAT_DTYPES
from deconvkit.ops._convolution import Activation

_OURS: dict[type[nn.Module], Any] = {
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.ConvTranspose1d: ConvTranspose1d,
    nn.ConvTranspose2d: ConvTranspose2d,
}
_CONVOLUTIONS = (*_OURS, *_OURS.values())
_NORMS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.BatchNorm1d: (nn.Conv1d, Conv1d, nn.ConvTranspose1d, ConvTranspose1d, nn.Linear),
    nn.BatchNorm2d: (nn.Conv2d, Conv2d, nn.ConvTranspose2d, ConvTranspose2d),
}
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)  # what evaluation mode passes through


class _Place(NamedTuple):
    """A module and where it hangs."""

    parent: nn.Module
    key: str
    name: str
    module: nn.Module

    def put(self, module: nn.Module) -> None:
        setattr(self.parent, self.key, module)

    def __str__(self) -> str:
        return f"{self.name} ({type(self.module).__name__})"


def fuse(model: nn.Module, *, report: Callable[[str], object] | None = None) -> nn.Module:
    """Fold each batch normalisation and activation into the convolution before it, for inference.

    A normalisation in evaluation mode is y ↦ γ(y − μ)/√(σ² + ε) + β with a fixed mean μ and variance σ² for
    each channel. Behind a convolution y = w∗x + b it is another convolution, with

        w' = w · γ/√(σ² + ε)   and   b' = (b − μ) · γ/√(σ² + ε) + β,

    computed in float64 and kept in the weight's dtype. What is found in ``nn.Sequential``s, one inside the
    other too, is a convolution (deconvkit.nn's, or torch's, which then becomes deconvkit.nn's) followed by
    BatchNorm1d or BatchNorm2d, by ReLU, LeakyReLU, Tanh or Sigmoid, or by both in this order; and a linear
    layer followed by BatchNorm1d. Outputs differ from the model's by rounding. Inputs must have a batch.

    Args:
        model: in evaluation mode; it is left as it is.
        report: called with a line for each thing that was folded, and for each normalisation and each
            activation behind a convolution that was not, with the reason; ``print`` will do.

    Returns:
        A copy of the model in evaluation mode. An ``nn.Identity`` stands where something was folded away, so
        that names and numbers of the other layers stay.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: it, or a part of it, is in training mode.

    Example:
        >>> generator = deconvkit.nn.fuse(generator.eval(), report=print)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fuse: model: expected a torch.nn.Module, got {type(model).__name__}")
    training = [name or "the model itself" for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"fuse: model: expected evaluation mode (model.eval()), got training mode in {training[0]}"
        )
    say = report or (lambda line: None)
    fused = copy.deepcopy(model)
    uses = Counter(id(module) for _, module in fused.named_modules(remove_duplicate=False))
    handled: set[int] = set()
    chains: list[list[_Place]] = []
    for name, module in list(fused.named_modules()):
        if _is_chain(module) and id(module) not in handled:
            chains.append(list(_flattened(module, name, handled)))
    seen: set[int] = set()
    for chain in chains:
        _fold_chain([place for place in chain if not _passes_through(place.module)], uses, say, seen)
    for name, module in fused.named_modules():
        if type(module) in _NORMS and id(module) not in seen:
            say(f"{name} ({type(module).__name__}): kept, it follows no convolution in an nn.Sequential")
    return fused


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _passes_through(module: nn.Module) -> bool:
    """Nothing happens here in evaluation mode; in a subclass something may, and hooks may change values."""
    return type(module) in _NOTHING and not _is_watched(module)


def _flattened(chain: nn.Module, name: str, handled: set[int]) -> Iterator[_Place]:
    """What a Sequential calls, in order, with inner Sequentials opened where nobody watches them."""
    handled.add(id(chain))
    for key, module in chain.named_children():
        place = _Place(chain, key, f"{name}.{key}" if name else key, module)
        if _is_chain(module) and not _is_watched(module):
            yield from _flattened(module, place.name, handled)
        else:
            yield place


def _is_watched(module: nn.Module) -> bool:
    """Somebody wants to see what goes in or comes out, or makes the weights anew at each call."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or torch.nn.utils.parametrize.is_parametrized(module)


def _fold_chain(
    chain: list[_Place], uses: Counter[int], say: Callable[[str], object], seen: set[int]
) -> None:
    for i, place in enumerate(chain):
        if type(place.module) not in (*_CONVOLUTIONS, nn.Linear):
            continue
        rest = chain[i + 1 : i + 3]
        norm = rest.pop(0) if rest and type(rest[0].module) in _NORMS else None
        activation = rest[0] if rest and type(rest[0].module) in _ACTIVATIONS else None
        if norm is not None:
            seen.add(id(norm.module))
            reason = _keeps_norm(place, norm, uses)
            if reason:
                say(f"{norm}: kept, {reason}")
                continue
        if type(place.module) is nn.Linear:
            activation = None
        if activation is not None:
            reason = _keeps_activation(place, activation, uses)
            if reason:
                say(f"{activation}: kept, {reason}")
                activation = None
        folded = [part for part in (norm, activation) if part is not None]
        if not folded:
            continue
        _fold(place, norm, activation)
        for part in folded:
            part.put(nn.Identity().eval())
        say(f"{place}: takes in {' and '.join(map(str, folded))}")


def _cannot_change(parts: tuple[_Place, ...], uses: Counter[int]) -> str:
    """Why modules must stay as they are."""
    for part in parts:
        if uses[id(part.module)] > 1:
            return f"{part.name} is used more than once"
        if _is_watched(part.module):
            return f"{part.name} has hooks or parametrizations"
    dtype = parts[0].module.weight.dtype
    return "" if dtype in FLOAT_DTYPES else f"{parts[0].name} is of {dtype}"


def _keeps_norm(place: _Place, norm: _Place, uses: Counter[int]) -> str:
    conv, module = place.module, norm.module
    if type(conv) not in _NORMS[type(module)]:
        return f"its dimensions are not those of {place}"
    if getattr(conv, "activation", None) is not None:
        return f"{place.name} ends in an activation, {conv.activation!r}, which comes first"
    if module.running_mean is None or module.running_var is None:
        return "it normalises by each batch's own statistics (track_running_stats=False)"
    channels = conv.out_features if type(conv) is nn.Linear else conv.out_channels
    if module.num_features != channels:
        return f"it normalises {module.num_features} channels, not the {channels} of {place.name}"
    return _cannot_change((place, norm), uses)


def _keeps_activation(place: _Place, activation: _Place, uses: Counter[int]) -> str:
    if getattr(place.module, "activation", None) is not None:
        return f"{place.name} has an activation already, {place.module.activation!r}"
    slope = getattr(activation.module, "negative_slope", 0)
    if slope < 0:
        return f"its slope, {slope}, is negative"
    return _cannot_change((place, activation), uses)


def _fold(place: _Place, norm: _Place | None, activation: _Place | None) -> None:
    conv: Any = place.module
    if norm is not None:
        weight, bias = _folded(conv, norm.module)
        conv.weight = nn.Parameter(weight, conv.weight.requires_grad)
        conv.bias = nn.Parameter(bias, conv.weight.requires_grad)
    if activation is not None:
        if type(conv) in _OURS:
            conv = _as_ours(conv)
            place.put(conv)
        conv.activation = _name(activation.module)


@torch.no_grad()
def _folded(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias with the normalisation in them."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    weight = conv.weight.double()
    ones = (1,) * (weight.dim() - 2)
    if isinstance(conv, (nn.ConvTranspose1d, nn.ConvTranspose2d)):  # (C_in, C_out/groups, ...)
        by_group = weight.unflatten(0, (conv.groups, -1)) * scale.view(conv.groups, 1, -1, *ones)
        weight = by_group.flatten(0, 1)
    else:
        weight = weight * scale.view(-1, 1, *ones)
    folded = torch.empty_like(conv.weight).copy_(weight)  # in the weight's layout
    return folded, shift.to(conv.weight.dtype)


def _as_ours(conv: Any) -> Any:
    """deconvkit.nn's module with the parameters of torch's."""
    arguments = {
        name: getattr(conv, name)
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    }
    if isinstance(conv, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
        arguments["output_padding"] = conv.output_padding
    ours = _OURS[type(conv)](
        **arguments, bias=conv.bias is not None, padding_mode=conv.padding_mode, device="meta"
    )
    ours.weight, ours.bias = conv.weight, conv.bias
    return ours.eval()


def _name(module: nn.Module) -> Activation:
    if isinstance(module, nn.LeakyReLU):
        return "leaky_relu", module.negative_slope
    return type(module).__name__.lower()
