"""Boxes over an image, and the maximum of what is seen in them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deconvkit.models import DeconvNet
from deconvkit.segmentation import aggregate, clip_boxes, proposals


@pytest.mark.parametrize(("height", "width"), [(224, 224), (300, 500), (500, 120), (64, 64), (9, 7), (1, 1)])
@pytest.mark.parametrize("count", [1, 7, 50, 200])
def test_boxes_cover_the_image_at_every_size(height: int, width: int, count: int) -> None:
    boxes = proposals(height, width, count)
    assert 1 <= len(boxes) <= count
    assert boxes[0].tolist() == [0, 0, width, height]
    assert len(boxes.unique(dim=0)) == len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
    area = sides.prod(1)
    assert (sides > 0).all()
    assert (area.diff() <= 0).all()
    # The boxes of one shape, within rounding, leave no pixel out.
    for size in sides.unique(dim=0):
        covered = torch.zeros(height, width, dtype=torch.bool)
        for left, top, right, bottom in boxes[((sides - size).abs() <= 1).all(1)].tolist():
            covered[top:bottom, left:right] = True
        assert covered.all()


def test_more_room_more_sizes() -> None:
    counts = [len(proposals(224, 224, count)) for count in (1, 10, 50, 500)]
    assert counts == sorted(set(counts))
    smallest = proposals(224, 224, 50)[-1]
    assert (smallest[2:] - smallest[:2]).tolist() in [[112, 112], [158, 79], [79, 158]]


def test_clipping() -> None:
    boxes = [
        [-3.2, 1, 4.4, 50],
        [0, 1, 4, 6],
        [7, 2, 7, 4],
        [5, 5, 3, 9],
        [20, 0, 30, 4],
        [1, 1, 8, 5],
        [2, 0, 3, 1],
    ]
    expected = [[1, 1, 8, 5], [0, 1, 4, 6], [2, 0, 3, 1]]
    assert clip_boxes(torch.tensor(boxes), 6, 9).tolist() == expected
    assert clip_boxes(torch.zeros(0, 4), 6, 9).shape == (0, 4)
    with pytest.raises(ValueError, match=r"boxes: expected shape \(n, 4\), got \(4,\)"):
        clip_boxes(torch.zeros(4), 6, 9)
    with pytest.raises(ValueError, match="boxes: expected finite numbers"):
        clip_boxes(torch.full((1, 4), torch.nan), 6, 9)


class Shades(nn.Module):
    """Scores that are linear in the colours, so that resizing twice is all that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.sizes.append(tuple(images.shape))
        return torch.cat([images * 2, -images[:, :1]], 1)


def resized(maps: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_is_the_maximum_of_maps_that_are_zero_outside_of_their_box(batch_size: int) -> None:
    image = torch.randn(3, 20, 30)
    boxes = torch.tensor([[0, 0, 12, 9], [5, 4, 30, 20], [3, 3, 8, 20], [20, 10, 40, 30]])
    network = Shades().train()
    found = aggregate(network, image, boxes, size=8, batch_size=batch_size)
    maps = [torch.zeros(4, 20, 30)]
    for left, top, right, bottom in [(0, 0, 12, 9), (5, 4, 30, 20), (3, 3, 8, 20), (20, 10, 30, 20)]:
        seen = resized(image[:, top:bottom, left:right], 8, 8)
        one = torch.zeros(4, 20, 30)
        one[:, top:bottom, left:right] = resized(torch.cat([seen * 2, -seen[:1]]), bottom - top, right - left)
        maps.append(one)
    torch.testing.assert_close(found, torch.stack(maps).amax(0).softmax(0))
    assert found[:, 19, 0].tolist() == [0.25] * 4  # in no box
    assert network.training
    assert sum(size[0] for size in network.sizes) == 4
    assert {size[1:] for size in network.sizes} == {(3, 8, 8)}
    assert max(size[0] for size in network.sizes) == min(batch_size, 4)


def test_one_box_of_the_network_size_is_one_pass() -> None:
    net = DeconvNet(4, width=1, input_size=32).eval()
    image = torch.randn(3, 32, 32)
    found = aggregate(net, image, proposals(32, 32, 1), net.input_size)
    with torch.no_grad():
        expected = net(image[None])[0].clamp(min=0).softmax(0)
    torch.testing.assert_close(found, expected)


def test_what_is_wrong_is_told() -> None:
    image, boxes = torch.zeros(3, 6, 8), torch.tensor([[0, 0, 4, 4]])
    for message, arguments in (
        (r"image: expected shape \(3, H, W\), got \(1, 3, 6, 8\)", (image[None], boxes, 8)),
        ("image: expected finite numbers, got NaN or infinity", (image / 0, boxes, 8)),
        ("boxes: expected one or more in an image of 8x6 pixels, got none", (image, boxes + 100, 8)),
        ("size: expected at least 1, got 0", (image, boxes, 0)),
        ("batch_size: expected at least 1, got 0", (image, boxes, 8, 0)),
    ):
        with pytest.raises(ValueError, match=message):
            aggregate(Shades(), *arguments)
    for arguments, message in (((0, 8), "height"), ((8, -1), "width"), ((8, 8, 0), "count")):
        with pytest.raises(ValueError, match=f"{message}: expected at least 1"):
            proposals(*arguments)
