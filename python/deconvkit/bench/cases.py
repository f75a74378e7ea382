"""What is timed: for a layer the same computation by every provider, and the check that they agree."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvkit
from deconvkit.bench import onnx_runtime
from deconvkit.bench.layers import Code, Conv, Generator, Layer, Pool
from deconvkit.models import DCGANGenerator
from deconvkit.nn import ConvTranspose2d, fuse
from deconvkit.ops._convolution import activate_, activation_of


class Provider(NamedTuple):
    """A library, or a way to use it, and the layout of its tensors."""

    library: str
    layout: str


_LAYOUTS = {"": "contiguous", "_channels_last": "channels_last"}
_FORCED = ("direct", "winograd", "torch")
_LIBRARIES = (
    *("torch", "torch_compile", "torch_folded", "onnxruntime"),
    *("deconvkit", "deconvkit_folded", *(f"deconvkit_{algorithm}" for algorithm in _FORCED)),
)

PROVIDERS = {
    library + suffix: Provider(library, layout)
    for library in _LIBRARIES
    for suffix, layout in _LAYOUTS.items()
    if not (library == "onnxruntime" and suffix)
}

MODES = ("forward", "backward", "both")


class Setup(NamedTuple):
    """One layer in one layout: the tensors to differentiate by, and each library's function of them.

    Where one differentiates by parameters, ``trained`` has the modules, to be called with the inputs.
    """

    inputs: list[Tensor]
    functions: dict[str, Callable[..., Any]]  # -> an output, or a tuple of them
    outputs: Callable[[Any], tuple[Tensor, ...]]  # those outputs that have a gradient
    trained: dict[str, Any]


def _formatted(tensor: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _single(output: Tensor) -> tuple[Tensor, ...]:
    return (output,)


def _first(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs[0],)


def _convolution(op: str, layer: Conv, dtype: torch.dtype, layout: str, libraries: set[str]) -> Setup:
    # Scaled so that outputs are near 1.
    scale = (layer.forward_work(1).flops / 2 / torch.Size(layer.output_shape).numel()) ** -0.5
    inputs = [
        _formatted(torch.randn(layer.input_shape).to(dtype), layout),
        _formatted((torch.randn(layer.weight_shape) * scale).to(dtype), layout),
        torch.randn(layer.out_channels).to(dtype),
    ]
    ours, arguments = getattr(deconvkit, op), layer.arguments
    functions: dict[str, Callable[..., Any]] = {
        "torch": partial(getattr(F, op), **arguments),
        "deconvkit": partial(ours, **arguments),
    }
    for algorithm in _FORCED:
        functions[f"deconvkit_{algorithm}"] = partial(ours, **arguments, algorithm=algorithm)
    if "onnxruntime" in libraries:
        functions["onnxruntime"] = onnx_runtime.convolution(layer, *inputs[1:])
    return Setup(inputs, functions, _single, {})


def _max_pool2d(layer: Pool, dtype: torch.dtype, layout: str, libraries: set[str]) -> Setup:
    geometry = (layer.kernel, layer.stride, layer.padding)
    functions: dict[str, Callable[..., Any]] = {
        "torch": lambda x: F.max_pool2d(x, *geometry, return_indices=True),
        "deconvkit": lambda x: deconvkit.max_pool2d_with_switches(x, *geometry),
    }
    if "onnxruntime" in libraries:
        functions["onnxruntime"] = onnx_runtime.max_pool(layer)
    return Setup([_formatted(torch.randn(layer.map_shape).to(dtype), layout)], functions, _first, {})


def _max_unpool2d(layer: Pool, dtype: torch.dtype, layout: str, libraries: set[str]) -> Setup:
    geometry = (layer.kernel, layer.stride, layer.padding)
    maps = _formatted(torch.randn(layer.map_shape).to(dtype), layout)
    pooled, indices = F.max_pool2d(maps, *geometry, return_indices=True)
    switches = deconvkit.max_pool2d_with_switches(maps, *geometry)[1]
    unpool: Any = F.max_unpool2d
    functions: dict[str, Callable[..., Any]] = {
        "torch": lambda x: unpool(x, indices, *geometry, layer.size),
        "deconvkit": lambda x: deconvkit.max_unpool2d(x, switches, *geometry, output_size=layer.size),
    }
    if "onnxruntime" in libraries:
        functions["onnxruntime"] = onnx_runtime.max_unpool(layer, indices)
    return Setup([pooled], functions, _single, {})


RHO, BETA = 0.05, 3.0


def _sparse_sigmoid_torch(z: Tensor) -> tuple[Tensor, Tensor]:
    activations = torch.sigmoid(z)
    mean = activations.mean(0)
    penalty = RHO * torch.log(RHO / mean) + (1 - RHO) * torch.log((1 - RHO) / (1 - mean))
    return activations, BETA * penalty.sum()


def _sparse_kl(layer: Code, dtype: torch.dtype, layout: str, libraries: set[str]) -> Setup:
    return Setup(
        [torch.randn(layer.samples, layer.units).to(dtype)],
        {"torch": _sparse_sigmoid_torch, "deconvkit": lambda z: deconvkit.sparse_sigmoid(z, RHO, BETA)},
        tuple,
        {},
    )


class _TorchConvTranspose2d(nn.ConvTranspose2d):
    """torch's module with the activation that ours has in the same pass."""

    activation: tuple[str, float]

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return activate_(super().forward(input, output_size), *self.activation)


