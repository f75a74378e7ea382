"""Which algorithm computes a convolution: the one place that decides, for the ops at run time and for plan().

The ops resolve "auto" when they run, not when they are traced, so a compiled graph decides by the shapes it
meets. To send a class of shapes elsewhere, name it with a predicate and add it to ``_RULES``; the first that
holds decides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """One call of the convolution family; the names are those of its bilinear form (``_convolution.py``)."""

    op: str  # conv2d, conv_transpose2d or conv_weight_grad
    on_cpu: bool
    dtype: torch.dtype
    channels_last: bool
    first: Sequence[int]  # the operands' shapes: (large, weight), (small, weight) or (small, large)
    second: Sequence[int]
    made: Sequence[int]  # the (H, W) of what the op makes: small, large or the kernel
    stride: Sequence[int]
    dilation: Sequence[int]
    groups: int

    @property
    def batch(self) -> int:
        """N."""
        return self.first[0]

    @property
    def small_channels(self) -> int:
        """Channels of the low-resolution side: a convolution's output, a transposed convolution's input."""
        return self.second[0] if self.op == "conv2d" else self.first[1]

    @property
    def large_channels(self) -> int:
        """Channels of the high-resolution side."""
        if self.op == "conv2d":
            return self.first[1]
        return self.second[1] * (self.groups if self.op == "conv_transpose2d" else 1)

    @property
    def small(self) -> Sequence[int]:
        """(H, W) of the low-resolution side."""
        return self.made if self.op == "conv2d" else _spatial(self.first)

    @property
    def large(self) -> Sequence[int]:
        """(H, W) of the high-resolution side."""
        if self.op == "conv_transpose2d":
            return self.made
        return _spatial(self.first if self.op == "conv2d" else self.second)

    @property
    def kernel(self) -> Sequence[int]:
        """(KH, KW)."""
        return self.made if self.op == "conv_weight_grad" else _spatial(self.second)

    @property
    def made_bytes(self) -> int:
        """Of a convolution's output, transposed or not."""
        channels = self.small_channels if self.op == "conv2d" else self.large_channels
        return self.batch * channels * math.prod(self.made) * self.dtype.itemsize

    @property
    def products(self) -> int:
        """Multiplications of the direct algorithm, with those that meet the padding."""
        channels = self.small_channels * self.large_channels // self.groups
        return self.batch * channels * math.prod((*self.small, *self.kernel))


def _spatial(shape: Sequence[int]) -> Sequence[int]:
    return (1, *shape[2:])[-2:]


class Choice(NamedTuple):
    """An algorithm and why."""

    algorithm: str
    reason: str


def is_on_another_device(p: Problem) -> bool:
    """On CUDA neither plain tiles nor implicit GEMMs have been measured against cuDNN, for any shape."""
    return not p.on_cpu


def has_few_channels_in_a_group(p: Problem) -> bool:
    """Depthwise and nearly: neither kernel fills its lanes with so few channels."""
    fewest = 16
    if p.op == "conv_weight_grad":
        fewest = 8 if p.channels_last else 4
    return p.groups > 1 and min(p.small_channels, p.large_channels) < fewest * p.groups


def folds_strides(p: Problem) -> bool:
    """A discriminator's first layer: stride² times the few channels fill the lanes of Winograd's transforms.

    Six points an axis for each of the stride's sub-grids make four outputs (csrc/geometry/fold.h).
    """
    if p.op == "conv_transpose2d" or p.dtype != torch.float32 or winograd_tiles(p)[0] < 1024:
        return False
    folded = p.large_channels // p.groups * math.prod(p.stride)
    saved = math.prod(4 * k / (6 * s) for k, s in zip(p.kernel, p.stride, strict=True))
    return min(p.stride) > 1 and 8 <= folded <= 16 and p.small_channels // p.groups >= 64 and saved >= 1.7


