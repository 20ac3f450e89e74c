"""Which settings of :class:`SGD` a training can mean."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from torch import nn

from dataloupe._errors import BadInput
from dataloupe.core import Diffusion, TrainingLoss
from dataloupe.learners._augment import Augment

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "triangular")
LOSSES = ("cross_entropy", "squared", "contrastive")
REMOVALS = ("repack", "mask")


def check_settings(sgd: Any) -> None:
    """Refuse what no training can mean (dl-211), and a module in place of what makes one (dl-264)."""
    if isinstance(sgd.module, nn.Module) or not callable(sgd.module):
        raise BadInput(
            "dl-264",
            asked=f"SGD of a {type(sgd.module).__name__}",
            found="no function that makes the module anew, with a start of its own for every training",
            do="give the class or a function: SGD(Net), SGD(lambda: Net(width=64)); to begin every training with these "
            "numbers: SGD(lambda: module)",
        )
    for name, (allowed, words) in _RULES.items():
        if not allowed(getattr(sgd, name)):
            raise _refused(name, getattr(sgd, name), words)
    of_rows = not isinstance(sgd.loss, str | type) and (
        isinstance(sgd.loss, TrainingLoss) or callable(sgd.loss)
    )
    if not (isinstance(sgd.loss, Diffusion) or of_rows or _word(*LOSSES)(sgd.loss)):
        raise _refused(
            "loss",
            sgd.loss,
            _in_words(LOSSES) + ", one of dataloupe.losses, a function, or a dataloupe.Diffusion",
        )
    _check_together(sgd)


def _check_together(sgd: Any) -> None:
    """Settings that only others give a meaning to."""
    wrong = {
        "label_smoothing (of another loss)": (
            sgd.label_smoothing != 0 and sgd.loss != "cross_entropy",
            'smoothing with loss="cross_entropy" alone, or losses.CrossEntropy(label_smoothing=...)',
        ),
        "batch_size (contrastive)": (
            sgd.loss == "contrastive" and sgd.batch_size < 2,
            "at least 2: a pair needs others",
        ),
        "nesterov (needs momentum)": (sgd.nesterov and not sgd.momentum, "with momentum above 0"),
        "warmup (the peak of a triangular schedule)": (
            sgd.schedule == "triangular" and not sgd.warmup,
            "above 0, such as warmup=0.2",
        ),
        "momentum (of adamw)": (sgd.optimizer == "adamw" and sgd.momentum, "0: adamw has betas=(0.9, 0.999)"),
        "betas (of sgd)": (
            sgd.optimizer == "sgd" and tuple(sgd.betas) != (0.9, 0.999),
            'left out: sgd has momentum (betas belong to optimizer="adamw")',
        ),
    }
    for name, (bad, words) in wrong.items():
        if bad:
            raise _refused(name, getattr(sgd, name.split(" ")[0]), words)


def _refused(name: str, value: Any, words: str) -> BadInput:
    return BadInput(
        "dl-211",
        asked=f"SGD with {name} = {value!r}",
        found="a value outside its range",
        do=f"give {words} (see help(dataloupe.SGD))",
    )


def _word(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _in_words(words: tuple[str, ...]) -> str:
    return "one of " + ", ".join(f'"{word}"' for word in words)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_whole, "a whole number from 1"),
    "batch_size": (_whole, "a whole number from 1"),
    "lr": (lambda value: _number(value) and value > 0, "a number above 0"),
    "momentum": (_share, "a number from 0 and below 1"),
    "nesterov": (lambda value: isinstance(value, bool), "True or False"),
    "weight_decay": (lambda value: _number(value) and value >= 0, "a number from 0"),
    "warmup": (_share, "a number from 0 and below 1"),
    "label_smoothing": (_share, "a number from 0 and below 1"),
    "optimizer": (_word(*OPTIMIZERS), _in_words(OPTIMIZERS) + " (Adam with decoupled weight decay)"),
    "betas": (
        lambda value: isinstance(value, tuple | list) and len(value) == 2 and all(map(_share, value)),
        "two numbers from 0 and below 1, such as (0.9, 0.999)",
    ),
    "schedule": (
        _word(*SCHEDULES),
        _in_words(SCHEDULES) + ' ("triangular" with warmup is the one-cycle schedule)',
    ),
    "removal": (_word(*REMOVALS), _in_words(REMOVALS)),
    "augment": (
        lambda value: value is None or (isinstance(value, Augment) and not isinstance(value, type)),
        "None, or an augmentation with `draws` and a call: dataloupe.Flip(), Shift(2), Chain((Flip(), Shift(2)))",
    ),
    "version": (lambda value: value is None or isinstance(value, str), "a text, or None"),
}