def by_torch(model: nn.Module) -> nn.Module:
    """A copy of the model with torch's transposed convolutions instead of ours; same state dict."""
    twin = copy.deepcopy(model)
    modules: list[Any] = list(twin.modules())
    for module in modules:
        if type(module) is ConvTranspose2d:
            module.__class__ = cast(Any, _TorchConvTranspose2d)  # of the same torch module
            module.activation = activation_of("by_torch", module.activation)
    return twin


def _dcgan_generator(layer: Generator, dtype: torch.dtype, layout: str, libraries: set[str]) -> Setup:
    model: Any = DCGANGenerator(**layer.arguments)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    latent = (torch.rand(layer.batch, layer.latent_size) * 2 - 1).to(dtype)
    model = model.to(dtype)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    model.train()(latent)  # running statistics, as training leaves them
    models: dict[str, Any] = {"torch": by_torch(model), "deconvkit": model}
    trained = {library: copy.deepcopy(each) for library, each in models.items()}
    for each in models.values():
        each.eval().requires_grad_(False)
    folded = fuse(model)
    models |= {"torch_folded": by_torch(folded), "deconvkit_folded": folded}
    return Setup([latent], models, _single, trained)


_SETUPS: dict[str, Callable[[Any, torch.dtype, str, set[str]], Setup]] = {
    "conv_transpose2d": partial(_convolution, "conv_transpose2d"),
    "conv_transpose1d": partial(_convolution, "conv_transpose1d"),
    "conv2d": partial(_convolution, "conv2d"),
    "max_pool2d": _max_pool2d,
    "max_unpool2d": _max_unpool2d,
    "sparse_kl": _sparse_kl,
    "dcgan_generator": _dcgan_generator,
}

_CONVOLUTIONS = ("conv_transpose2d", "conv_transpose1d", "conv2d")
_MODELS = ("dcgan_generator",)
_WITHOUT_CHANNELS_LAST = ("conv_transpose1d", "sparse_kl")


def _has(op: str, provider: Provider) -> bool:
    """Whether the provider can compute the op at all."""
    library, layout = provider
    if layout == "channels_last" and op in _WITHOUT_CHANNELS_LAST:
        return False
    if library == "onnxruntime":
        return op in (*_CONVOLUTIONS, "max_pool2d", "max_unpool2d")
    if library.endswith("_folded"):
        return op in _MODELS
    return not library.startswith("deconvkit_") or op in _CONVOLUTIONS


def _by_default(op: str, provider: Provider) -> bool:
    """Whether it is timed unasked: no forced algorithms, and no compiler that calls the same convolutions."""
    if provider.library == "torch_compile":
        return op not in (*_CONVOLUTIONS, *_MODELS) or provider.layout == "contiguous"
    return provider.library not in {f"deconvkit_{algorithm}" for algorithm in _FORCED}


