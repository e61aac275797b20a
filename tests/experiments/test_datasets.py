"""Data sets: the shipped images, all layouts of files, and a refusal of every damage."""

import gzip
import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_data
from hypothesis import given
from hypothesis import strategies as st

from sparsetrain.experiments import datasets

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_data.write(tmp_path / "data")


def refused(error: type[Exception], expected: str, data_dir: Path | None, name="fashion-mnist"):
    with pytest.raises(error) as caught:
        datasets.load(name, data_dir)
    message = str(caught.value)
    assert message.startswith("sparsetrain.experiments.datasets.load: expected ")
    assert expected in message and ", got " in message and "\n" not in message


def test_the_shipped_subset_is_large_balanced_and_small_on_disk():
    data = datasets.load()
    assert len(data.train) >= 10_000 and len(data.test) >= 2_000
    assert data.train.images.shape[1:] == (1, 28, 28)
    for split in (data.train, data.test):
        counts = torch.bincount(split.labels, minlength=10)
        assert (counts - len(split) / 10).abs().max() <= len(split) / 100
    assert sum(path.stat().st_size for path in datasets.SHIPPED.iterdir()) < 6_000_000


def test_the_shipped_archives_have_no_time_stamp():
    for path in datasets.SHIPPED.glob("*.gz"):
        assert path.read_bytes()[4:8] == bytes(4)  # bytes 4 to 7 of a gzip file


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_shipped_subset_is_the_beginning_of_the_full_set():
    full, subset = datasets.load(data_dir=DEBIAN), datasets.load()
    assert (len(full.train), len(full.test)) == (60_000, 10_000)
    for split, part in ((full.train, subset.train), (full.test, subset.test)):
        assert torch.equal(split.images[: len(part)], part.images)
        assert torch.equal(split.labels[: len(part)], part.labels)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", [".", "raw", "FashionMNIST/raw"])
def test_every_layout_gives_the_same_data(tmp_path, folder, layout, zipped):
    small_data.write(tmp_path / "other" / layout, zipped=zipped)
    other = datasets.load(data_dir=tmp_path / "other")
    assert other.fingerprint == datasets.load(data_dir=folder).fingerprint


def test_the_fingerprint_depends_on_every_label(folder):
    before = datasets.load(data_dir=folder).fingerprint
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] = (content[-1] + 1) % 10
    path.write_bytes(gzip.compress(content))
    assert datasets.load(data_dir=folder).fingerprint != before


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_idx_files_read_as_written(tmp_path_factory, shape, zipped, seed):
    values = torch.randint(256, shape, generator=datasets.stream(seed), dtype=torch.uint8)
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    content = bytes([0, 0, 8, len(shape)]) + sizes + values.numpy().tobytes()
    path = tmp_path_factory.mktemp("idx") / ("file.gz" if zipped else "file")
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert torch.equal(datasets.read_idx(path), values)


def test_a_missing_file_is_named(folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    refused(FileNotFoundError, "train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz", folder)
    refused(FileNotFoundError, "train-images-idx3-ubyte", folder / "nowhere")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: gzip.compress(content)[:-100], "a complete gzip file"),
        (lambda content: content, "a complete gzip file"),
        (lambda content: gzip.compress(content)[:200] + bytes(300), "a complete gzip file"),
        (lambda content: gzip.compress(b""), "an idx file of bytes"),
        (lambda content: gzip.compress(content[:9]), "an idx file of bytes"),
        (lambda content: gzip.compress(b"\0\0\x0d" + content[3:]), "an idx file of bytes"),
        (lambda content: gzip.compress(content[:-1]), "150544 bytes long as its header says"),
        (lambda content: gzip.compress(content + b"\0"), "150544 bytes long as its header says"),
        (
            lambda content: gzip.compress(content[:8] + b"\0\0\0\x0e\0\0\0\x38" + content[16:]),
            "images of 28 x 28",
        ),
    ],
    ids=["cut", "not gzip", "overwritten", "empty", "no data", "floats", "short", "long", "14x56"],
)
def test_damaged_images_are_refused(folder, damage, expected):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(gzip.decompress(path.read_bytes())))
    refused(ValueError, expected, folder)


@pytest.mark.parametrize("labels", [[0] * 191, [0] * 191 + [10]], ids=["too few", "no such class"])
def test_labels_that_do_not_fit_are_refused(folder, labels):
    content = b"\0\0\x08\x01" + len(labels).to_bytes(4, "big") + bytes(labels)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    refused(ValueError, "to be 192 labels from 0 to 9", folder)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 15, 16, 1000])
def test_a_truncated_file_is_refused(tmp_path, zipped, keep):
    folder = small_data.write(tmp_path / "data", zipped=zipped)
    path = next(folder.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:keep])
    refused(ValueError, f"expected {path} to be", folder)


def test_an_unknown_data_set_lists_the_known_ones():
    refused(ValueError, "one of fashion-mnist, cifar10", None, name="mnist")


def test_cifar10_names_what_is_missing(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    refused(FileNotFoundError, "cifar-10-batches-py", None, name="cifar10")
    refused(FileNotFoundError, "a complete cifar-10-batches-py", tmp_path, name="cifar10")
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    refused(ModuleNotFoundError, "torchvision to be installed", tmp_path, name="cifar10")


def test_cifar10_loads_torchvision_s_files(tmp_path, monkeypatch):
    cifar10 = pytest.importorskip("torchvision.datasets").CIFAR10
    base = tmp_path / cifar10.base_folder
    base.mkdir()
    values = np.random.default_rng(0).integers(256, size=(2, 3 * 32 * 32), dtype=np.uint8)
    files = {"data_batch_1": {"data": values, "labels": [3, 9]}}
    files["test_batch"] = {"data": values[1:], "labels": [9]}
    files["batches.meta"] = {"label_names": [f"class {i}" for i in range(10)]}
    digests = {}
    for name, content in files.items():
        (base / name).write_bytes(pickle.dumps(content))
        digests[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "train_list", [["data_batch_1", digests["data_batch_1"]]])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setitem(cifar10.meta, "md5", digests["batches.meta"])
    data = datasets.load("cifar10", tmp_path)
    assert (data.channels, data.size, len(data.classes)) == (3, 32, 10)
    assert torch.equal(data.train.images.flatten(1), torch.from_numpy(values))
    assert data.train.labels.tolist() == [3, 9] and data.test.labels.tolist() == [9]


def test_normalized_images_have_mean_0_and_variance_1():
    data = datasets.load()
    images = data.normalize(data.train.images)
    assert images.dtype == torch.float32
    assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02


def test_streams_depend_on_their_key_alone():
    def draw(*key: int) -> list[int]:
        return torch.randint(2**30, (4,), generator=datasets.stream(*key)).tolist()

    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1), (11,), (1, 1)]
    assert [draw(*key) for key in keys] == [draw(*key) for key in keys]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


@pytest.mark.parametrize("shift", [0, 2])
def test_augmentation_mirrors_and_moves_images(shift):
    images = torch.randint(1, 256, (40, 3, 6, 5), dtype=torch.uint8)
    moved = datasets.augment(images, shift, datasets.stream(1))
    padded = torch.nn.functional.pad(images, (shift,) * 4)
    steps = range(2 * shift + 1)
    drawn = []
    for original, image in zip(padded, moved, strict=True):
        found = [
            (mirrored, row, column)
            for mirrored, source in enumerate((original, original.flip(-1)))
            for row in steps
            for column in steps
            if torch.equal(source[:, row : row + 6, column : column + 5], image)
        ]
        assert found
        drawn += found
    assert len(set(drawn)) > len(steps) ** 2  # mirrored and not, many positions
