"""DCGAN as a whole: its generator's inference and a step of training, against torch's convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.contest import DTYPES, Case, Contest, Run, is_tiny
from benchmarks.gpu.convolutions import LAYOUTS
from deconvkit.bench import cases
from deconvkit.bench.layers import Generator
from deconvkit.losses import discriminator_loss, generator_loss
from deconvkit.models import DCGANDiscriminator, DCGANGenerator

LAYER = Generator("lecture", 128)
TINY = Generator("tiny", 2, 5, 2, 16, 1)
OURS = "implicit_gemm"  # until "auto" knows from measurements what to take


def models(dtype: str) -> list[Case]:
    """The generator against eager cuDNN and against torch.compile, and training."""
    return [
        Case("dcgan_generator", LAYER.shape, dtype, {"cudnn": 1.1}, partial(generator, dtype)),
        Case("dcgan_step", LAYER.shape, dtype, {"cudnn": 1.0}, partial(training, dtype)),
        # Alone, for the time that it takes to compile.
        Case("dcgan_generator", f"{LAYER.shape}, tuned", dtype, {"compile": 1.1}, partial(compiled, dtype)),
    ]


def with_algorithm(model: nn.Module, algorithm: str) -> nn.Module:
    """The model itself, whose convolutions run this one."""
    for module in model.modules():
        if hasattr(module, "algorithm"):
            module.algorithm = algorithm
    return model


def _inference(dtype: str, device: str, layout: str) -> tuple[list[Tensor], dict[str, nn.Module]]:
    """Latents, and generators with and without their normalisations folded, by ours and by torch's layers."""
    layer = TINY if is_tiny(device) else LAYER
    with torch.device(device):
        made = cases.setup(
            "dcgan_generator", layer, DTYPES[dtype], layout, ("torch_folded", "deconvkit_folded")
        )
    (latent,) = made.inputs
    functions: dict[str, Any] = made.functions
    return [latent, latent.neg()], functions


def generator(dtype: str, device: str) -> Contest:
    """Inference; cuDNN's with the normalisations as the model has them, and folded as ours are."""
    runs: dict[str, Run] = {}
    for suffix in LAYOUTS:
        latents, functions = _inference(dtype, device, "channels_last" if suffix else "contiguous")
        folded = with_algorithm(functions["deconvkit_folded"], OURS)
        for name, function in (
            ("cudnn", functions["torch"]),
            ("cudnn_folded", functions["torch_folded"]),
            (f"deconvkit_{OURS}", folded),
        ):
            runs[name + suffix] = lambda i, f=function, z=latents: f(z[i])
    return Contest(runs, *_work(dtype, device))


def compiled(dtype: str, device: str) -> Contest:
    """Inference against torch.compile at its best; graphs of its own could not be captured in ours."""
    latents, functions = _inference(dtype, device, "channels_last")
    mode = "max-autotune-no-cudagraphs"
    theirs = {
        name: torch.compile(functions[library], mode=mode, dynamic=False)
        for name, library in (("compile", "torch"), ("compile_folded", "torch_folded"))
    }
    ours = {f"deconvkit_{OURS}_channels_last": with_algorithm(functions["deconvkit_folded"], OURS)}
    runs: dict[str, Run] = {name: lambda i, f=f: f(latents[i]) for name, f in (theirs | ours).items()}
    return Contest(runs, *_work(dtype, device))


def training(dtype: str, device: str) -> Contest:
    """A step of each player, as the recipe has it, by autocast; with torch's convolutions for a rival."""
    layer = TINY if is_tiny(device) else LAYER
    widths = {name: layer.arguments[name] for name in ("base_channels", "image_size", "channels")}
    with torch.device(device):
        players = DCGANGenerator(**layer.arguments), DCGANDiscriminator(**widths)
        shape = layer.batch, layer.channels, layer.image_size, layer.image_size
        images = [torch.rand(shape) * 2 - 1 for _ in range(2)]
        latents = [torch.rand(2, layer.batch, layer.latent_size) * 2 - 1 for _ in range(2)]
    runs: dict[str, Run] = {}
    for suffix, memory_format in LAYOUTS.items():
        real = [x.contiguous(memory_format=memory_format) for x in images]
        for name, algorithm in (("cudnn", "torch"), (f"deconvkit_{OURS}", OURS)):
            step = training_step(
                *(
                    with_algorithm(copy.deepcopy(player).to(memory_format=memory_format), algorithm)
                    for player in players
                ),
                DTYPES[dtype],
            )
            runs[name + suffix] = lambda i, s=step, x=real: s(x[i], *latents[i])
    bytes, flops = _work(dtype, device)
    # G forward twice and backward; the mirror D forward three times, backward twice and by its input once.
    return Contest(runs, bytes, flops * (2 + 2 + 3 + 2 * 2 + 1))


def training_step(
    generator: nn.Module, discriminator: nn.Module, dtype: torch.dtype
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(data, latents for D's fakes, latents for G's) -> both losses, once both players have learnt."""
    device = next(generator.parameters()).device.type
    optimizers = [
        torch.optim.Adam(p.parameters(), 2e-4, (0.5, 0.999), fused=True, capturable=device == "cuda")
        for p in (discriminator, generator)
    ]

    def learn(optimizer: torch.optim.Adam, loss: Tensor) -> None:
        parameters = optimizer.param_groups[0]["params"]
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = grad
        optimizer.step()

    def step(real: Tensor, z_d: Tensor, z_g: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device, dtype):
            with torch.no_grad():
                fake = generator(z_d)
            d_loss = discriminator_loss(discriminator(real), discriminator(fake))
        learn(optimizers[0], d_loss)
        discriminator.requires_grad_(False)  # else its weights' gradients would be computed too
        with torch.autocast(device, dtype):
            g_loss = generator_loss(discriminator(generator(z_g)))
        learn(optimizers[1], g_loss)
        discriminator.requires_grad_(True)
        return d_loss.detach(), g_loss.detach()

    return step


def _work(dtype: str, device: str) -> tuple[int, int]:
    """Bytes and operations of the generator's forward."""
    work = (TINY if is_tiny(device) else LAYER).forward_work(DTYPES[dtype].itemsize)
    return work.bytes, work.flops