def has_a_tap_a_cell(p: Problem) -> bool:
    """1x1, or transposed with the stride as the kernel, of planes whose pixels fill the lanes.

    A plain matrix product of the planes as they lie (csrc/cpu/conv_pointwise.cpp).
    """
    pixels = math.prod(p.small)
    if p.op == "conv_weight_grad" or p.channels_last or 2 * (-(-pixels // 16) * 16) > 3 * pixels:
        return False
    if pixels * p.batch < 64 and not (p.op == "conv2d" and p.dtype in (torch.float32, torch.float64)):
        return False  # their weights would have to be packed
    sides = zip(p.kernel, p.stride, p.small, p.large, strict=True)
    apart = all(kernel == stride and large == small * stride for kernel, stride, small, large in sides)
    dense = max(p.dilation) == 1 or math.prod(p.kernel) == 1
    return apart and dense and (p.op == "conv_transpose2d" or math.prod(p.kernel) == 1)


def has_a_kernel_of_one_cell(p: Problem) -> bool:
    """A kernel of one cell, so a plain matrix product.

    Where torch has a short way to it: in channels_last, or in NCHW with batches below 16 (of any size where
    it strides). The exceptions: planes whose pixels fill the lanes (csrc/cpu/conv_pointwise.cpp), bfloat16,
    large outputs of convolutions (page faults decide), small weight gradients, and small batches that are
    transposed with a stride. Without AVX-512 weight gradients of any size are torch's where they are of
    float32 and one group, but no strided ones: torch 2.13 writes past its buffers there (16 images of 3
    channels in channels_last, to 64 channels by stride 2, ends in "free(): invalid next size").
    """
    strided = max(p.stride) > 1
    if math.prod(p.kernel) > 1 or _multiplies_bfloat16(p) or has_a_tap_a_cell(p):
        return False
    if not (p.channels_last or p.batch < 16 or (strided and p.op != "conv_transpose2d")):
        return False
    if p.op == "conv_weight_grad":
        if _has_512_bits():
            return p.products >= (2e6 if p.channels_last and (strided or p.batch >= 16) else 2e7)
        return p.dtype == torch.float32 and p.groups == 1 and not strided
    if p.op == "conv2d":
        return p.made_bytes < 2**24
    return not strided or (p.made_bytes < 2**24 and (p.large_channels <= 8 or p.batch >= 16))


def dilates_channels_last(p: Problem) -> bool:
    """Taps far apart, of pixels whose channels lie side by side: oneDNN reads them where they are."""
    return p.op != "conv_weight_grad" and p.channels_last and max(p.dilation) > 1 and p.products >= 2e6


def convolves_few_channels(p: Problem) -> bool:
    """Staging costs more than the products.

    First layers, from the colours of an image; up to 8 channels on one side with up to 16 on the other, or up
    to 12 on the small side with dilation. Large outputs are the exception: there page faults decide, and the
    kernels ask for huge pages.
    """
    if p.op != "conv2d":
        return False
    colours = p.large_channels <= 4 and p.small_channels >= 16
    least, most = sorted((p.large_channels, p.small_channels))
    few = (least <= 8 and most <= 16) or (p.small_channels <= 12 and max(p.dilation) > 1)
    return (colours or few) and p.products >= (5e5 if few else 2e6) and p.made_bytes < 2**24


def fills_few_lanes(p: Problem) -> bool:
    """Few channels in channels_last: oneDNN reads the pixels where they lie.

    Transposed, from up to 8 channels, or between up to 8 and up to 16, to 2048 pixels or more. Without
    AVX-512 convolutions in float32 as well, of 8 to 16 channels on one side, unless they are Winograd's.
    """
    if not p.channels_last or p.groups > 1 or p.products < 2e6:
        return False
    least, most = sorted((p.large_channels, p.small_channels))
    if p.op == "conv2d":
        return p.dtype == torch.float32 and 8 <= least <= 16 and not _has_512_bits()
    if p.op != "conv_transpose2d" or p.dtype not in (torch.float32, torch.bfloat16):
        return False
    return math.prod(p.large) * p.batch >= 2048 and least <= 8 and (most <= 16 or p.small_channels <= 8)


def is_a_plain_sum(p: Problem) -> bool:
    """Many products in float32 of which none can be saved, and channels that fill the lanes of both sides.

    There oneDNN's kernels, generated for each shape, are at the processor's peak, and ours at nine tenths of
    it. Not where it has 256 bits, nor transposed with a stride; and of large outputs page faults decide.
    """
    if not _has_512_bits():
        return False
    if p.op == "conv_weight_grad" or p.dtype != torch.float32 or p.groups > 1 or math.prod(p.kernel) == 1:
        return False
    if p.products < 1.5e7 or p.made_bytes >= 2**24:
        return False
    strided = max(p.stride) > 1
    if p.op == "conv2d":
        return p.small_channels > 8 and (p.channels_last or not strided or max(p.small) <= 16)
    fills = p.large_channels > 8 if p.channels_last else min(p.small_channels, p.large_channels) > 16
    return fills and not strided


def convolves_few_pixels(p: Problem) -> bool:
    """The weights are most of what must be read, and are packed for few products each."""
    pixels = p.batch * math.prod(p.small)
    weights = p.small_channels * p.large_channels // p.groups * math.prod(p.kernel)
    return p.op == "conv2d" and pixels <= 64 and weights >= 2**20


def winograd_tiles(p: Problem) -> tuple[float, float]:
    """Tiles of 4x4 (1x4), and how many products the direct algorithm needs for one of Winograd's.

    A phase, or a piece of a kernel at stride 1, has as many active points an axis as taps, and three more
    (csrc/geometry/winograd.h). (0, 0) where windows of three taps do not serve.
    """
    tiles, saved = float(p.batch), 1.0
    in_pieces = [s == 1 and k > 3 for k, s in zip(p.kernel, p.stride, strict=True)]
    if p.op != "conv2d" and any(in_pieces) and max(p.stride) > 1:
        return 0, 0
    for axis in (0, 1):
        kernel, stride, small = p.kernel[axis], p.stride[axis], p.small[axis]
        if axis == 0 and kernel == 1 and stride == 1:
            tiles *= small
            continue
        most = 9 if stride == 1 else 2 * stride + 1
        if not stride < kernel <= most or p.dilation[axis] != 1 or stride > 8:
            return 0, 0
        across, phases = -(-small // 4), -(-kernel // 3) if stride == 1 else stride
        tiles *= across
        saved *= 4 * kernel / (kernel + 3 * phases) * small / (4 * across)
    return tiles, saved


def is_winograds(p: Problem) -> bool:
    """Fewer products, over channels and tiles enough to pay for the transforms; float64 is for accuracy."""
    if p.dtype == torch.float64:
        return False
    tiles, saved = winograd_tiles(p)
    fewest = min(p.small_channels, p.large_channels) // p.groups
    if p.groups > 1 and fewest < 32:  # groups come one after the other
        return False
    work = tiles * fewest
    if _multiplies_bfloat16(p):  # the direct algorithm has twice the speed of float32
        strided = p.op == "conv2d" and math.prod(p.stride) > 1  # torch's: is_torchs_bfloat16()
        in_pieces = any(k > 2 * s + 1 for k, s in zip(p.kernel, p.stride, strict=True))
        return not strided and not in_pieces and saved >= 3.2 and fewest >= 48 and work >= 2048
    if p.op == "conv_weight_grad":
        return saved >= 2 and fewest >= 48 and work >= 4096
    if p.kernel[0] == 1:
        return saved >= 1.5 and fewest >= 32 and work >= 2048
    return (
        saved >= 2
        and tiles >= 8
        and fewest >= (16 if saved >= 3 else 96)
        and work >= (512 if fewest >= 32 else 5000)
    )


def is_torchs_bfloat16(p: Problem) -> bool:
    """The classes in which oneDNN multiplies bfloat16 faster than the native kernels.

    Where Winograd does not pay: weight gradients, in which ours lack the instructions; kernels of more than
    one cell at stride 1; strided convolutions; and in channels_last plain matrix products.
    """
    if not _multiplies_bfloat16(p) or p.products < 1e7:
        return False
    if p.op == "conv_weight_grad":
        return not _has_matrix_unit()  # there is_the_matrix_units() has decided
    strided = math.prod(p.stride) > 1
    if p.channels_last and all(k <= s for k, s in zip(p.kernel, p.stride, strict=True)):
        return True
    return math.prod(p.kernel) > 1 and (not strided or p.op == "conv2d")


def is_the_matrix_units(p: Problem) -> bool:
    """bfloat16 on a processor with AMX, for which deconvkit has no kernels.

    But for maps so small that oneDNN does not fill it: up to 4x4 transposed, up to 8x8 in weight gradients.
    In NCHW over copies in channels_last (_torch_convolution.wants_channels_last).
    """
    if p.dtype != torch.bfloat16 or p.products < 1e7 or not _has_matrix_unit():
        return False
    fewest = {"conv2d": 1, "conv_transpose2d": 17, "conv_weight_grad": 65}[p.op]
    return math.prod(p.small) >= fewest


def _has_matrix_unit() -> bool:
    return torch.cpu._is_amx_tile_supported()


def _has_512_bits() -> bool:
    return torch.cpu._is_avx512_supported()


def _multiplies_bfloat16(p: Problem) -> bool:
    return p.dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported()


# Measured on two cores each of Zen 4, Granite Rapids and Zen 3 over random shapes, torch in the same layout
# as the rival.
_RULES: tuple[tuple[Callable[[Problem], bool], Choice], ...] = (
    (
        is_on_another_device,
        Choice("torch", "deconvkit's own is not measured on this device"),
    ),
    (has_few_channels_in_a_group, Choice("torch", "so few channels in a group: torch is faster")),
    (is_the_matrix_units, Choice("torch", "it multiplies bfloat16 by the processor's matrix unit")),
    (folds_strides, Choice("winograd", "few channels, which the strides' sub-grids multiply")),
    (has_a_kernel_of_one_cell, Choice("torch", "a plain matrix product: torch is faster")),
    (dilates_channels_last, Choice("torch", "dilated in channels_last: torch is faster")),
    (convolves_few_channels, Choice("torch", "a first layer, or so few channels: torch is faster")),
    (convolves_few_pixels, Choice("torch", "few pixels for so many weights: torch is faster")),
    (is_winograds, Choice("winograd", "fewer multiplications, and channels and tiles enough to pay for it")),
    (fills_few_lanes, Choice("torch", "few channels in channels_last: torch is faster")),
    (
        is_a_plain_sum,
        Choice("torch", "no product can be saved, and oneDNN multiplies at the processor's peak"),
    ),
    (is_torchs_bfloat16, Choice("torch", "it multiplies bfloat16 faster in this class of shapes")),
    (has_a_tap_a_cell, Choice("direct", "a plain matrix product of planes, which are read as they lie")),
)
_OTHERWISE = Choice("direct", "no fast algorithm pays for this shape")


@functools.lru_cache(maxsize=4096)
def choose(problem: Problem) -> Choice:
    """What "auto" means for this problem, and why."""
    for holds, choice in _RULES:
        if holds(problem):
            return choice
    return _OTHERWISE


def is_trained_by_torch(p: Problem) -> bool:
    """Small layers over one image, with kernels up to 3x3: torch has a short way, and autograd in C++.

    Asked of a call whose output is to be differentiated; the products are the same in all of its passes. With
    two images, or longer kernels, torch takes twice as long as our ops recorded in Python. Not in bfloat16
    with AMX: that may be computed over copies in another layout, which autograd does not see.
    """
    if not p.on_cpu or p.batch > 1 or max(p.kernel) > 3:
        return False
    if p.dtype == torch.bfloat16 and _has_matrix_unit():
        return False
    if math.prod(p.kernel) == 1:
        return p.products < 2e6
    return p.products < (3e5 if p.op == "conv2d" else 5e4)


def problem(
    op: str,
    like: Tensor,
    channels_last: bool,
    first: Sequence[int],
    second: Sequence[int],
    made: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Problem:
    """Of operands of these shapes, with the device and the dtype of ``like``."""
    shapes = first, second, tuple(made), tuple(stride), tuple(dilation)
    return Problem(op, like.is_cpu, like.dtype, channels_last, *shapes, groups)


def resolve(*arguments: Any) -> str:
    """What "auto" means for the :func:`problem` with these arguments."""
    return choose(problem(*arguments)).algorithm
