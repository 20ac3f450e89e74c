"""Methods of unlearning by name, with settings from words on the command line."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Int

from dataloupe import unlearning
from dataloupe._errors import BadInput
from dataloupe.cli._base import Asking, Number, load_question, local
from dataloupe.cli._forget import File, read_forget
from dataloupe.core import Question, Subsets
from dataloupe.lab import Lab
from dataloupe.methods import TRAK
from dataloupe.unlearning import Calibrated, Integrated, Predictor, Regression, Unlearner

Prior = Literal["trak", "none"]
Scale = Literal["calibrate", "integrate", "both", "none"]
CLASSES = {
    "dmm": "DMM",
    "dm-direct": "DMDirect",
    "oracle-matching": "OracleMatching",
    "gradient-descent": "GradientDescent",
    "gradient-ascent": "GradientAscent",
    "ascent-descent": "AscentDescent",
    "neggrad-plus": "NegGradPlus",
    "scrub": "SCRUB",
    "l1-sparse": "L1Sparse",
    "newton-step": "NewtonStep",
    "cf-k": "CFk",
    "eu-k": "EUk",
    "retrain": "Retrain",
}
"""The word for a method, and its class in ``dataloupe.unlearning``. A new one is one line here."""
PREDICTED = ("dmm", "dm-direct")
"""Methods that need predicted changes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behind:
    """What predicts the changes that dmm and dm-direct aim for."""

    subsets: Number = 500
    """dmm, dm-direct: on how many subsets the predictor trains, 20 or more to a seed"""
    fraction: Annotated[float, tyro.conf.arg(metavar="X")] = 0.75
    """dmm, dm-direct: the share of the data each of them sees"""
    prior: Annotated[Prior, tyro.conf.arg(metavar="NAME")] = "trak"
    """dmm, dm-direct: what tells what the trainings do not: trak or none"""
    prior_models: Number = 10
    """dmm, dm-direct: over how many models trak is taken"""
    scale: Annotated[Scale, tyro.conf.arg(metavar="NAME")] = "both"
    """dmm, dm-direct: integrate over how much of the data is there (as many trainings again, on a third of their share); calibrate on pseudo-forget sets, with what groups do by trak (245 trainings more); both; or none"""

    def predictor(self, question: Question) -> Predictor:
        """The regression, in another scale if asked for, ready to ask a lab."""
        seeds = max(1, min(20, self.subsets // 20))
        subsets = Subsets(n=question.n, count=self.subsets, fraction=self.fraction, seed=1, seeds=seeds)
        trak = TRAK(models=self.prior_models)
        told = Regression(subsets, prior=trak if self.prior == "trak" else None)
        by: Predictor = told
        if self.scale in ("integrate", "both"):
            by = Integrated(told, dataclasses.replace(subsets, fraction=self.fraction / 3, seed=2))
        return Calibrated(by, gradients=trak) if self.scale in ("calibrate", "both") else by


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgetting(Asking):
    """A verb that computes on a question and rows to forget."""

    forget: File
    """the rows to forget: a file of `forget pick`, or {"ids": [3, 14]}"""
    behind: Annotated[Behind, tyro.conf.arg(name="")]

    def asked(self) -> tuple[Question, Int[np.ndarray, " f"]]:
        """The question and the rows, read before the lab is opened."""
        question = load_question(self.question)
        return question, read_forget(self.forget, question)

    def opened(self) -> Lab:
        """The lab."""
        return self.open()[1]


def there() -> list[str]:
    """The words for methods that this version has."""
    return [word for word, name in CLASSES.items() if hasattr(unlearning, name)]


def words_of(methods: str) -> list[str]:
    """A list of methods on the command line, checked (dl-995)."""
    words = [word.strip() for word in methods.split(",") if word.strip()]
    strange = [word for word in words if word not in there()]
    if not words or strange or len(set(words)) < len(words):
        found = f"no method {strange[0]}" if strange else "none" if not words else "one of them twice"
        raise BadInput(
            "dl-995",
            asked=f"the methods {methods!r}",
            found=found,
            do=f"name some of {', '.join(there())}, with commas between them",
        )
    return words


def made(
    words: Sequence[str], behind: Behind, question: Question, settings: dict[str, Any] | None = None
) -> dict[str, Unlearner]:
    """The methods, by their words; those that need predicted changes share one predictor."""
    by = behind.predictor(question) if set(words) & set(PREDICTED) else None
    found: dict[str, Unlearner] = {}
    for word in words:
        kind = getattr(unlearning, CLASSES[word])
        found[word] = with_settings(word, kind(by) if word in PREDICTED else kind(), settings or {})
    return found


def with_settings(word: str, method: Any, settings: dict[str, Any]) -> Any:
    """The method with other settings, its own or those of its mix (dl-997)."""
    mix = getattr(method, "mix", None)
    own = {field.name: field for field in dataclasses.fields(method) if field.name not in ("by", "mix")}
    inner = {} if mix is None else {field.name: field for field in dataclasses.fields(mix)}
    known = own | inner
    given: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise BadInput(
                "dl-997",
                asked=f"{name} of {word}",
                found=f"the settings {', '.join(sorted(known)) or 'none'}",
                do="name one of these, or none",
            )
        usual = getattr(method if name in own else mix, name)
        if _unlike(value, usual):
            raise BadInput(
                "dl-997",
                asked=f"{name}={value} of {word}",
                found=f"a setting like {usual}",
                do=f"write a value of that kind: {name}={json.dumps(usual)}",
            )
        whole = value is None or "float" not in str(known[name].type)
        given[name] = value if whole else float(value)
    if mix is not None:
        changed = {name: value for name, value in given.items() if name in inner}
        given = {name: value for name, value in given.items() if name in own}
        return dataclasses.replace(method, mix=dataclasses.replace(mix, **changed), **given)
    return dataclasses.replace(method, **given)


def _unlike(value: Any, usual: Any) -> bool:
    """Whether a value is of another kind than the usual one; of None nothing is known but that it is a number."""
    if value is None or usual is None:
        return not (value is None or isinstance(value, int | float)) or (value is None and usual is not None)
    if isinstance(usual, float):
        return isinstance(value, bool) or not isinstance(value, int | float)
    return type(value) is not type(usual)


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """``lr=0.003 epochs=8`` as settings (dl-997)."""
    grid = grid_of(words)
    for name, values in grid.items():
        if len(values) > 1:
            raise _unreadable(f"{name}={','.join(map(str, values))}", "several values of one setting")
    return {name: values[0] for name, values in grid.items()}


def grid_of(words: Sequence[str]) -> dict[str, list[Any]]:
    """``lr=0.001,0.003 epochs=2,4`` as values of every setting (dl-997)."""
    found: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not name or not equals or not all(values.split(",")) or name in found:
            raise _unreadable(word, "a setting named twice" if name in found else "no NAME=VALUE")
        found[name] = [_value(word, one) for one in values.split(",")]
    return found


def points_of(grid: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Every combination, by its name."""
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {", ".join(f"{name} {value}" for name, value in one.items()): one for one in combinations}


def _value(word: str, text: str) -> Any:
    try:
        value = json.loads({"none": "null", "None": "null", "True": "true", "False": "false"}.get(text, text))
    except ValueError as error:
        raise _unreadable(word, f"{text}, which is no number") from error
    if not isinstance(value, int | float | None):
        raise _unreadable(word, f"{text}, which is no number")
    return value


def _unreadable(word: str, found: str) -> BadInput:
    return BadInput(
        "dl-997", asked=f"the setting {word!r}", found=found, do="write NAME=VALUE: lr=0.003 epochs=8"
    )


def place_of(path: Path) -> Path:
    """A folder that models can be written into, made if need be (dl-998 where a file stands)."""
    if path.is_file():
        raise BadInput(
            "dl-998", asked=f"models in {path}", found="a file of that name", do="name a folder: --out models"
        )
    return local(path)
