"""torch.ops.deconvkit.* called directly, past the public functions' checks: none reaches beyond memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import deconvkit
from tests import reference

ops = torch.ops.deconvkit


def conv(**changed: Any) -> Tensor:
    arguments: dict[str, Any] = {
        **{"input": torch.ones(2, 4, 6, 7), "weight": torch.ones(4, 3, 3, 3), "bias": torch.ones(3)},
        **{"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "output_size": (8, 9), "groups": 1},
        **{"activation": "none", "slope": 0.0, "algorithm": "direct"},
    }
    return ops.conv_transpose2d(**arguments | changed)


def weight_grad(**changed: Any) -> Tensor:
    arguments: dict[str, Any] = {
        **{"small": torch.ones(2, 4, 6, 7), "large": torch.ones(2, 3, 8, 9), "kernel_size": (3, 3)},
        **{"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
        **{"channels_last": False, "algorithm": "direct"},
    }
    return ops.conv_weight_grad(**arguments | changed)


def spread(**changed: Any) -> Tensor:
    pooled, switches = deconvkit.max_pool2d_with_switches(torch.ones(2, 4, 6, 7), 2)
    arguments: dict[str, Any] = {
        **{"grad_output": pooled, "switches": switches, "input_size": (6, 7)},
        **{"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)},
    }
    return ops.max_pool2d_backward(**arguments | changed)


def sigmoid_backward(**changed: Any) -> Tensor:
    z = torch.ones(6, 4)
    arguments: dict[str, Any] = {
        **{"z": z, "slope": torch.ones(4), "grad_activations": z, "grad_penalty": torch.tensor(1.0)},
        **{"rho": 0.1, "beta": 1.0, "unit_dim": 1, "batch_dims": 0},
    }
    return ops.sparse_sigmoid_backward(**arguments | changed)


def sigmoid(unit_dim: int, batch_dims: int) -> Any:
    return ops.sparse_sigmoid(torch.ones(6, 4), 0.1, 1.0, unit_dim, batch_dims)


@pytest.mark.parametrize("call", [conv, weight_grad, spread, sigmoid_backward])
def test_what_fits_runs(call: Callable[..., Tensor]) -> None:
    assert call().isfinite().all()


BAD: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (conv, {"weight": torch.ones(4, 3, 3, 3).double()}),
    (conv, {"input": torch.ones(2, 4, 6, 7).int()}),
    (conv, {"weight": torch.ones(5, 3, 3, 3)}),
    (conv, {"weight": torch.ones(4, 3, 3, 3), "groups": 3}),
    (conv, {"groups": 0}),
    (conv, {"bias": torch.ones(2)}),
    (conv, {"bias": torch.ones(3, 1)}),
    (conv, {"bias": torch.ones(3).double()}),
    (conv, {"stride": (0, 1)}),
    (conv, {"stride": (2**62, 1)}),
    (conv, {"padding": (-1, 0)}),
    (conv, {"dilation": (0, 1)}),
    (conv, {"output_size": (0, 9)}),
    (conv, {"weight": torch.ones(4, 3, 0, 3)}),
    (conv, {"input": torch.ones(2, 4, 0, 7)}),
    (conv, {"algorithm": "winograd", "weight": torch.ones(5, 3, 3, 3)}),
    (weight_grad, {"large": torch.ones(1, 3, 8, 9)}),
    (weight_grad, {"large": torch.ones(2, 3, 8, 9).double()}),
    (weight_grad, {"kernel_size": (0, 3)}),
    (weight_grad, {"groups": 2}),
    (spread, {"switches": torch.zeros(2, 4, 3, 1, dtype=torch.uint8)}),
    (spread, {"switches": torch.zeros(2, 4, 3, 3, dtype=torch.int32)}),
    (spread, {"kernel_size": (20, 20)}),
    (spread, {"kernel_size": (0, 2)}),
    (spread, {"padding": (-1, 0)}),
    (sigmoid_backward, {"slope": torch.ones(2)}),
    (sigmoid_backward, {"slope": torch.ones(8)[::2]}),
    (sigmoid_backward, {"slope": torch.ones(4).double()}),
    (sigmoid_backward, {"grad_activations": torch.ones(2, 4)}),
    (sigmoid_backward, {"grad_activations": torch.ones(6, 4).double()}),
    (sigmoid_backward, {"batch_dims": 3}),
    (sigmoid, {"unit_dim": 0, "batch_dims": 1}),
    (sigmoid, {"unit_dim": -1, "batch_dims": 0}),
]


@pytest.mark.parametrize(("call", "changed"), BAD)
def test_what_does_not_fit_is_a_value_error(call: Callable[..., Any], changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^deconvkit: .*expected"):
        call(**changed)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_convolutions_of_any_two_sizes(isa: str, algorithm: str) -> None:
    """The three sizes and the leading padding say everything: whatever lies outside a tensor is zero."""
    draw = random.Random(0)

    def pair(least: int, most: int) -> tuple[int, int]:
        return draw.randint(least, most), draw.randint(least, most)

    for _ in range(60):
        groups, batch = pair(1, 2)
        channels, kernel, stride = pair(1, 5), pair(1, 5), pair(1, 4)
        dilation, padding = pair(1, 3), pair(0, 9)
        sizes, larges = pair(1, 12), pair(1, 30)
        small = torch.randn(batch, groups * channels[0], *sizes, dtype=torch.float64)
        large = torch.randn(batch, groups * channels[1], *larges, dtype=torch.float64)
        weight = torch.randn(groups * channels[0], channels[1], *kernel, dtype=torch.float64)
        s, b, w = small.numpy(), large.numpy(), weight.numpy()
        geometry = stride, padding, dilation
        rest = groups, "none", 0.0, algorithm
        torch.testing.assert_close(
            ops.conv2d(large, weight, None, *geometry, sizes, *rest),
            torch.from_numpy(reference.conv2d(b, w, sizes, *geometry, groups)),
        )
        torch.testing.assert_close(
            ops.conv_transpose2d(small, weight, None, *geometry, larges, *rest),
            torch.from_numpy(reference.conv_transpose2d(s, w, larges, *geometry, groups)),
        )
        torch.testing.assert_close(
            ops.conv_weight_grad(small, large, kernel, *geometry, groups, False, algorithm),
            torch.from_numpy(reference.conv_weight_grad(s, b, kernel, *geometry, groups)),
        )


# ---- forward-mode derivatives of the ops that have none ----

x = torch.rand(2, 3, 6, 8)
pooled, switches = deconvkit.max_pool2d_with_switches(x, 2)
pooled_1d, switches_1d = deconvkit.max_pool1d_with_switches(x[0], 2)
WITHOUT: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "max_pool1d_with_switches": (lambda x: deconvkit.max_pool1d_with_switches(x, 2)[0], x[0]),
    "max_pool2d_with_switches": (lambda x: deconvkit.max_pool2d_with_switches(x, 2)[0], x),
    "max_unpool1d": (lambda x: deconvkit.max_unpool1d(x, switches_1d, 2), pooled_1d),
    "max_unpool2d": (lambda x: deconvkit.max_unpool2d(x, switches, 2), pooled),
    "sparse_kl": (lambda x: deconvkit.sparse_kl(x, 0.1), x),
    "sparse_sigmoid": (lambda x: deconvkit.sparse_sigmoid(x, 0.1)[0], x),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_tangents_are_never_dropped_silently(name: str) -> None:
    function, tensor = WITHOUT[name]
    told = pytest.raises(NotImplementedError, match=r"^deconvkit::(max|sparse)_.*no forward-mode derivative")
    with told:
        torch.func.jvp(function, (tensor,), (tensor,))
    with told:
        torch.func.jacfwd(function)(tensor)
    for grad_mode in (False, True):
        with told, torch.set_grad_enabled(grad_mode), forward_ad.dual_level():
            function(forward_ad.make_dual(tensor, tensor))
    with forward_ad.dual_level():
        assert torch.equal(function(tensor), function(tensor.clone()))


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torch_jit_trace_is_refused(name: str) -> None:
    """Its graphs would keep the output of the tracing call for good."""
    with pytest.raises(NotImplementedError, match=r"torch.jit.trace is not supported"):
        torch.jit.trace(*WITHOUT[name])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torch_jit_trace_is_refused_by_convolutions() -> None:
    for flag in (False, True):
        weight = torch.ones(3, 3, 3, 3, requires_grad=flag)
        for op in (deconvkit.conv2d, deconvkit.conv_transpose2d):
            with pytest.raises(NotImplementedError, match=r"torch.jit.trace is not supported"):
                torch.jit.trace(lambda x, op=op, weight=weight: op(x, weight), x)
