"""What both convolutions refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.ops.convolution import (
    Convolution,
)


class Errors(Convolution):
    """Every bad argument, by name."""

    def bad_arguments(self) -> list[tuple[type[Exception], str, Callable[[], Any]]]:
        """What both refuse."""
        op, one = self.op, self.op_1d
        x, w, b = torch.zeros(2, 4, 6, 7), torch.zeros(4, 4, 3, 3), torch.zeros(4)
        return [
            (TypeError, "input: expected a torch.Tensor, got list", lambda: op([1.0], w)),
            (TypeError, "input: expected a torch.Tensor, got NoneType", lambda: op(None, w)),
            (TypeError, "input: expected a torch.Tensor, got ndarray", lambda: op(x.numpy(), w)),
            (TypeError, "weight: expected a torch.Tensor, got NoneType", lambda: op(x, None)),
            (TypeError, "stride: expected an int or 2 ints .*, got Tensor$", lambda: op(x, w, stride=x)),
            (ValueError, r"stride: .*, got \[0, .{90,100}\.\.\.$", lambda: op(x, w, stride=list(range(999)))),
            (ValueError, "activation: .*, got Tensor$", lambda: op(x, w, activation=x)),
            (TypeError, "weight: expected a torch.Tensor, got list", lambda: op(x, [w])),
            (TypeError, "bias: expected a torch.Tensor, got float", lambda: op(x, w, 1.0)),
            (TypeError, "input: expected float32", lambda: op(x.int(), w.int())),
            (TypeError, "input: expected float32", lambda: op(x.to(torch.complex64), w.to(torch.complex64))),
            (TypeError, "input: expected float32", lambda: op(x.bool(), w)),
            (TypeError, "weight: expected input's dtype", lambda: op(x, w.double())),
            (TypeError, "bias: expected input's dtype", lambda: op(x, w, b.half())),
            (ValueError, "weight: expected input's device", lambda: op(x, w.to("meta"))),
            (ValueError, "bias: expected input's device", lambda: op(x, w, b.to("meta"))),
            (ValueError, r"input: expected shape \(N, C_in, H, W\)", lambda: op(x[None], w)),
            (ValueError, r"input: expected shape \(N, C_in, H, W\)", lambda: op(x[0, 0], w)),
            (ValueError, r"input: expected shape \(N, C_in, L\)", lambda: one(x, w[0])),
            (ValueError, r"weight: expected shape .*KH, KW", lambda: op(x, w[0])),
            (ValueError, r"weight: expected shape .*, K\)", lambda: one(x[0], w)),
            (ValueError, "weight: expected every size >= 1", lambda: op(x, w[:, :, :0])),
            (ValueError, "weight: expected every size >= 1", lambda: op(x[:, :0], w[:0])),
            (ValueError, "weight: expected every size >= 1", lambda: op(x[:, :0], w[:, :0])),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:, :, :0], w)),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:0, :, :, :0], w)),
            (ValueError, "input: expected every size but the batch", lambda: op(x[:, :0], w)),
            (ValueError, "input: expected 4 channels", lambda: op(x[:, :3], w)),
            (ValueError, "input: expected .* channels", lambda: op(torch.zeros(2, 6, 6, 7), w, groups=2)),
            (ValueError, "groups: expected a divisor", lambda: op(x, w, groups=3)),
            (ValueError, "groups: expected", lambda: op(x, w, groups=0)),
            (ValueError, "groups: expected", lambda: op(x, w, groups=-1)),
            (TypeError, "groups: expected", lambda: op(x, w, groups=2.0)),
            (ValueError, r"bias: expected shape \(4,\)", lambda: op(x, w, b[:3])),
            (ValueError, r"bias: expected shape \(4,\)", lambda: op(x, w, b[None])),
            (ValueError, "stride: expected", lambda: op(x, w, stride=0)),
            (ValueError, "stride: expected", lambda: op(x, w, stride=(1, -1))),
            (ValueError, "stride: expected", lambda: op(x, w, stride=[1, 1, 1])),
            (ValueError, "stride: expected", lambda: op(x, w, stride=2**31)),
            (TypeError, "stride: expected", lambda: op(x, w, stride=1.5)),
            (TypeError, "stride: expected", lambda: op(x, w, stride=None)),
            (ValueError, "padding: expected", lambda: op(x, w, padding=-1)),
            (ValueError, "padding: expected", lambda: op(x, w, padding=(0, 0.5))),
            (ValueError, "padding: expected", lambda: op(x, w, padding=2**70)),
            (ValueError, "padding: expected", lambda: one(x[:, :, 0], w[:, :, 0], padding=(1, 1))),
            (ValueError, "dilation: expected", lambda: op(x, w, dilation=0)),
            (ValueError, "dilation: expected", lambda: op(x, w, dilation=(-2, 1))),
            (ValueError, "activation: expected None", lambda: op(x, w, activation="gelu")),
            (ValueError, "activation: expected None", lambda: op(x, w, activation=["relu"])),
            (ValueError, "activation: expected None", lambda: op(x, w, activation=("relu", 0.1))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", -0.1))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", torch.inf))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", torch.nan))),
            (ValueError, "activation: .*slope", lambda: op(x, w, activation=("leaky_relu", "a"))),
            (ValueError, "algorithm: expected one of 'auto'", lambda: op(x, w, algorithm="fft")),
            (ValueError, "algorithm: expected one of 'auto'", lambda: op(x, w, algorithm=None)),
        ]

    def check_errors(self, calls: list[tuple[type[Exception], str, Callable[[], Any]]]) -> None:
        for error, words, call in calls:
            for _ in range(2):  # nothing wrong is remembered
                with pytest.raises(error, match=rf"^conv(_transpose)?[12]d: {words}"):
                    call()

    def test_bad_arguments(self) -> None:
        self.check_errors(self.bad_arguments())

    def test_a_call_that_was_right_makes_no_other_right(self) -> None:
        x, w = torch.zeros(2, 4, 6, 7), torch.zeros(4, 4, 3, 3)
        for name in ("stride", "dilation", "groups"):
            self.op(x, w, **{name: 1})
            for wrong in (1.0, True):
                with pytest.raises(TypeError, match=f"{name}: expected an int"):
                    self.op(x, w, **{name: wrong})
