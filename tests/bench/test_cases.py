"""What is timed: every provider computes the same, and the check would see it if not."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from deconvkit.bench import cases, onnx_runtime
from deconvkit.bench.layers import LAYERS, SPARSE_KL, Conv, Layer, Pool
from deconvkit.models import DCGANGenerator

INSTALLED = find_spec("onnx") is not None and find_spec("onnxruntime") is not None

# The compiler takes seconds; it is tried once, below.
NAMES = [name for name in cases.PROVIDERS if "compile" not in name and (INSTALLED or "onnx" not in name)]

ODD = {
    "conv_transpose2d": Conv("odd", 2, 4, 6, (5, 4), 5, 2, 2, 1, 2, transposed=True),
    "conv_transpose1d": Conv("odd", 2, 4, 6, (7,), 4, 3, 1, transposed=True),
    "conv2d": Conv("odd", 2, 4, 6, (5, 7), 3, 2, 1),
    "max_pool2d": Pool("odd", 2, 3, (7, 9), 3, 2, 1),
    "max_unpool2d": Pool("odd", 2, 3, (8, 10)),
}


def tiny(op: str) -> Layer:
    return next(layer for layer in LAYERS[op] if layer.name == "tiny")


@pytest.mark.parametrize(
    ("op", "layer"),
    [*((op, tiny(op)) for op in LAYERS), *ODD.items()],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_providers_agree_in_every_layout(op: str, layer: Layer) -> None:
    chosen = [cases.PROVIDERS[name] for name in cases.providers(op, NAMES)]
    for layout in {provider.layout for provider in chosen}:
        libraries = {provider.library for provider in chosen if provider.layout == layout}
        made = cases.setup(op, layer, torch.float32, layout, libraries)
        assert set(made.functions) == libraries | {"torch"}
        cases.check(made, torch.float32)


@pytest.mark.parametrize("op", ["sparse_kl", "max_unpool2d"])
def test_the_compiler_is_a_provider(op: str) -> None:
    layout = "contiguous" if op == "sparse_kl" else "channels_last"
    made = cases.setup(op, ODD.get(op, tiny(op)), torch.float32, layout, {"torch_compile"})
    cases.check(made, torch.float32)


@pytest.mark.parametrize("library", ["deconvkit", "deconvkit_direct"])
@pytest.mark.parametrize("mode", ["forward", "both"])
def test_disagreement_is_seen(library: str, mode: str) -> None:
    made = cases.setup("sparse_kl", SPARSE_KL[2], torch.float32, "contiguous")
    made.functions[library] = lambda z: tuple(1.01 * t for t in made.functions["torch"](z))
    with pytest.raises(AssertionError, match=f"{library}, {mode}"):
        cases.check(made, torch.float32, [mode])


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("mode", cases.MODES)
def test_passes_compute_what_they_are_named_after(op: str, mode: str) -> None:
    made = cases.setup(op, tiny(op), torch.float32, "contiguous")
    call = cases.call(made, "deconvkit", mode)
    results = call() if mode != "forward" else made.outputs(call())
    if mode == "forward":
        assert not any(result.requires_grad for result in results)
    elif op == "dcgan_generator":
        shapes = [parameter.shape for parameter in made.trained["deconvkit"].parameters()]
        assert [result.shape for result in results] == shapes
    else:
        assert [result.shape for result in results] == [tensor.shape for tensor in made.inputs]
    call()  # again


def test_providers_of_an_op() -> None:
    assert cases.providers("sparse_kl") == ["torch", "torch_compile", "deconvkit"]
    assert "deconvkit_winograd" not in cases.providers("conv2d")
    assert cases.providers("conv2d", ["deconvkit_winograd_channels_last"]) == [
        "deconvkit_winograd_channels_last"
    ]
    assert cases.providers("max_pool2d", ["deconvkit_winograd", "deconvkit_folded"]) == []
    assert "torch_folded" in cases.providers("dcgan_generator")
    assert not cases.has_mode("onnxruntime", "backward", torch.float32)
    assert not cases.has_mode("onnxruntime", "forward", torch.bfloat16)
    assert not cases.has_mode("torch_folded", "both", torch.float32)


def test_torchs_twin_has_the_same_parameters_and_no_module_of_ours() -> None:
    model = DCGANGenerator(5, 2, 16, 1)
    twin = cases.by_torch(model)
    assert not any(type(module).__module__.startswith("deconvkit.nn") for module in twin.modules())
    assert sum(isinstance(module, nn.ConvTranspose2d) for module in twin.modules()) == 2
    for (name, ours), (its_name, theirs) in zip(
        model.state_dict().items(), twin.state_dict().items(), strict=True
    ):
        assert name == its_name
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


def test_missing_onnx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None if name == "onnx" else True)
    assert onnx_runtime.missing() == "onnx"
