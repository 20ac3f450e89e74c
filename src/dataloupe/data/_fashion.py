"""Fashion-MNIST: 60,000 + 10,000 images of clothes, 28 x 28 pixels, in ten classes."""

from pathlib import Path

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Examples, checked
from dataloupe.data._idx import read_idx

NAMES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


@checked("dl-511")
def fashion_mnist(
    train: int | None = 5000, test: int | None = 500, seed: int = 0, folder: str | Path | None = None
) -> tuple[Examples, Examples]:
    """Fashion-MNIST as (training, test) examples: so many rows of each, None for all of them.

    Which rows, and their order, is a pure function of the seed (not stratified), and a larger choice starts
    with the smaller one. Inputs uint8 ``[n, 1, 28, 28]`` (let the network divide by 255), labels int64 ``[n]``,
    images uint8 ``[n, 28, 28]``. Read from ``folder``, else from the Debian package dataset-fashion-mnist,
    else downloaded once by pooch and checked against the known MD5 sums.

    Raises ``BadInput`` dl-820 (more rows than there are), dl-821 (files missing), dl-822 (a damaged file),
    dl-823 (no download), dl-824 (images and labels of different files).

    ::

        train, test = fashion_mnist(5000, 500)

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """
    for name, count in (("training", train), ("test", test)):
        if count is not None and count < 1:
            raise BadInput(
                "dl-820",
                asked=f"{count} {name} images",
                found="a number below 1",
                do="ask for at least one, or None for all",
            )
    place = _place(folder)
    order = Stream.root(seed)("fashion-mnist")
    return _examples(place, "train", train, order("train")), _examples(place, "t10k", test, order("test"))


def _examples(folder: Path, part: str, count: int | None, order: Stream) -> Examples:
    images = read_idx(_file(folder, f"{part}-images-idx3-ubyte"), axes=3)
    labels = read_idx(_file(folder, f"{part}-labels-idx1-ubyte"), axes=1)
    if len(images) != len(labels):
        raise BadInput(
            "dl-824",
            asked=f"the {part} part of Fashion-MNIST in {folder}",
            found=f"{len(images)} images and {len(labels)} labels",
            do="fetch both files again, from one place",
        )
    if count is not None and count > len(images):
        raise BadInput(
            "dl-820",
            asked=f"{count} images of the {part} part",
            found=f"{len(images)}",
            do=f"ask for at most {len(images)}, or None for all",
        )
    ids = np.argsort(order.bits(np.arange(len(images))), kind="stable")[:count]
    chosen: Array = images[ids]
    return Examples(
        torch.from_numpy(chosen)[:, None],
        torch.from_numpy(labels[ids].astype(np.int64)),
        images=chosen,
        names=NAMES,
    )


def _place(folder: str | Path | None) -> Path:
    """The folder that holds the four files."""
    if folder is not None:
        return Path(folder)
    return DEBIAN if DEBIAN.is_dir() else _download()


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise BadInput(
        "dl-821",
        asked=f"Fashion-MNIST in {folder}",
        found=f"neither {name}.gz nor {name}",
        do="name the folder that holds the four idx files, or none: apt install dataset-fashion-mnist",
    )


def _download() -> Path:
    """The four files, fetched once into pooch's cache and checked."""
    advice = (
        "apt install dataset-fashion-mnist, or with a network: pip install 'dataloupe[data]'; "
        "or name the folder that holds the four idx files: fashion_mnist(folder=...)"
    )
    try:
        import pooch
    except ImportError as error:
        raise BadInput(
            "dl-823", asked="Fashion-MNIST", found=f"no {DEBIAN} and no pooch to download it", do=advice
        ) from error
    folder = Path(pooch.os_cache("dataloupe")) / "fashion-mnist"
    for name, md5 in MD5.items():
        try:
            pooch.retrieve(URL + name, known_hash=f"md5:{md5}", fname=name, path=folder, progressbar=False)
        except (OSError, ValueError) as error:
            raise BadInput(
                "dl-823",
                asked=f"Fashion-MNIST from {URL}{name}",
                found=f"no {DEBIAN}, and the download failed ({error})",
                do=advice,
            ) from error
    return folder
