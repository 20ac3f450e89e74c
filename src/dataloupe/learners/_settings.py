"""Which settings of :class:`SGD` a training can mean."""

from typing import Any

from dataloupe._errors import BadInput
from dataloupe.core import Diffusion


def check_settings(sgd: Any) -> None:
    """Refuse what no training can mean (dl-211)."""
    wrong = {
        "epochs": sgd.epochs < 1,
        "batch_size": sgd.batch_size < 1,
        "lr": not sgd.lr > 0,
        "momentum": not 0 <= sgd.momentum < 1,
        "weight_decay": not sgd.weight_decay >= 0,
        "warmup": not 0 <= sgd.warmup < 1,
        "label_smoothing": not 0 <= sgd.label_smoothing < 1,
        "optimizer": sgd.optimizer not in ("sgd", "adamw"),
        "schedule": sgd.schedule not in ("constant", "linear", "cosine", "triangular"),
        "loss": not isinstance(sgd.loss, Diffusion)
        and sgd.loss not in ("cross_entropy", "squared", "contrastive"),
        "batch_size (contrastive)": sgd.loss == "contrastive" and sgd.batch_size < 2,
        "removal": sgd.removal not in ("repack", "mask"),
        "nesterov (needs momentum)": sgd.nesterov and not sgd.momentum,
        "warmup (the peak of a triangular schedule)": sgd.schedule == "triangular" and not sgd.warmup,
    }
    for name in (name for name, bad in wrong.items() if bad):
        value = getattr(sgd, name.split(" ")[0])
        raise BadInput(
            "dl-211",
            asked=f"SGD with {name} = {value!r}",
            found="a value outside its range",
            do="see help(dataloupe.SGD)",
        )
