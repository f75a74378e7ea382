from __future__ import annotations

import pytest
import torch

from deconvkit import conv_transpose1d, conv_transpose2d
from tests.ops.convolution_errors import Errors
from tests.ops.convolution_transforms import Transforms
from tests.ops.convolution_values import Values


class TestConvTranspose2d(Values, Transforms, Errors):
    transposed = True

    def test_bad_output_padding_and_sizes(self) -> None:
        x, w = torch.zeros(2, 4, 6, 7), torch.zeros(4, 4, 3, 3)
        large = torch.zeros(1).expand(2, 4, 2**20, 2**20)
        self.check_errors(
            [
                (
                    ValueError,
                    "output_padding: expected less",
                    lambda: conv_transpose2d(x, w, output_padding=1),
                ),
                (
                    ValueError,
                    "output_padding: expected less",
                    lambda: conv_transpose2d(x, w, None, 2, 0, (1, 2)),
                ),
                (ValueError, "output_padding: expected", lambda: conv_transpose2d(x, w, output_padding=-1)),
                (ValueError, "input: expected sizes", lambda: conv_transpose2d(x, w, padding=4)),
                (
                    ValueError,
                    "input: expected sizes",
                    lambda: conv_transpose1d(x[:, :, 0], w[:, :, 0], padding=5),
                ),
                (ValueError, "input: expected sizes", lambda: conv_transpose2d(large, w, stride=2**20)),
            ]
        )

    def test_output_padding_may_reach_the_dilation(self) -> None:
        x, w = torch.randn(1, 2, 4, 4), torch.randn(2, 3, 3, 3)
        output = conv_transpose2d(x, w, output_padding=1, dilation=2)
        expected = torch.nn.functional.conv_transpose2d(x, w, output_padding=1, dilation=2)
        torch.testing.assert_close(output, expected)

    @pytest.mark.parametrize("algorithm", ["direct", "winograd", "torch"])
    def test_is_the_adjoint_of_conv2d(self, algorithm: str) -> None:
        from deconvkit import conv2d

        x, w = torch.randn(2, 5, 9, 10).double(), torch.randn(4, 5, 3, 4).double()
        y = conv2d(x, w, None, 2, 1, algorithm=algorithm)
        z = torch.randn_like(y)
        back = conv_transpose2d(z, w, None, 2, 1, 0, algorithm=algorithm)
        cut = x[:, :, : back.shape[2], : back.shape[3]]
        torch.testing.assert_close((y * z).sum(), (cut * back).sum())
