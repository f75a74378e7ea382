"""What is timed: for a layer the same computation by every provider, and the check that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit
from benchmarks.layers import Code, Conv, Layer, Pool

# A provider is a library and the layout of its tensors.
PROVIDERS = {
    "torch": ("torch", "contiguous"),
    "torch_channels_last": ("torch", "channels_last"),
    "torch_compile": ("torch_compile", "contiguous"),
    "torch_compile_channels_last": ("torch_compile", "channels_last"),
    "deconvkit": ("deconvkit", "contiguous"),
    "deconvkit_channels_last": ("deconvkit", "channels_last"),
}

MODES = ("forward", "backward", "both")


class Setup(NamedTuple):
    """One layer in one layout: the tensors to differentiate by, and each library's function of them."""

    inputs: list[Tensor]
    functions: dict[str, Callable[..., Any]]  # -> an output, or a tuple of them
    outputs: Callable[[Any], tuple[Tensor, ...]]  # those outputs that have a gradient


def _formatted(tensor: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _single(output: Tensor) -> tuple[Tensor, ...]:
    return (output,)


def _convolution(op: str) -> Callable[[Conv, torch.dtype, str], Setup]:
    def setup(layer: Conv, dtype: torch.dtype, layout: str) -> Setup:
        # Scaled so that outputs are near 1.
        scale = (layer.forward_work(1).flops / 2 / torch.Size(layer.output_shape).numel()) ** -0.5
        inputs = [
            _formatted(torch.randn(layer.input_shape).to(dtype), layout),
            _formatted((torch.randn(layer.weight_shape) * scale).to(dtype), layout),
            torch.randn(layer.out_channels).to(dtype),
        ]
        theirs, ours, arguments = getattr(F, op), getattr(deconvkit, op), layer.arguments
        return Setup(
            inputs,
            {
                "torch": lambda x, w, b: theirs(x, w, b, **arguments),
                "deconvkit": lambda x, w, b: ours(x, w, b, **arguments),
            },
            _single,
        )

    return setup


def _max_pool2d(layer: Pool, dtype: torch.dtype, layout: str) -> Setup:
    geometry = (layer.kernel, layer.stride, layer.padding)
    return Setup(
        [_formatted(torch.randn(layer.map_shape).to(dtype), layout)],
        {
            "torch": lambda x: F.max_pool2d(x, *geometry, return_indices=True),
            "deconvkit": lambda x: deconvkit.max_pool2d_with_switches(x, *geometry),
        },
        lambda result: (result[0],),
    )


def _max_unpool2d(layer: Pool, dtype: torch.dtype, layout: str) -> Setup:
    geometry = (layer.kernel, layer.stride, layer.padding)
    maps = _formatted(torch.randn(layer.map_shape).to(dtype), layout)
    pooled, indices = F.max_pool2d(maps, *geometry, return_indices=True)
    switches = deconvkit.max_pool2d_with_switches(maps, *geometry)[1]
    return Setup(
        [pooled],
        {
            "torch": lambda x: F.max_unpool2d(x, indices, *geometry, output_size=layer.size),
            "deconvkit": lambda x: deconvkit.max_unpool2d(x, switches, *geometry, output_size=layer.size),
        },
        _single,
    )


RHO, BETA = 0.05, 3.0


def _sparse_sigmoid_torch(z: Tensor) -> tuple[Tensor, Tensor]:
    activations = torch.sigmoid(z)
    mean = activations.mean(0)
    penalty = RHO * torch.log(RHO / mean) + (1 - RHO) * torch.log((1 - RHO) / (1 - mean))
    return activations, BETA * penalty.sum()


def _sparse_kl(layer: Code, dtype: torch.dtype, layout: str) -> Setup:
    return Setup(
        [torch.randn(layer.samples, layer.units).to(dtype)],
        {"torch": _sparse_sigmoid_torch, "deconvkit": lambda z: deconvkit.sparse_sigmoid(z, RHO, BETA)},
        tuple,
    )


_SETUPS: dict[str, Callable[[Any, torch.dtype, str], Setup]] = {
    "conv_transpose2d": _convolution("conv_transpose2d"),
    "conv_transpose1d": _convolution("conv_transpose1d"),
    "conv2d": _convolution("conv2d"),
    "max_pool2d": _max_pool2d,
    "max_unpool2d": _max_unpool2d,
    "sparse_kl": _sparse_kl,
}

# Where memory is the limit the compiler is a peer; it calls the same convolutions as eager.
COMPILED = ("max_pool2d", "max_unpool2d", "sparse_kl")
_WITHOUT_CHANNELS_LAST = ("conv_transpose1d", "sparse_kl")


def providers(op: str, asked: Sequence[str] = tuple(PROVIDERS)) -> list[str]:
    """Those of the ``asked`` providers that ``op`` has."""
    return [
        name
        for name in PROVIDERS
        if name in asked
        and not (op in _WITHOUT_CHANNELS_LAST and name.endswith("channels_last"))
        and not (op not in COMPILED and name.startswith("torch_compile"))
    ]


def setup(op: str, layer: Layer, dtype: torch.dtype, layout: str, *, compiled: bool = False) -> Setup:
    """Tensors and functions for one layer, the same numbers at every call."""
    torch.manual_seed(0)
    made = _SETUPS[op](layer, dtype, layout)
    if compiled:
        # Every layer afresh with static shapes; "backward" runs a graph more than once.
        torch._dynamo.reset()
        torch._functorch.config.donated_buffer = False
        made.functions["torch_compile"] = torch.compile(made.functions["torch"], dynamic=False)
    return made


def _leaves(made: Setup) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in made.inputs]


def call(made: Setup, library: str, mode: str) -> Callable[[], Any]:
    """The call to time: forward alone without gradients, backward alone on a kept graph, or both."""
    function = made.functions[library]
    if mode == "forward":
        inputs = made.inputs
        return lambda: function(*inputs)
    leaves = _leaves(made)
    results = made.outputs(function(*leaves))
    torch.manual_seed(1)
    # The same numbers whatever the layout of the result, which randn_like would fill in the order of memory.
    upstream = [torch.empty_like(r).copy_(torch.randn(r.shape, dtype=r.dtype)) for r in results]
    if mode == "backward":
        return lambda: torch.autograd.grad(results, leaves, upstream, retain_graph=True)
    outputs = made.outputs
    return lambda: torch.autograd.grad(outputs(function(*leaves)), leaves, upstream)


_TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9, torch.bfloat16: 4e-2, torch.float16: 1e-2}


def check(made: Setup, dtype: torch.dtype) -> None:
    """Raise AssertionError unless outputs and gradients of every library agree with torch's."""
    for mode in ("forward", "both"):
        answers = {}
        for library in made.functions:
            answer = call(made, library, mode)()
            answers[library] = made.outputs(answer) if mode == "forward" else answer
        for library, answer in answers.items():
            for ours, theirs in zip(answer, answers["torch"], strict=True):
                largest = theirs.abs().max().item()
                torch.testing.assert_close(
                    ours,
                    theirs,
                    rtol=0,
                    atol=_TOLERANCE[dtype] * max(largest, 1e-30),
                    check_stride=False,
                    msg=lambda text, who=library, what=mode: f"{who}, {what}: {text}",
                )
