"""The mean of two maps."""

import pytest
import torch

from deconvkit.segmentation import ensemble


def test_mean() -> None:
    first, second = torch.randn(2, 3, 4, 5).softmax(1)
    torch.testing.assert_close(ensemble(first, second), 0.5 * first + 0.5 * second)


def test_what_is_wrong_is_told() -> None:
    first = torch.randn(3, 4, 5).softmax(0)
    with pytest.raises(ValueError, match=r"second: expected the first's shape \(3, 4, 5\), got \(3, 4, 4\)"):
        ensemble(first, first[..., 1:])
    with pytest.raises(ValueError, match="second: expected finite numbers, got NaN"):
        ensemble(first, first * torch.nan)
