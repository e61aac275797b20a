"""Image sets as tensors in memory, for training runs: Fashion-MNIST and CIFAR-10.

A batch is an index into two tensors. Everything random about it is a function of (seed, epoch,
step), so that a checkpoint needs no state of a data loader.
"""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

NAMES = ("fashion-mnist", "cifar10")
"""Names that `load` accepts."""
SHIPPED = Path(__file__).with_name("data")  # package data, also in an installed wheel

_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, C, H, W], with their labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and how their images are scaled and augmented.

    Attributes:
        name: One of `NAMES`.
        train: Training images.
        test: Test images.
        classes: Names of the classes by label.
        mean: Mean of each channel, with pixels scaled to [0, 1].
        std: Standard deviation of each channel, likewise.
        shift: Pixels by which a training image may move in each direction.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: int

    @property
    def channels(self) -> int:
        """Channels of an image: 1 for gray, 3 for color."""
        return self.train.images.shape[1]

    @property
    def size(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.images.shape[2]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every image and label: equal if and only if the data are."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.images, split.labels):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:32]

    def normalize(self, images: Tensor) -> Tensor:
        """Converts uint8 [N, C, H, W] to float32 with mean 0 and variance 1 over the data set."""
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return (images.to(torch.float32) / 255 - mean) / std

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augmented training images, float32 [B, C, H, W], and their labels, int64 [B]."""
        images = augment(self.train.images[indices], self.shift, generator)
        return self.normalize(images), self.train.labels[indices]


def stream(*key: int) -> torch.Generator:
    """A random generator seeded by `key` alone. Different keys give unrelated streams."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirrors images [N, C, H, W] with probability 1/2 and moves them by up to `shift` pixels."""
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if shift == 0:
        return images
    corner = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
    rows = (corner[0] + torch.arange(height))[:, :, None]
    columns = (corner[1] + torch.arange(width))[:, None, :]
    padded = pad(images, (shift,) * 4).movedim(1, -1)
    return padded[torch.arange(count)[:, None, None], rows, columns].movedim(-1, 1).contiguous()


def load(name: str = "fashion-mnist", data_dir: Path | None = None) -> Dataset:
    """Reads a data set.

    Args:
        name: One of `NAMES`.
        data_dir: Folder of the files. Default: the shipped 12,000 images of Fashion-MNIST.

    Raises:
        ValueError: The name is unknown or a file damaged.
        FileNotFoundError: A file is missing.
        ModuleNotFoundError: CIFAR-10 needs torchvision, which is not installed.
    """
    if name == "fashion-mnist":
        return _load_fashion_mnist(SHIPPED if data_dir is None else data_dir)
    if name == "cifar10":
        return _load_cifar10(data_dir)
    raise ValueError(
        "sparsetrain.experiments.datasets.load: expected name to be one of "
        f"{', '.join(NAMES)}, got {name!r}"
    )


def read_idx(path: Path) -> Tensor:
    """Reads an idx file of unsigned bytes, gzipped or not, as a uint8 tensor.

    The header holds the magic number 0, 0, 8, the number of dimensions, and their sizes as 32-bit
    big-endian integers.

    Raises:
        ValueError: The file has another format, element type or length.
    """
    where = f"sparsetrain.experiments.datasets.load: expected {path} to be"
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{where} a complete gzip file, got a damaged one ({error})"
            ) from error
    header = 4 + 4 * content[3] if len(content) > 3 else 4
    if content[:3] != b"\x00\x00\x08" or len(content) <= header:
        raise ValueError(f"{where} an idx file of bytes, got one that begins with {content[:4]!r}")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    length = header + math.prod(shape)
    if len(content) != length:
        raise ValueError(f"{where} {length} bytes long as its header says, got {len(content)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].view(shape)


def _find(data_dir: Path, name: str) -> Path:
    """Finds an idx file in the layout of Debian's package or of torchvision, gzipped or not."""
    for folder in (data_dir, data_dir / "FashionMNIST" / "raw", data_dir / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"sparsetrain.experiments.datasets.load: expected {name} or {name}.gz to be in {data_dir} "
        "or its FashionMNIST/raw, got neither. Debian's package dataset-fashion-mnist has the files"
    )


def _read_split(data_dir: Path, part: str) -> Split:
    image_path = _find(data_dir, f"{part}-images-idx3-ubyte")
    label_path = _find(data_dir, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"sparsetrain.experiments.datasets.load: expected {image_path} to be images of "
            f"28 x 28, got shape {tuple(images.shape)}"
        )
    if labels.shape != images.shape[:1] or int(labels.max()) >= len(_FASHION_CLASSES):
        raise ValueError(
            f"sparsetrain.experiments.datasets.load: expected {label_path} to be {len(images)} "
            f"labels from 0 to 9, got shape {tuple(labels.shape)} with labels up to "
            f"{int(labels.max())}"
        )
    return Split(images[:, None], labels.to(torch.int64))


def _load_fashion_mnist(data_dir: Path) -> Dataset:
    train, test = _read_split(data_dir, "train"), _read_split(data_dir, "t10k")
    mean, std = (0.286,), (0.353,)  # of the full training set
    return Dataset("fashion-mnist", train, test, _FASHION_CLASSES, mean, std, shift=0)


def _load_cifar10(data_dir: Path | None) -> Dataset:
    if data_dir is None:
        raise FileNotFoundError(
            "sparsetrain.experiments.datasets.load: expected data_dir to be the folder that holds "
            "cifar-10-batches-py, got none. CIFAR-10 is not shipped"
        )
    try:
        from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sparsetrain.experiments.datasets.load: expected torchvision to be installed for "
            "cifar10, got none. Run pip install torchvision"
        ) from error
    try:
        parts = [CIFAR10(data_dir, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise FileNotFoundError(
            f"sparsetrain.experiments.datasets.load: expected {data_dir} to be a folder with a "
            "complete cifar-10-batches-py, got none or a damaged one"
        ) from error
    train, test = (
        Split(torch.from_numpy(p.data).movedim(-1, 1).contiguous(), torch.tensor(p.targets))
        for p in parts
    )
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training set
    return Dataset("cifar10", train, test, tuple(parts[0].classes), mean, std, shift=4)