def providers(op: str, asked: Iterable[str] | None = None) -> list[str]:
    """Those of the ``asked`` providers that ``op`` has; of all but the forced algorithms if None."""
    return [
        name
        for name, provider in PROVIDERS.items()
        if _has(op, provider) and (name in asked if asked is not None else _by_default(op, provider))
    ]


def has_mode(library: str, mode: str, dtype: torch.dtype) -> bool:
    """Whether the library computes the pass."""
    if library == "onnxruntime":
        return mode == "forward" and dtype == torch.float32
    return mode == "forward" or not library.endswith("_folded")


def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False)


def setup(
    op: str, layer: Layer, dtype: torch.dtype, layout: str, libraries: Iterable[str] = ("torch", "deconvkit")
) -> Setup:
    """Tensors and functions of torch and of the given libraries, the same numbers at every call."""
    torch.manual_seed(0)
    wanted = {"torch", *libraries}
    made = _SETUPS[op](layer, dtype, layout, wanted)
    if "torch_compile" in wanted:
        # Every layer afresh with static shapes; "backward" runs a graph more than once.
        torch._dynamo.reset()
        torch._functorch.config.donated_buffer = False
        made.functions["torch_compile"] = _compiled(made.functions["torch"])
        if "torch" in made.trained:
            made.trained["torch_compile"] = _compiled(copy.deepcopy(made.trained["torch"]))
    functions = {library: call for library, call in made.functions.items() if library in wanted}
    return made._replace(functions=functions)


def call(made: Setup, library: str, mode: str) -> Callable[[], Any]:
    """The call to time: forward alone without gradients, backward alone on a kept graph, or both."""
    if mode == "forward":
        function, inputs = made.functions[library], made.inputs
        return lambda: function(*inputs)
    if library in made.trained:
        function, inputs = made.trained[library], made.inputs
        leaves: Any = list(function.parameters())
    else:
        function = made.functions[library]
        inputs = leaves = [tensor.detach().requires_grad_() for tensor in made.inputs]
    results = made.outputs(function(*inputs))
    torch.manual_seed(1)
    # The same numbers in whatever layout a library returns.
    upstream = [torch.empty_like(result).copy_(torch.randn(result.shape)) for result in results]
    if mode == "backward":
        return lambda: torch.autograd.grad(results, leaves, upstream, retain_graph=True)
    outputs = made.outputs
    return lambda: torch.autograd.grad(outputs(function(*inputs)), leaves, upstream)


# Of the largest value.
_TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9, torch.bfloat16: 4e-2, torch.float16: 1e-2}
# Of the norm: rounding decides whether a ReLU near zero passes the gradient, and a few values differ much.
_MODEL_TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-7, torch.bfloat16: 4e-1, torch.float16: 1e-1}


def check(made: Setup, dtype: torch.dtype, modes: Iterable[str] = ("forward", "both")) -> None:
    """Raise AssertionError unless outputs and gradients of every library agree with torch's."""
    for mode in modes:
        reference = _answer(made, "torch", mode)
        for library in made.functions:
            if library == "torch" or not has_mode(library, mode, dtype):
                continue
            for ours, theirs in zip(_answer(made, library, mode), reference, strict=True):
                if made.trained and mode != "forward":
                    error, limit = (ours - theirs).norm() / theirs.norm(), _MODEL_TOLERANCE[dtype]
                else:
                    largest = theirs.abs().max().clamp(min=1e-30)
                    error, limit = (ours - theirs).abs().max() / largest, _TOLERANCE[dtype]
                if ours.shape != theirs.shape or not error <= limit:
                    raise AssertionError(
                        f"{library}, {mode}: {tuple(ours.shape)}, {error:.1e} from torch's "
                        f"{tuple(theirs.shape)}, at most {limit:g} wanted"
                    )


def _answer(made: Setup, library: str, mode: str) -> tuple[Tensor, ...]:
    answer = call(made, library, mode)()
    if library == "onnxruntime":
        answer = onnx_runtime.tensors(answer)
        answer = answer if len(answer) > 1 else answer[0]
    return made.outputs(answer) if mode == "forward" else answer
