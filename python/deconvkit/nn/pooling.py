"""Pooling that records switches, and unpooling by them: torch's modules with deconvkit's operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair, _single

from deconvkit.ops.max_pool2d import max_pool1d_with_switches, max_pool2d_with_switches
from deconvkit.ops.max_unpool2d import max_unpool1d, max_unpool2d


class MaxPool1d(torch.nn.MaxPool1d):
    """torch.nn.MaxPool1d whose second result, with ``return_indices=True``, are switches.

    Arguments and shapes are torch's; the operator is :func:`deconvkit.max_pool1d_with_switches`.
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, L) or (C, L) to (N, C, OL) or (C, OL); a pair with ``return_indices``."""
        result = max_pool1d_with_switches(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        return result if self.return_indices else result[0]


class MaxPool2d(torch.nn.MaxPool2d):
    """torch.nn.MaxPool2d whose second result, with ``return_indices=True``, are switches.

    Arguments and shapes are torch's; the operator is :func:`deconvkit.max_pool2d_with_switches`.
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W) to (N, C, OH, OW) or (C, OH, OW); a pair with ``return_indices``."""
        result = max_pool2d_with_switches(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        return result if self.return_indices else result[0]


class MaxUnpool1d(torch.nn.MaxUnpool1d):
    """torch.nn.MaxUnpool1d by the switches of :class:`MaxPool1d`.

    Arguments and shapes are torch's, and ``dilation`` as in the pooling; the operator is
    :func:`deconvkit.max_unpool1d`.
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, dilation: int | tuple[int] = 1
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = _single(dilation)

    def forward(self, input: Tensor, switches: Tensor, output_size: Any = None) -> Tensor:
        """(N, C, L) or (C, L) to (N, C, OL) or (C, OL)."""
        return max_unpool1d(
            input, switches, self.kernel_size, self.stride, self.padding, output_size, dilation=self.dilation
        )

    def extra_repr(self) -> str:
        """Describe the windows."""
        return super().extra_repr() + f", dilation={self.dilation}"


class MaxUnpool2d(torch.nn.MaxUnpool2d):
    """torch.nn.MaxUnpool2d by the switches of :class:`MaxPool2d`.

    Arguments and shapes are torch's, and ``dilation`` as in the pooling; the operator is
    :func:`deconvkit.max_unpool2d`.
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, dilation: int | tuple[int, int] = 1
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = _pair(dilation)

    def forward(self, input: Tensor, switches: Tensor, output_size: Any = None) -> Tensor:
        """(N, C, H, W) or (C, H, W) to (N, C, OH, OW) or (C, OH, OW)."""
        return max_unpool2d(
            input, switches, self.kernel_size, self.stride, self.padding, output_size, dilation=self.dilation
        )

    def extra_repr(self) -> str:
        """Describe the windows."""
        return super().extra_repr() + f", dilation={self.dilation}"
