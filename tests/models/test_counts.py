"""Parameter counts of the papers and the lecture, configurations, and constructors' errors."""

import json
from typing import Any

import pytest
import torch

from deconvkit import models

COUNTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "sparse autoencoder": ("SparseAutoencoder", {"in_features": 64, "code_size": 25}, 3_289),
    "vae": ("VAE", {"in_features": 784, "latent_size": 20, "hidden": [400]}, 652_824),
    "m1": ("M1", {"in_features": 784}, 1_361_884),
    "m1 of 600": ("M1", {"in_features": 784, "hidden": [600, 600]}, 1_754_084),
    "dcgan generator": ("DCGANGenerator", {}, 18_885_760),
    "dcgan generator, per channel": ("DCGANGenerator", {"projection_norm": "channel"}, 18_855_040),
    "dcgan generator 4x4": ("DCGANGenerator", {"base_channels": 64, "kernel_size": 4}, 3_576_704),
    "dcgan discriminator": ("DCGANDiscriminator", {}, 17_232_768),
    "dcgan discriminator 4x4": ("DCGANDiscriminator", {"base_channels": 64, "kernel_size": 4}, 2_765_568),
    "vgg16": ("vgg16", {}, 138_357_544),
    "vgg16_bn": ("vgg16_bn", {}, 138_365_992),
    "vgg19": ("vgg19", {}, 143_667_240),
    "vgg19_bn": ("vgg19_bn", {}, 143_678_248),
    "deconvnet": ("DeconvNet", {}, 251_805_653),
}

SMALL: dict[str, dict[str, Any]] = {
    "SparseAutoencoder": {"in_features": 9, "code_size": 4, "rho": 0.1, "beta": 2.0, "weight_decay": 1e-3},
    "VAE": {
        "in_features": 9,
        "latent_size": 3,
        "hidden": [7, 5],
        "likelihood": "gaussian",
        "activation": "tanh",
    },
    "ConvVAE": {"image_size": 8, "channels": 2, "latent_size": 3, "base_channels": 4, "depth": 2},
    "ClassDecoder": {"classes": 3, "out_features": 9, "hidden": [5], "likelihood": "gaussian"},
    "M1": {"in_features": 9, "latent_size": 3, "hidden": [7]},
    "M2": {"in_features": 9, "classes": 3, "latent_size": 2, "hidden": [6], "likelihood": "gaussian"},
    "StackedM1M2": {"in_features": 9, "classes": 3, "m1_latent_size": 4, "m1_hidden": [7], "kept": [0, 2]},
    "DCGANGenerator": {
        "latent_size": 5,
        "base_channels": 4,
        "image_size": 16,
        "channels": 1,
        "kernel_size": 4,
    },
    "DCGANDiscriminator": {"base_channels": 4, "image_size": 16, "channels": 1, "kernel_size": 4},
    "MLPGenerator": {"latent_size": 3, "out_features": 9, "hidden": [5], "output": "tanh"},
    "MLPDiscriminator": {"in_features": 9, "hidden": [5]},
    "VGG": {"depth": 19, "batch_norm": True, "num_classes": 4, "width": 2, "dropout": 0.1},
    "DeconvNet": {"num_classes": 4, "width": 2, "input_size": 32, "unpooling": "fixed"},
}


@pytest.mark.parametrize("case", COUNTS)
def test_parameters(case: str) -> None:
    name, arguments, count = COUNTS[case]
    with torch.device("meta"):
        model = getattr(models, name)(**arguments)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("name", SMALL)
def test_a_configuration_builds_the_model_again(name: str) -> None:
    model = getattr(models, name)(**SMALL[name])
    config = json.loads(json.dumps(model.config()))
    assert config.items() >= SMALL[name].items()
    again = type(model)(**config)
    again.load_state_dict(model.state_dict())
    assert str(again) == str(model)


@pytest.mark.parametrize("name", SMALL)
def test_dtype_of_all_parameters(name: str) -> None:
    model = getattr(models, name)(**SMALL[name], dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


ERRORS = [
    ("VAE", {"in_features": 0}, "VAE: in_features: expected an int >= 1, got 0"),
    ("VAE", {"hidden": [4, -1]}, r"VAE: hidden: expected an int >= 1, got \[4, -1\]"),
    ("VAE", {"likelihood": "poisson"}, "VAE: likelihood: expected one of bernoulli, gaussian, got 'poisson'"),
    ("VAE", {"activation": "gelu"}, "VAE: activation: expected one of relu, softplus, tanh, got 'gelu'"),
    ("M1", {"latent_size": 0}, "M1: latent_size: expected"),
    ("ConvVAE", {"image_size": 10}, r"ConvVAE: image_size: expected a multiple of 2\*\*depth = 4, got 10"),
    ("ClassDecoder", {"classes": 2.5}, "ClassDecoder: classes: expected an int >= 1, got 2.5"),
    ("M2", {"classes": 0}, "M2: classes: expected"),
    ("StackedM1M2", {"kept": [4]}, r"StackedM1M2: kept: expected latents from 0 to 3, got \[4\]"),
    ("StackedM1M2", {"kept": []}, "StackedM1M2: kept: expected latents"),
    ("DCGANGenerator", {"kernel_size": 3}, "DCGANGenerator: kernel_size: expected 4 or 5, got 3"),
    ("DCGANGenerator", {"projection_norm": "batch"}, "DCGANGenerator: projection_norm: expected one of"),
    ("DCGANDiscriminator", {"image_size": 24}, "DCGANDiscriminator: image_size: expected 8, 16"),
    ("MLPGenerator", {"output": "relu"}, "MLPGenerator: output: expected one of"),
    ("MLPDiscriminator", {"hidden": [0]}, "MLPDiscriminator: hidden: expected"),
    ("VGG", {"depth": 11}, "VGG: depth: expected 16 or 19, got 11"),
    ("VGG", {"width": 0}, "VGG: width: expected"),
    ("DeconvNet", {"input_size": 100}, "DeconvNet: input_size: expected a multiple of 32, got 100"),
    ("DeconvNet", {"unpooling": "mean"}, "DeconvNet: unpooling: expected one of switches, fixed, got 'mean'"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), ERRORS)
def test_wrong_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(models, name)(**(SMALL[name] | arguments))


INPUTS = {
    "VAE": (2, 8),
    "ConvVAE": (2, 2, 8, 9),
    "ClassDecoder": (2, 4),
    "M2": (2, 8),
    "StackedM1M2": (2, 8),
    "DCGANDiscriminator": (2, 1, 8, 8),
    "MLPGenerator": (2, 4),
    "MLPDiscriminator": (2, 8),
    "VGG": (2, 3, 16, 40),
    "DeconvNet": (2, 3, 64, 64),
}


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_inputs(name: str) -> None:
    model = getattr(models, name)(**SMALL[name])
    with pytest.raises(ValueError, match=r"expected shape \(.*\).*, got"):
        model(torch.rand(INPUTS[name]))
