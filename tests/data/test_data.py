"""The data sets: shapes, keyed choices, and files that are not what they should be."""

import builtins
import gzip
import sys
import types

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Examples
from dataloupe.data import CAPTION_WORDS, _captions, _fashion, digits, fashion_captions, fashion_mnist
from dataloupe.data._idx import read_idx


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return head + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A Fashion-MNIST of 30 + 12 images whose first pixel is their row number."""
    for part, count in (("train", 30), ("t10k", 12)):
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_digits_are_all_there_once():
    train, test = digits()
    assert train.inputs.shape == (1437, 64)
    assert train.inputs.dtype == torch.float32
    assert test.labels.dtype == torch.int64
    assert float(train.inputs.min()) == 0.0
    assert float(train.inputs.max()) == 1.0
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    both = np.concatenate([train.inputs.numpy(), test.inputs.numpy()])
    named = np.concatenate([train.labels.numpy(), test.labels.numpy()])
    ours = sorted(zip((both * 16).astype(int).tolist(), named.tolist(), strict=True))
    assert ours == sorted(zip(pixels.astype(int).tolist(), labels.tolist(), strict=True))


def test_digits_look_like_their_inputs():
    train, _ = digits()
    assert train.images.dtype == np.uint8
    expected = np.round(train.inputs[7].numpy() * 255).reshape(8, 8)
    np.testing.assert_array_equal(train.show(7).image, expected)
    assert train.show(7).title == str(int(train.labels[7]))


def test_digits_split_is_a_function_of_the_seed():
    first, again, other = digits()[1], digits(seed=0)[1], digits(seed=1)[1]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(set(first.labels.tolist())) == 10


def test_fashion_rows_are_whole_and_chosen_once(folder):
    train, test = fashion_mnist(20, None, folder=folder)
    assert train.inputs.shape == (20, 1, 28, 28)
    assert train.inputs.dtype == torch.uint8
    source = train.inputs[:, 0, 0, 0].long()
    assert len(set(source.tolist())) == 20
    assert (train.labels == source % 10).all()
    assert sorted(test.inputs[:, 0, 0, 0].tolist()) == list(range(12))
    np.testing.assert_array_equal(train.images, train.inputs[:, 0].numpy())
    assert train.label_name(0) == _fashion.NAMES[int(source[0]) % 10]


def test_fashion_choice_is_keyed_and_nested(folder):
    small, large = fashion_mnist(5, 3, folder=folder)[0], fashion_mnist(25, 3, folder=folder)[0]
    assert torch.equal(small.inputs, large.inputs[:5])
    assert not torch.equal(small.inputs, fashion_mnist(5, 3, seed=1, folder=folder)[0].inputs)


@pytest.mark.parametrize("count", [0, -3, 31])
def test_fashion_counts_outside_the_data_are_refused(folder, count):
    with pytest.raises(BadInput, match="dl-820"):
        fashion_mnist(count, 3, folder=folder)


def test_a_missing_file_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match=r"dl-821.*t10k-labels-idx1-ubyte.*apt install dataset-fashion-mnist"):
        fashion_mnist(5, 3, folder=folder)


def test_images_and_labels_of_different_files_are_refused(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29, dtype=np.uint8)))
    with pytest.raises(BadInput, match=r"dl-824.*30 images and 29 labels"):
        fashion_mnist(5, 3, folder=folder)


def test_idx_is_read_back(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", axes=3), array)


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        ("a", lambda raw: raw[:-1], "23 bytes of data"),
        ("a", lambda raw: raw + b"\0", "25 bytes of data"),
        ("a", lambda raw: raw[:7], "7 bytes, less than the header"),
        ("a", lambda raw: b"\0\0\x0d\3" + raw[4:], "the first bytes 00000d03"),
        ("a", lambda raw: raw[:0], "0 bytes"),
        ("a.gz", lambda raw: gzip.compress(raw)[:-9], "no whole gzip"),
        ("a.gz", lambda raw: raw, "no whole gzip"),
        ("a.gz", lambda raw: gzip.compress(raw)[:12] + b"xxxx" + gzip.compress(raw)[16:], "no whole gzip"),
    ],
)
def test_a_damaged_idx_file_is_refused_by_name(tmp_path, name, damage, found):
    raw = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    (tmp_path / name).write_bytes(damage(raw))
    with pytest.raises(BadInput, match=rf"dl-822.*{name}.*{found}"):
        read_idx(tmp_path / name, axes=3)


def test_without_package_and_pooch_the_ways_out_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(_fashion, "DEBIAN", tmp_path / "none")
    real = builtins.__import__

    def no_pooch(name, *args, **kwargs):
        if name == "pooch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pooch)
    with pytest.raises(BadInput, match=r"dl-823.*no pooch.*apt install.*dataloupe\[data\].*folder="):
        fashion_mnist(5, 3)


def test_a_failed_download_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(_fashion, "DEBIAN", tmp_path / "none")

    def retrieve(url, **kwargs):
        raise ValueError(f"hash of {url} differs from {kwargs['known_hash']}")

    pooch = types.SimpleNamespace(os_cache=lambda name: tmp_path / name, retrieve=retrieve)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    with pytest.raises(BadInput, match=r"dl-823.*the download failed \(hash of .*8d4fb7e6c68d"):
        fashion_mnist(5, 3)


def test_the_download_asks_for_all_four_files_with_their_sums(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(_fashion, "DEBIAN", tmp_path / "none")
    asked = {}

    def retrieve(url, *, known_hash, fname, path, **_):
        asked[url] = known_hash
        path.mkdir(parents=True, exist_ok=True)
        source = folder / fname
        raw = source.read_bytes() if source.exists() else (folder / fname[:-3]).read_bytes()
        (path / fname).write_bytes(raw if source.exists() else gzip.compress(raw))

    pooch = types.SimpleNamespace(os_cache=lambda name: tmp_path / name, retrieve=retrieve)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    train, _ = fashion_mnist(5, 3)
    assert torch.equal(train.inputs, fashion_mnist(5, 3, folder=folder)[0].inputs)
    assert asked == {_fashion.URL + name: f"md5:{md5}" for name, md5 in _fashion.MD5.items()}


def test_captions_say_what_can_be_seen(folder):
    train = fashion_captions(30, 12, folder=folder)[0]
    same = fashion_mnist(30, 12, folder=folder)[0]
    assert torch.equal(train.inputs["image"], same.inputs) and (train.images == same.images).all()
    for text, words, name in zip(
        train.texts, train.inputs["words"].tolist(), train.meta["class"], strict=True
    ):
        assert name in text and "dark" in text and "small" in text
        assert " ".join(CAPTION_WORDS[word] for word in words).split() == text.split()
    assert len({way.split()[0] for way in train.texts}) > 2, "there are several ways of saying so"
    assert train.meta["class"] == [same.names[label].lower() for label in same.labels.tolist()]
    again = fashion_captions(20, 12, folder=folder)[0]
    assert list(again.texts) == list(train.texts[:20]), "a larger choice starts with the smaller one"


def test_captions_tell_bright_from_dark_and_large_from_small():
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    images[0, 0, :5], images[1, 0, :5], images[2, 0, :5], images[3, 0, :20] = 100, 140, 200, 255
    data = Examples(images, torch.tensor([0, 1, 2, 9]), images=images[:, 0].numpy())
    texts = _captions._captioned(data, Stream.root(0)).texts
    for text, words in zip(
        texts, ("dark small t-shirt", "grey small", "bright small", "bright large ankle boot"), strict=True
    ):
        assert set(words.split()) <= set(text.split())
