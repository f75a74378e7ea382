"""Convolutions: torch's modules, parameters and state dicts, with deconvkit's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deconvkit.ops._arguments import is_int, shown
from deconvkit.ops._convolution import ALGORITHMS, Activation, activation_of, check_algorithm
from deconvkit.ops.conv2d import conv1d, conv2d
from deconvkit.ops.conv_transpose2d import conv_transpose1d, conv_transpose2d


class _Convolution(torch.nn.Module):
    """What the four share: the two arguments that torch's modules do not have."""

    op: Callable[..., Tensor]
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, *args: Any, activation: Activation = None, algorithm: str = "auto", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        activation_of(type(self).__name__, activation)
        check_algorithm(type(self).__name__, algorithm, ALGORITHMS)
        self.activation, self.algorithm = activation, algorithm

    def extra_repr(self) -> str:
        """torch's, and our two arguments where they are not the default."""
        shown = super().extra_repr()
        if self.activation is not None:
            shown += f", activation={self.activation!r}"
        if self.algorithm != "auto":
            shown += f", algorithm={self.algorithm!r}"
        return shown


class _Conv(_Convolution):
    padding_mode: Any
    _reversed_padding_repeated_twice: Any

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros" and isinstance(input, Tensor):  # the op refuses what is none
            input = functional.pad(input, self._reversed_padding_repeated_twice, self.padding_mode)
            padding = 0
        return self.op(
            input,
            weight,
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            activation=self.activation,
            algorithm=self.algorithm,
        )


class _ConvTranspose(_Convolution):
    output_padding: Any

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """As the class says; ``output_size``, spatial or whole, picks among the sizes that are possible."""
        return self.op(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._extra(input, output_size),
            self.groups,
            self.dilation,
            activation=self.activation,
            algorithm=self.algorithm,
        )

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> Any:
        """The output_padding that gives ``output_size``."""
        if output_size is None or not isinstance(input, Tensor):  # which the op refuses
            return self.output_padding
        name, dims = type(self).__name__, len(self.kernel_size)
        if not isinstance(output_size, (tuple, list)) or not all(map(is_int, output_size)):
            raise TypeError(f"{name}: output_size: expected a tuple of ints, got {shown(output_size)}")
        sizes = tuple(output_size)
        if len(sizes) not in (dims, input.dim()):
            raise ValueError(
                f"{name}: output_size: expected {dims} or {input.dim()} sizes for an input of shape "
                f"{tuple(input.shape)}, got {sizes}"
            )
        sizes = sizes[-dims:]
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, k, s, p, d in zip(
                input.shape[-dims:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        most = [m + max(s, d) - 1 for m, s, d in zip(least, self.stride, self.dilation, strict=True)]
        if any(not low <= size <= high for low, size, high in zip(least, sizes, most, strict=True)):
            raise ValueError(
                f"{name}: output_size: expected {tuple(least)} to {tuple(most)} for an input of shape "
                f"{tuple(input.shape)}, got {sizes}"
            )
        return tuple([size - low for size, low in zip(sizes, least, strict=True)])


class ConvTranspose1d(_ConvTranspose, torch.nn.ConvTranspose1d):
    """torch.nn.ConvTranspose1d by :func:`deconvkit.conv_transpose1d`, with an activation.

    (N, C_in, L) or (C_in, L) to (N, C_out, L') or (C_out, L').

    Args:
        *args: torch's, in torch's order.
        activation: as in :func:`deconvkit.conv_transpose2d`.
        algorithm: as in :func:`deconvkit.conv_transpose2d`.
        **kwargs: torch's.
    """

    op = staticmethod(conv_transpose1d)


class ConvTranspose2d(_ConvTranspose, torch.nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d by :func:`deconvkit.conv_transpose2d`, with an activation.

    (N, C_in, H, W) or (C_in, H, W) to (N, C_out, H', W') or (C_out, H', W').

    Args:
        *args: torch's, in torch's order.
        activation: as in :func:`deconvkit.conv_transpose2d`.
        algorithm: as in :func:`deconvkit.conv_transpose2d`.
        **kwargs: torch's.
    """

    op = staticmethod(conv_transpose2d)


class Conv1d(_Conv, torch.nn.Conv1d):
    """torch.nn.Conv1d by :func:`deconvkit.conv1d`, with an activation.

    (N, C_in, L) or (C_in, L) to (N, C_out, L') or (C_out, L').

    Args:
        *args: torch's, in torch's order.
        activation: as in :func:`deconvkit.conv2d`.
        algorithm: as in :func:`deconvkit.conv2d`.
        **kwargs: torch's.
    """

    op = staticmethod(conv1d)


class Conv2d(_Conv, torch.nn.Conv2d):
    """torch.nn.Conv2d by :func:`deconvkit.conv2d`, with an activation.

    (N, C_in, H, W) or (C_in, H, W) to (N, C_out, H', W') or (C_out, H', W').

    Args:
        *args: torch's, in torch's order.
        activation: as in :func:`deconvkit.conv2d`.
        algorithm: as in :func:`deconvkit.conv2d`.
        **kwargs: torch's.
    """

    op = staticmethod(conv2d)
