"""The table of layers: shapes, work and names."""

import pytest
import torch

from deconvkit.bench.layers import (
    CONV_TRANSPOSE2D,
    DCGAN_GENERATOR,
    LAYERS,
    MAX_POOL2D,
    SPARSE_KL,
    Conv,
    Generator,
    Layer,
    Pool,
    named,
)
from deconvkit.models import DCGANGenerator

EVERY = [
    pytest.param(op, layer, id=f"{op}-{layer.name}") for op, layers in LAYERS.items() for layer in layers
]


@pytest.mark.parametrize(("op", "layer"), EVERY)
def test_shapes_are_what_torch_computes(op: str, layer: Layer) -> None:
    with torch.device("meta"):
        if isinstance(layer, Conv):
            function = getattr(torch.nn.functional, op)
            output = function(
                torch.empty(layer.input_shape), torch.empty(layer.weight_shape), **layer.arguments
            )
            assert output.shape == layer.output_shape
        elif isinstance(layer, Pool):
            maps = torch.empty(layer.map_shape)
            output = torch.nn.functional.max_pool2d(maps, layer.kernel, layer.stride, layer.padding)
            assert output.shape == layer.pooled_shape
        elif isinstance(layer, Generator):
            latent = torch.empty(layer.batch, layer.latent_size)
            image = DCGANGenerator(**layer.arguments)(latent)
            assert layer.shape.endswith(" -> " + "x".join(map(str, image.shape)))


def test_work_by_hand() -> None:
    dcgan2 = CONV_TRANSPOSE2D[0]
    assert dcgan2.forward_work(4).flops == 2 * 64 * 16 * 1024 * 512 * 25
    assert dcgan2.forward_work(4).bytes == 4 * (64 * 1024 * 16 + 1024 * 512 * 25 + 64 * 512 * 64)
    assert dcgan2.backward_work(4).flops == 2 * dcgan2.forward_work(4).flops
    vgg56 = next(layer for layer in LAYERS["conv2d"] if layer.name == "vgg56")
    assert vgg56.forward_work(4).flops == 2 * 4 * 56 * 56 * 256 * 256 * 9
    assert MAX_POOL2D[0].forward_work(4).bytes == 64 * 4 * (224 * 224 * 4 + 112 * 112 * (4 + 1))
    both = SPARSE_KL[0].forward_work(4) + SPARSE_KL[0].backward_work(4)
    assert both.bytes == 5 * 4 * 8192 * 4096
    layers = [layer.forward_work(4) for layer in CONV_TRANSPOSE2D[:4]]
    projection = 2 * 64 * 100 * 16384
    assert DCGAN_GENERATOR[0].forward_work(4).flops == sum(work.flops for work in layers) + projection


@pytest.mark.parametrize("op", LAYERS)
def test_names_are_unique_and_some_layers_are_quick(op: str) -> None:
    names = [layer.name for layer in LAYERS[op]]
    assert len(set(names)) == len(names)
    assert any(layer.quick for layer in LAYERS[op])


def test_named_by_prefix_or_exactly() -> None:
    def names(*asked: str) -> list[str]:
        return [layer.name for layer in named(asked, LAYERS["conv2d"])]

    assert names("vgg") == ["vgg224", "vgg112", "vgg56", "vgg28", "vgg14"]
    assert names("disc1") == ["disc1"]
    assert names("disc2k", "vgg1") == ["vgg112", "vgg14", "disc2k4"]
    assert names("bogus") == []
