from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deconvkit import conv1d, conv2d
from tests.ops.convolution import ALGORITHMS, examples, near
from tests.ops.convolution_errors import Errors
from tests.ops.convolution_transforms import Transforms
from tests.ops.convolution_values import Values


class TestConv2d(Values, Transforms, Errors):
    transposed = False

    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
    @examples
    @given(
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.sampled_from(["same", "valid"]),
        st.sampled_from(ALGORITHMS),
    )
    def test_named_padding(
        self, kernel: tuple[int, int], dilation: tuple[int, int], padding: str, algorithm: str
    ) -> None:
        x = torch.randn(2, 3, 14, 15, dtype=torch.float64, requires_grad=True)
        w = torch.randn(4, 3, *kernel, dtype=torch.float64, requires_grad=True)
        ours = conv2d(x, w, None, 1, padding, dilation, algorithm=algorithm)
        theirs = F.conv2d(x, w, None, 1, padding, dilation)
        near(ours, theirs, factor=10)
        for a, e in zip(
            torch.autograd.grad(ours.sin().sum(), (x, w)),
            torch.autograd.grad(theirs.sin().sum(), (x, w)),
            strict=True,
        ):
            near(a, e, factor=100)

    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
    def test_named_padding_in_one_dimension(self) -> None:
        x, w = torch.randn(2, 3, 14), torch.randn(4, 3, 4)
        for padding, stride in itertools.product(("same", "valid"), (1, 2)):
            if padding == "valid" or stride == 1:
                near(conv1d(x, w, None, stride, padding), F.conv1d(x, w, None, stride, padding))

    def test_bad_padding_and_sizes(self) -> None:
        x, w = torch.zeros(2, 4, 6, 7), torch.zeros(4, 4, 3, 3)
        large = torch.zeros(1).expand(2**20, 4, 2**20, 2**20)
        self.check_errors(
            [
                (ValueError, "padding: expected ints", lambda: conv2d(x, w, padding="full")),
                (ValueError, 'padding: "same" expects', lambda: conv2d(x, w, None, 2, "same")),
                (ValueError, "input: expected sizes", lambda: conv2d(x, w, None, 1, "valid", 4)),
                (ValueError, "input: expected sizes", lambda: conv2d(x[:, :, :2], w)),
                (ValueError, "input: expected sizes", lambda: conv1d(x[:, :, 0, :2], w[:, :, 0])),
                (ValueError, "input: expected sizes", lambda: conv2d(large, w)),
            ]
        )
