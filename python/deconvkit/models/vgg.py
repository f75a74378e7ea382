"""VGG-16 and VGG-19 (Simonyan and Zisserman 2014), in torchvision's layout, so that its weight files load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvkit.models._layers import require_sizes
from deconvkit.models._weights import load_weights
from deconvkit.nn import Conv2d, MaxPool2d

_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_LAST = ("classifier.6.weight", "classifier.6.bias")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """RGB images (N, 3, H, W), uint8 or in [0, 1], as VGG wants them: (x − mean) / std of ImageNet's."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


class VGG(nn.Module):
    """Five stages of 3×3 convolutions with ReLU, each closed by a 2×2 pool, and three linear layers.

    The input is RGB, (x − mean) / std of values in [0, 1], with ImageNet's mean and standard deviation
    (:func:`normalise`). (Caffe's files want BGR, 0 to 255, the mean subtracted.)

    Args:
        depth: 16 or 19.
        batch_norm: whether each convolution is followed by batch normalisation.
        num_classes: of the last layer.
        width: channels of the first stage, 64 in the paper; all others keep their proportion to it.
        dropout: of the linear layers.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or another depth.

    Source: Simonyan and Zisserman 2014, table 1, columns D and E.
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        num_classes: int = 1000,
        width: int = 64,
        dropout: float = 0.5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if depth not in _CONVOLUTIONS:
            raise ValueError(f"VGG: depth: expected 16 or 19, got {depth!r}")
        require_sizes("VGG", num_classes=num_classes, width=width)
        self.depth, self.batch_norm, self.num_classes = depth, batch_norm, num_classes
        self.width, self.dropout = width, dropout
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        channels = 3
        for stage, count in enumerate(_CONVOLUTIONS[depth]):
            for _ in range(count):
                outputs = width * min(2**stage, 8)
                layers.append(Conv2d(channels, outputs, 3, padding=1, **where))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(outputs, **where))
                layers.append(nn.ReLU(inplace=True))
                channels = outputs
            layers.append(MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        hidden = 64 * width
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, hidden, **where),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden, **where),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes, **where),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions as He et al. 2015 (fan out), linear layers N(0, 0.01), biases 0; as torchvision's."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "depth": self.depth,
            "batch_norm": self.batch_norm,
            "num_classes": self.num_classes,
            "width": self.width,
            "dropout": self.dropout,
        }

    def forward(self, input: Tensor) -> Tensor:
        """(N, 3, H, W), H and W at least 32, to the classes' scores before the softmax, (N, num_classes)."""
        if input.dim() != 4 or input.shape[1] != 3 or min(input.shape[2:]) < 32:
            raise ValueError(
                f"VGG: input: expected shape (N, 3, H, W) of at least 32 by 32, got {tuple(input.shape)}"
            )
        scores: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(input)), 1))
        return scores


def _vgg(name: str, depth: int, batch_norm: bool, weights: str | Path | None, options: dict[str, Any]) -> VGG:
    model = VGG(depth, batch_norm, **options)
    if weights is not None:
        load_weights(name, model, weights, _LAST)
    return model


def vgg16(*, weights: str | Path | None = None, **options: Any) -> VGG:
    """VGG-16: 13 convolutions, 138,357,544 parameters for 1000 classes.

    Args:
        weights: a file of torchvision's (``torch.save`` or safetensors). A last layer with another number of
            classes is left as it is, and a warning names it.
        options: ``num_classes``, ``width``, ``dropout``, ``device``, ``dtype`` of :class:`VGG`.

    Raises:
        ValueError: a file that cannot be read, or names or shapes that are not this model's.
    """
    return _vgg("vgg16", 16, False, weights, options)


def vgg16_bn(*, weights: str | Path | None = None, **options: Any) -> VGG:
    """VGG-16 with batch normalisation, 138,365,992 parameters. Arguments as :func:`vgg16`."""
    return _vgg("vgg16_bn", 16, True, weights, options)


def vgg19(*, weights: str | Path | None = None, **options: Any) -> VGG:
    """VGG-19: 16 convolutions, 143,667,240 parameters. Arguments as :func:`vgg16`."""
    return _vgg("vgg19", 19, False, weights, options)


def vgg19_bn(*, weights: str | Path | None = None, **options: Any) -> VGG:
    """VGG-19 with batch normalisation, 143,678,248 parameters. Arguments as :func:`vgg16`."""
    return _vgg("vgg19_bn", 19, True, weights, options)
