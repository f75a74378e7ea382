"""Winograd's transformed weights, kept from call to call in inference.

While training, a weight changes from step to step and is transformed anew in every call. Without a gradient
the second call with an unchanged weight keeps its transform for those after it. Whether a weight has changed
is told by a fingerprint of its bytes, one read of them: a change that autograd does not count, through
``weight.data`` or NumPy, is seen as well. What is kept goes when its weight does, or when the weight changes,
and stays below ``LIMIT`` bytes in all; a weight that finds no room is transformed anew in every call. So is
one whose transform costs less than reading what was kept of it (:meth:`KeptWeights._pays`).
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvkit.ops import _library as library

LIMIT = 128 << 20
"""Bytes of all transformed weights that are kept."""

_CACHED = 20 << 20  # bytes of one that stay in a last-level cache from call to call
_ONE_ROUND = 128  # tiles that the kernels take in one reading of the weights (csrc/cpu/conv_winograd.cpp)
_MANY = 1024  # tiles beside whose products the transform is nothing


class _Kept(NamedTuple):
    """What is known of a weight; ``transformed`` is None after the first call."""

    weight: weakref.ref[Tensor]
    fingerprint: int
    transformed: Tensor | None


_KEPT: dict[Any, _Kept] = {}


def kept_bytes() -> int:
    """Bytes of the transformed weights that are kept now."""
    return sum(kept.transformed.nbytes for kept in _KEPT.values() if kept.transformed is not None)


class KeptWeights:
    """The transformed weights of one plan: one geometry, one shape and dtype of the weight.

    Args:
        transposed: whether of conv_transpose2d.
        tiles: Winograd's, of all images.
        geometry: stride, padding, dilation and groups.
    """

    def __init__(self, transposed: bool, tiles: float, *geometry: Any) -> None:
        self._transposed = transposed
        self._tiles = tiles
        self._geometry = geometry
        self._sizes: dict[int, int] = {}

    def _size(self, weight: Tensor, native: Any) -> int:
        """Numbers of the transformed weight; 0 where it is not kept."""
        bits = native.vector_bytes()  # all else is the plan's
        size = self._sizes.get(bits)
        if size is None:
            size = native.conv_transformed_size(self._transposed, library.ref(weight), *self._geometry)
            if not self._pays(size * _compute_dtype(weight).itemsize):
                size = 0
            self._sizes[bits] = size
        return size

    def _pays(self, bytes: int) -> bool:
        """Whether reading so much costs less than the transform.

        Weights come from memory at the speed of the transform, in training as here: few tiles make one round
        of it, and there it is a good part of the whole; with more, only what stays in a cache is cheaper.
        """
        return bytes <= LIMIT and (self._tiles <= _ONE_ROUND or (bytes <= _CACHED and self._tiles <= _MANY))

    def get(self, weight: Tensor, threads: int) -> Tensor | None:
        """The transformed weights, or None: not before the second call, and where there is no room."""
        native = library.native(weight)
        size = self._size(weight, native)
        if not size:
            return None
        shape = library.ref(weight)[1:]
        key = id(weight), shape, self._transposed, self._geometry, native.vector_bytes()
        kept = _KEPT.get(key)
        fingerprint = _fingerprint(weight, native, threads)
        if fingerprint is None:
            return None
        if kept is None or kept.weight() is not weight or kept.fingerprint != fingerprint:
            _KEPT[key] = _Kept(weakref.ref(weight, lambda _: _KEPT.pop(key, None)), fingerprint, None)
            return None
        if kept.transformed is None:
            dtype = _compute_dtype(weight)
            if kept_bytes() + size * dtype.itemsize > LIMIT:
                return None
            transformed = torch.empty(size, dtype=dtype)
            native.conv_transform_weights(
                self._transposed, library.ref(weight), library.ref(transformed), *self._geometry, threads
            )
            kept = _KEPT[key] = kept._replace(transformed=transformed)
        return kept.transformed


def _compute_dtype(weight: Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _fingerprint(weight: Tensor, native: Any, threads: int) -> int | None:
    """Of the weight's bytes; None where others lie between them."""
    if weight.is_contiguous() or (
        weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    ):
        return int(native.fingerprint(library.ref(weight), threads))
    return None
