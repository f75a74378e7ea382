"""Data modules: what ships in dependencies' wheels, or what ``--data`` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from deconvkit.data import digits, images, photographs, shapes, voc
from deconvkit.data.scenes import Scene, centred_object, proposal


class SharedSampler(DistributedSampler[int]):
    """A process's part of every batch that all processes share; no sample is in two of them.

    Torch's own would give the last samples to two processes, where they cannot be shared evenly. Being one,
    Lightning leaves it alone.

    Args:
        count: samples.
        batch_size: a process's share of a batch, at most.
        seed: with the epoch, of the order; None: as they come.
        few: of more samples than so many batches have, those of the last, smaller batch are left out.
        processes: how many share.
        rank: this one.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int | None, few: int, processes: int = 1, rank: int = 0
    ) -> None:
        super().__init__(TensorDataset(torch.empty(count)), processes, rank, shuffle=False)
        self.order_seed = seed
        rest = count % (batch_size * processes)
        # Nor may a process be left without a batch while the others have one.
        dropped = count > few * batch_size * processes or rest < processes
        self.count, self.kept = count, count - rest if dropped else count

    def __len__(self) -> int:
        return len(range(self.rank, self.kept, self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        order: Sequence[int] = range(self.count)
        if self.order_seed is not None:
            generator = torch.Generator().manual_seed(self.order_seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.count, generator=generator).tolist()
        return iter(order[self.rank : self.kept : self.num_replicas])


def shared_batches(
    data: Any, batch_size: int, seed: int, few: int, trainer: Any, epoch: int = 0
) -> DataLoader[Any]:
    """This process's batches, as :class:`SharedSampler` has them; for a size of 0 all samples, as they come.

    Raises:
        DataError: fewer samples than processes, or a negative size.
    """
    count = len(data)
    processes, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
    if count < processes:
        raise images.DataError(f"expected a sample for each of {processes} processes, got {count}")
    if batch_size < 0:
        raise images.DataError(f"--data.batch_size: expected 0, for all samples, or more, got {batch_size}")
    as_they_come = batch_size in (0, count)
    size = batch_size or -(-count // processes)
    sampler = SharedSampler(count, size, None if as_they_come else seed, few, processes, rank)
    sampler.set_epoch(epoch)
    return DataLoader(data, size, sampler=sampler)


def require_sizes(data: Any, *names: str, least: int = 1) -> None:
    """Raise DataError unless each of these arguments of a data module is so large."""
    for name in names:
        if getattr(data, name) < least:
            raise images.DataError(f"--data.{name}: expected at least {least}, got {getattr(data, name)}")


class TensorData(pl.LightningDataModule):
    """Tensors in memory.

    Args:
        path: what the user's data are; None: those that ship.
        batch_size: samples a batch; 0: all of them.
        seed: of splits, orders and whatever is drawn.
    """

    def __init__(self, path: str | None = None, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.path, self.batch_size, self.seed = path, batch_size, seed
        self.tensors: tuple[Tensor, ...] = ()

    def setup(self, stage: str) -> None:
        """Read or draw the data, once."""
        require_sizes(self, "seed", least=0)
        if not self.tensors:
            self.tensors = self.load()

    def load(self) -> tuple[Tensor, ...]:
        """The tensors of the training samples."""
        raise NotImplementedError

    def train_dataloader(self) -> Any:
        """Batches of all tensors."""
        return shared_batches(TensorDataset(*self.tensors), self.batch_size, self.seed, 2, self.trainer)


class Patches(TensorData):
    """Square patches of grey photographs, in [0.1, 0.9], float64.

    Args:
        path: a folder of images; None: scikit-learn's two photographs.
        count: patches.
        size: pixels a side.
        batch_size: 0: all at once.
        seed: of the places.
    """

    def __init__(
        self,
        path: str | None = None,
        count: int = 10_000,
        size: int = 8,
        batch_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.count, self.size = count, size

    def load(self) -> tuple[Tensor, ...]:
        """(count, size²)."""
        require_sizes(self, "count", "size")
        if self.path is None:
            pictures = list(photographs.sample_photographs().values())
        else:
            pictures = [photographs.grey(images.read_image(f) / 255) for f in images.image_files(self.path)]
        try:
            generator = np.random.default_rng(self.seed)
            centred = photographs.random_patches(pictures, self.count, self.size, generator)
            self.scale = photographs.PatchScale.of(centred)
        except ValueError as error:
            raise images.DataError(str(error)) from error
        return (torch.from_numpy(self.scale.apply(centred)),)


class DigitImages(TensorData):
    """Handwritten digits as vectors, with their labels, split into training and test.

    Args:
        path: a folder with MNIST's IDX files; None: scikit-learn's 8×8 digits.
        batch_size: samples a batch; 0: all of them.
        test_size: digits kept for testing.
        seed: of the split.
        noise: standard deviation of Gaussian noise, the sum clipped to [0, 1]; where positive the tensors
            are (noisy, clean).
        double: float64 instead of float32.
    """

    def __init__(
        self,
        path: str | None = None,
        batch_size: int = 128,
        test_size: int = 500,
        seed: int = 0,
        noise: float = 0.0,
        double: bool = False,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.test_size, self.noise, self.double = test_size, noise, double

    def load(self) -> tuple[Tensor, ...]:
        """(images, labels), or (noisy, clean)."""
        loaded = digits.sample_digits() if self.path is None else digits.read_mnist(self.path)
        self.size = loaded.size
        pictures = torch.from_numpy(loaded.images).flatten(1)
        labels = torch.from_numpy(loaded.labels)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(pictures), generator=generator)
        if not 2 <= self.test_size < len(order):
            raise images.DataError(
                f"--data.test_size: expected 2 to {len(order) - 1} of the {len(order)} digits, "
                f"got {self.test_size}"
            )
        test, train = order[: self.test_size], order[self.test_size :]
        if self.double:
            pictures = pictures.double()
        self.test_images, self.test_labels = pictures[test], labels[test]
        self.train_images, self.train_labels = pictures[train], labels[train]
        if len(self.train_labels.unique()) < 2:
            raise images.DataError(f"{self.path}: expected digits of two or more classes, got of one alone")
        if not self.noise:
            return self.train_images, self.train_labels
        draw = torch.randn(pictures.shape, generator=generator, dtype=pictures.dtype) * self.noise
        self.test_noisy = (self.test_images + draw[test]).clamp(0, 1)
        return (self.train_images + draw[train]).clamp(0, 1), self.train_images


class Crops(TensorData):
    """Square crops of colour photographs, (3, size, size) in [−1, 1].

    Args:
        path: a folder of images; None: six photographs that ship with scikit-learn and scikit-image.
        count: crops.
        size: pixels a side.
        batch_size: crops a batch.
        seed: of the places.
    """

    def __init__(
        self,
        path: str | None = None,
        count: int = 4096,
        size: int = 64,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(path, batch_size, seed)
        self.count, self.size = count, size

    def load(self) -> tuple[Tensor, ...]:
        """(count, 3, size, size)."""
        require_sizes(self, "count", "size")
        if self.path is None:
            pictures = list(images.sample_photographs_in_colour().values())
        else:
            pictures = [images.read_image(file) for file in images.image_files(self.path)]
        crops = images.random_crops(pictures, self.count, self.size, np.random.default_rng(self.seed))
        return (torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(),)


Cut = Callable[[int, np.random.Generator], tuple[Any, Any]]
"""An index and random numbers to a sample: an image (size, size, 3), and what is to be learned of it."""


class Cuts(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are cut when they are asked for: images (3, size, size) uint8, and int64.

    The same for the same seed, epoch and index, whoever asks.
    """

    def __init__(self, cut: Cut, count: int, seed: int, epoch: int) -> None:
        self.cut, self.count, self.seed, self.epoch = cut, count, seed, epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = self.cut(index, np.random.default_rng((self.seed, self.epoch, index)))
        # Copies: torch takes no mirrored arrays.
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels, torch.as_tensor(np.array(target, np.int64))


class CutData(pl.LightningDataModule):
    """Images that are cut anew in each epoch, and as many of others that are cut once, for testing.

    The trainer must ask for batches in every epoch (``reload_dataloaders_every_n_epochs: 1``).

    Args:
        path: what the user's data are; None: those that ship.
        size: pixels a side.
        batch_size: samples a batch; 0: all of them.
        test_count: samples for testing, at most.
        seed: of all that is drawn.
    """

    classes: list[str]
    scenes: int  # drawn for training where no data are given
    count: int  # of the training samples
    test_images: Tensor  # (N, 3, size, size), uint8
    test_targets: Tensor  # (N, ...), int64

    def __init__(self, path: str | None, size: int, batch_size: int, test_count: int, seed: int) -> None:
        super().__init__()
        self.path, self.size, self.batch_size = path, size, batch_size
        self.test_count, self.seed = test_count, seed
        self.ready = False

    def setup(self, stage: str) -> None:
        """Read or draw the data, once."""
        if self.ready:
            return
        require_sizes(self, "size", "scenes", "test_count")
        require_sizes(self, "seed", least=0)
        count = self.load()
        if self.count < 2 or count < 1:
            raise images.DataError(
                f"{self.path}: expected two or more images to learn from and one to test on, "
                f"got {self.count} and {count}"
            )
        test = Cuts(self.test_cut, min(count, self.test_count), self.seed, 2**32)
        found = [test[i] for i in range(len(test))]
        self.test_images, self.test_targets = (torch.stack(part) for part in zip(*found, strict=True))
        self.ready = True

    def load(self) -> int:
        """Find the classes and the training samples; returns how many there are for testing."""
        raise NotImplementedError

    def train_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """A sample for training in the current epoch."""
        raise NotImplementedError

    def test_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """A sample for testing."""
        raise NotImplementedError

    @property
    def epoch(self) -> int:
        """The trainer's."""
        return self.trainer.current_epoch if self.trainer else 0

    def train_dataloader(self) -> Any:
        """The epoch's batches."""
        data = Cuts(self.train_cut, self.count, self.seed, self.epoch)
        return shared_batches(data, self.batch_size, self.seed, 1, self.trainer, self.epoch)


_WHOLE = 60  # scenes that are segmented whole


class Scenes(CutData):
    """Scenes with a class for each pixel, in the two stages of DeconvNet's training.

    Args:
        path: VOC's folder; None: drawn shapes on photographs that ship with scikit-learn and scikit-image.
        size: pixels a side of what is cut out.
        batch_size: samples a batch.
        first_stage: epochs whose samples are objects in the middle; those of later ones are proposals.
        scenes: how many are drawn for training.
        scene_size: pixels a side of the drawn.
        test_count: scenes for testing, at most.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        path: str | None = None,
        size: int = 64,
        batch_size: int = 32,
        first_stage: int = 10,
        scenes: int = 2000,
        scene_size: int = 128,
        test_count: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__(path, size, batch_size, test_count, seed)
        self.first_stage, self.scenes, self.scene_size = first_stage, scenes, scene_size

    def load(self) -> int:
        """VOC's lists "train" and "val", or drawn ones."""
        self.train_scenes: Sequence[Scene]
        self.test_scenes: Sequence[Scene]
        self.whole_scenes: Sequence[Scene]  # to be segmented whole, their objects of all sizes
        require_sizes(self, "first_stage", least=0)
        if self.path is None:
            require_sizes(self, "scene_size", least=shapes.SMALLEST_SCENE)
            self.classes = list(shapes.CLASSES)
            generator = np.random.default_rng(self.seed)
            drawn = shapes.draw_scenes(self.scenes + self.test_count, self.scene_size, generator)
            self.train_scenes, self.test_scenes = drawn[: self.scenes], drawn[self.scenes :]
            self.whole_scenes = shapes.draw_scenes(
                _WHOLE, 3 * self.scene_size // 2, generator, most=4, sides=(0.12, 0.65)
            )
        else:
            self.classes = list(voc.CLASSES)
            self.train_scenes, self.test_scenes = (voc.VOCScenes(self.path, p) for p in ("train", "val"))
            self.whole_scenes = [self.test_scenes[i] for i in range(min(_WHOLE, len(self.test_scenes)))]
        self.count = len(self.train_scenes)
        return len(self.test_scenes)

    def train_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """An object in the middle, or a proposal."""
        cut = centred_object if self.epoch < self.first_stage else proposal
        return cut(self.train_scenes[index], self.size, generator)

    def test_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """A proposal."""
        return proposal(self.test_scenes[index], self.size, generator)


class ClassImages(CutData):
    """Images with a class each.

    Args:
        path: a folder with a folder of images for each class, a tenth of which is kept for testing; None:
            drawn shapes on photographs that ship with scikit-learn and scikit-image.
        size: pixels a side, 32 or more: what a VGG can halve five times.
        batch_size: samples a batch.
        scenes: how many images are drawn for training.
        test_count: images for testing, at most.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        path: str | None = None,
        size: int = 64,
        batch_size: int = 32,
        scenes: int = 2000,
        test_count: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__(path, size, batch_size, test_count, seed)
        self.scenes = scenes

    def load(self) -> int:
        """Find the files, or draw."""
        require_sizes(self, "size", least=32)
        if self.path is None:
            self.classes = list(shapes.CLASSES[1:])
            generator = np.random.default_rng(self.seed)
            drawn = shapes.draw_scenes(
                self.scenes + self.test_count, 3 * self.size // 2, generator, most=1, sides=(0.5, 0.9)
            )
            found = [(scene.image, int(scene.labels.max()) - 1) for scene in drawn]
            self.train_items: list[tuple[Any, int]] = found[: self.scenes]
            self.test_items: list[tuple[Any, int]] = found[self.scenes :]
        else:
            files, labels, self.classes = images.class_folders(self.path)
            images.require_images(files)  # now, rather than in the middle of an epoch
            order = np.random.default_rng(self.seed).permutation(len(files))
            items = [(files[i], labels[i]) for i in order]
            kept = max(1, len(items) // 10)
            self.test_items, self.train_items = items[:kept], items[kept:]
        self.count = len(self.train_items)
        return len(self.test_items)

    def train_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """A square of 0.8 to 1 of the image's shorter side, anywhere, mirrored or not."""
        image, label = self._item(self.train_items[index])
        return images.square(image, self.size, generator), label

    def test_cut(self, index: int, generator: np.random.Generator) -> tuple[Any, Any]:
        """The square in the middle."""
        image, label = self._item(self.test_items[index])
        return images.square(image, self.size), label

    def _item(self, item: tuple[Any, int]) -> tuple[Any, int]:
        image, label = item
        return (image if isinstance(image, np.ndarray) else images.read_image(image)), label
