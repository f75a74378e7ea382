"""What the operators take for an int, and for a tensor, as torch's do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import deconvkit

ONE, TWO = np.int64(1), np.int32(2)


def test_numpy_ints_are_ints():
    x, w = torch.randn(2, 4, 9, 8), torch.randn(4, 2, 3, 3)
    for stride, padding in ((TWO, ONE), ((TWO, ONE), (ONE, TWO)), ([TWO], [ONE])):
        assert_close(
            deconvkit.conv2d(x, w, stride=stride, padding=padding, groups=TWO),
            F.conv2d(x, w, stride=stride, padding=padding, groups=TWO),
            rtol=1e-4,
            atol=1e-4,
        )
    pooled, switches = deconvkit.max_pool2d_with_switches(x, TWO, (TWO, ONE))
    expected, indices = F.max_pool2d(x, 2, (2, 1), return_indices=True)
    assert_close(pooled, expected)
    size = np.int64(9), np.int64(8)
    assert torch.equal(deconvkit.switches_to_indices(switches, size, TWO, (TWO, ONE)), indices)


def test_numpy_bools_and_floats_are_none():
    x, w = torch.randn(1, 4, 9, 9), torch.randn(4, 4, 3, 3)
    for wrong in (np.float64(1), np.bool_(True)):
        with pytest.raises(TypeError, match=r"^conv2d: stride: expected an int or 2 ints"):
            deconvkit.conv2d(x, w, stride=wrong)


def test_the_spatial_size_is_an_int_or_a_tuple():
    switches = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    for wrong in (None, 1.5):
        with pytest.raises(TypeError, match=r"^switches_to_indices: input_size: expected the spatial size"):
            deconvkit.switches_to_indices(switches, wrong, 2)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("sparse", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_tensors_without_strides_are_told(sparse):
    x, w = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    calls = (
        ("conv2d", (x, w)),
        ("conv_transpose2d", (x, w)),
        ("max_pool2d_with_switches", (x, 2)),
        ("sparse_sigmoid", (x, 0.1)),
        ("sparse_kl", (x.sigmoid(), 0.1)),
    )
    for op, (first, *others) in calls:
        getattr(deconvkit, op)(first, *others)  # what is remembered of a dense one must not let it through
        with pytest.raises(
            TypeError, match=rf"^{op}: \w+: expected a dense tensor, got (sparse_coo|_mkldnn)"
        ):
            getattr(deconvkit, op)(sparse(first), *others)
