"""Any scikit-learn estimator as a learner."""

import dataclasses
import inspect
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream
from dataloupe._typing import Array, Inputs
from dataloupe.core import SHORT_SEED, Examples, Removal, check_settings
from dataloupe.learners._missing import missing_after

Fit: TypeAlias = Literal["subset", "weights"]
Reading: TypeAlias = Literal["auto", "decision", "log_proba", "value"]
_METHODS = {"decision": "decision_function", "log_proba": "predict_proba", "value": "predict"}


@dataclasses.dataclass(frozen=True, eq=False)
class SklearnLearner:
    """A scikit-learn estimator, cloned and fitted on the kept rows only, every random_state (below 2^31) keyed by the seed.

    ``fit``: "subset" wants weights 0 or 1; "weights" hands fractional ones on as ``sample_weight``. Rows of
    weight 0 are never handed over. ``predict``: what a model answers: "decision" (``decision_function``),
    "log_proba" (log of ``predict_proba``, at least ``log(floor)``), "value" (``predict``); "auto" takes the
    first of these that a classifier has, and "value" for everything else. A classifier always answers ``[b, classes]``,
    column c for label c; a class that the kept rows lack gets probability ``floor``, and where an estimator
    wants classes without a hole, as XGBoost's do, those that are there are numbered for it. ``classes``: how many; None
    takes the highest label of the data (the one thing that is read of rows left out). ``allow_nan``: whether NaN in the
    inputs is a missing value to the estimator; "auto" asks scikit-learn's tags, of a pipeline those of its steps; ``version``: a word that
    stands for what cannot be followed in an estimator of your own (dl-102); raise it when that changes.
    ``row_weights`` of the examples go on as ``sample_weight``.

    Raises ``CapabilityError`` dl-839 (row weights), dl-840 (no estimator), dl-844 (no sample_weight), dl-845 (cannot predict so);
    ``BadInput`` dl-105 (NaN), dl-841 (labels), dl-842 (inputs), dl-843 (a single class), dl-846 (weights), dl-847 (settings).

    >>> data = Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    >>> model = SklearnLearner.ridge_classifier().train(data, torch.ones(4), seed=0)
    >>> model.predict(data.inputs).argmax(1).tolist()
    [0, 1, 0, 1]
    """

    estimator: Any
    fit: Fit = "subset"
    predict: Reading = "auto"
    classes: int | None = None
    floor: float = 1e-6
    allow_nan: bool | Literal["auto"] = "auto"
    version: str | None = None
    wide_seeds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the estimator against what it shall do."""
        check_settings(self, "dl-841")
        if isinstance(self.estimator, type) or not all(
            hasattr(self.estimator, name) for name in ("fit", "predict", "get_params", "set_params")
        ):
            raise CapabilityError(
                "dl-840",
                asked="a scikit-learn estimator",
                found=f"{self.estimator!r}, which is no object with fit, predict, get_params and set_params",
                do="give one, unfitted: SklearnLearner(LogisticRegression())",
            )
        known = self.fit in get_args(Fit) and self.predict in get_args(Reading)
        if not known or not 0 < self.floor < 1 or (self.classes is not None and self.classes < 2):
            raise BadInput(
                "dl-847",
                asked=f"fit={self.fit!r}, predict={self.predict!r}, floor={self.floor!r}, classes={self.classes!r}",
                found="a setting that does not exist",
                do=f"choose fit from {get_args(Fit)}, predict from {get_args(Reading)}, floor between 0 and 1, "
                "at least two classes",
            )
        name = type(self.estimator).__name__
        if self.fit == "weights" and "sample_weight" not in inspect.signature(self.estimator.fit).parameters:
            raise CapabilityError(
                "dl-844",
                asked=f"{name} with fractional weights",
                found="a `fit` without sample_weight",
                do='use fit="subset" (weights 0 and 1)',
            )
        wrong = self._wrong_reading()
        if wrong:
            raise CapabilityError(
                "dl-845",
                asked=f"{name} with predict={self.predict!r}",
                found=wrong,
                do='use predict="auto", and decision_function_shape="ovr" where the estimator has that setting',
            )

    @classmethod
    def ridge_classifier(cls, penalty: float = 1.0) -> "SklearnLearner":
        """Ridge regression on labels of -1 and 1; solved, not trained, so the seed changes nothing."""
        from sklearn.linear_model import RidgeClassifier

        return cls(RidgeClassifier(alpha=penalty))

    @classmethod
    def logistic(cls, penalty: float = 1.0, *, iterations: int = 1000) -> "SklearnLearner":
        """Multinomial logistic regression, ``sum_i loss_i + penalty / 2 |W|^2``."""
        from sklearn.linear_model import LogisticRegression

        return cls(LogisticRegression(C=1.0 / penalty, max_iter=iterations), fit="weights")

    @property
    def removal(self) -> Removal:
        """Trained on the kept rows only."""
        return "repack"

    @property
    def takes_nan(self) -> bool:
        """Whether NaN in the inputs is a missing value to the estimator."""
        return missing_after(self.estimator) != "refused" if self.allow_nan == "auto" else self.allow_nan

    @property
    def classifies(self) -> bool:
        """Whether labels are classes to this estimator."""
        from sklearn.base import is_classifier

        return bool(is_classifier(self.estimator))

    @property
    def reading(self) -> Literal["decision", "log_proba", "value"]:
        """What a model answers, "auto" resolved."""
        if self.predict != "auto":
            return self.predict
        if not self.classifies:
            return "value"
        return "decision" if hasattr(self.estimator, "decision_function") else "log_proba"

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> "SklearnModel":
        """A fitted clone."""
        from sklearn.base import clone

        kept = self._kept(weights, len(data))
        if data.labels is None:
            raise BadInput(
                "dl-841",
                asked=f"a training of {type(self.estimator).__name__}",
                found="examples without labels",
                do="give labels: Examples(inputs, labels=...)",
            )
        if not self.takes_nan:
            data.refuse_missing(
                type(self.estimator).__name__, "begin with an imputer: make_pipeline(SimpleImputer(), ...)"
            )
        rows = data.take(kept)
        columns = self._columns(data.labels, data.labels[kept])
        y = _numbers(data.labels[kept])
        if self.classifies and len(np.unique(y)) < 2:
            raise BadInput(
                "dl-843",
                asked=f"a training of {type(self.estimator).__name__} on {len(kept)} kept rows",
                found=f"the single class {int(y[0])}",
                do="keep more examples, so that at least two classes are left",
            )
        x = _matrix(rows.inputs)
        extra = self._sample_weight(weights[kept], rows.row_weights)
        estimator, classes = _seeded(clone(self.estimator), seed), None
        try:
            estimator.fit(x, y, **extra)
        except ValueError as error:
            classes = np.unique(y)
            if not (self.classifies and _wants_no_holes(self.estimator, classes, error)):
                raise
            estimator = _seeded(clone(self.estimator), seed)
            estimator.fit(x, np.searchsorted(classes, y), **extra)
        return SklearnModel(estimator, self.reading, columns, self.floor, classes)

    def _sample_weight(
        self, weights: Float[Tensor, " kept"], row_weights: Float[Tensor, " kept"] | None
    ) -> dict[str, Array]:
        """What ``fit`` is told of the rows' weights, the treatment's and the examples' own (dl-839)."""
        if row_weights is None:
            return {"sample_weight": weights.double().numpy()} if self.fit == "weights" else {}
        if "sample_weight" not in inspect.signature(self.estimator.fit).parameters:
            raise CapabilityError(
                "dl-839",
                asked=f"{type(self.estimator).__name__} on examples with row weights",
                found="a `fit` without sample_weight",
                do="leave row_weights out of the examples, or use an estimator that takes sample_weight",
            )
        return {"sample_weight": (weights.double() * row_weights.double()).numpy()}

    def _wrong_reading(self) -> str | None:
        """What stands against reading the estimator so."""
        method = _METHODS[self.reading]
        if not hasattr(self.estimator, method):
            return f"no {method}"
        if self.reading == "value":
            return None
        if not self.classifies:
            return "no classifier"
        shapes = {
            value
            for name, value in self.estimator.get_params(deep=True).items()
            if name.split("__")[-1] == "decision_function_shape"
        }
        return "one-against-one decisions" if self.reading == "decision" and "ovo" in shapes else None

    def _kept(self, weights: Float[Tensor, " n"], n: int) -> Int[Tensor, " kept"]:
        wrong = None
        if tuple(weights.shape) != (n,):
            wrong = f"weights of shape {tuple(weights.shape)} for {n} examples"
        elif not bool((weights.isfinite() & (weights >= 0)).all()):
            wrong = "a negative or infinite weight"
        elif not bool((weights > 0).any()):
            wrong = "no weight above 0"
        elif self.fit == "subset" and not bool(((weights == 0) | (weights == 1)).all()):
            wrong = 'fractional weights under fit="subset"'
        if wrong is not None:
            raise BadInput(
                "dl-846",
                asked="a weight for every example",
                found=wrong,
                do='give 0 (left out) or 1 (kept); fractional weights with fit="weights"',
            )
        return weights.nonzero().squeeze(1)

    def _columns(self, labels: Tensor, kept: Tensor) -> int | None:
        """How many columns a classifier answers, None for a regressor."""
        if not self.classifies:
            return None
        if labels.ndim != 1 or labels.is_floating_point() or int(kept.min()) < 0:
            raise BadInput(
                "dl-841",
                asked="class numbers from 0, one per example",
                found=f"labels of {labels.dtype}, shape {tuple(labels.shape)}, the lowest {kept.min().item()}",
                do="give whole numbers, such as labels.long(), or a regressor",
            )
        columns = self.classes or int(labels.max()) + 1
        if int(kept.max()) >= columns:
            raise BadInput(
                "dl-841",
                asked=f"labels below {columns}",
                found=f"a label {int(kept.max())}",
                do="number the classes from 0, and let `classes` count them all",
            )
        return columns

    def __identity__(self) -> dict[str, Any]:
        """Class (its code, if it is your own) and parameters of the estimator, and the settings."""
        return {
            **({} if self.version is None else {"version": self.version}),
            "estimator": _described(self.estimator),
            "fit": self.fit,
            "predict": self.reading,
            "classes": self.classes,
            "floor": self.floor,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class SklearnModel:
    """A fitted estimator; ``classes`` columns for a classifier, None for a regressor.

    ``renumbered``: the label behind each class that the estimator knows, where it was given others.
    """

    estimator: Any
    reading: Literal["decision", "log_proba", "value"]
    classes: int | None
    floor: float
    renumbered: Array | None = None

    def predict(self, inputs: Inputs) -> Float[Tensor, "b c"]:
        """Decisions or log-probabilities ``[b, classes]``, or values ``[b, c]``, in float64."""
        found = np.asarray(getattr(self.estimator, _METHODS[self.reading])(_matrix(inputs)), dtype=np.float64)
        if self.reading == "value" and self.renumbered is not None:
            found = self.renumbered[found.astype(np.int64)].astype(np.float64)
        if self.classes is None or self.reading == "value":
            return torch.from_numpy(found.reshape(len(found), -1))
        if self.reading == "log_proba":
            found = np.log(np.maximum(found, self.floor))
        elif found.ndim == 1:
            found = np.stack([-found / 2, found / 2], axis=1)
        missing = math.log(self.floor) + np.logaddexp.reduce(found, axis=1, keepdims=True)
        full = np.repeat(missing, self.classes, axis=1)
        labels = self.estimator.classes_.astype(np.int64)
        full[:, labels if self.renumbered is None else self.renumbered[labels]] = found
        return torch.from_numpy(full)


def _wants_no_holes(estimator: Any, classes: Array, error: ValueError) -> bool:
    """Whether a fit failed because a class below the highest is missing, and the numbers of classes mean nothing else to it.

    A setting by class number (``class_weight={0: 1, 2: 5}``) would speak of other classes after renumbering.
    """
    by_number = any(
        isinstance(setting, Mapping) and any(isinstance(name, int | np.integer) for name in setting)
        for setting in estimator.get_params(deep=True).values()
    )
    holes = not np.array_equal(classes, np.arange(len(classes)))
    return holes and not by_number and bool(re.search("class|label", str(error), re.IGNORECASE))


def _seeded(estimator: Any, seed: int) -> Any:
    """The estimator with every random_state in it, nested ones too, keyed by the seed and its own name."""
    stream = Stream.root(seed)("sklearn")
    names = [name for name in estimator.get_params(deep=True) if name.split("__")[-1] == "random_state"]
    return estimator.set_params(**{name: stream(name).seed() % SHORT_SEED for name in sorted(names)})


def _matrix(inputs: Inputs) -> Num[np.ndarray, "b d"]:
    if not isinstance(inputs, Tensor) or inputs.is_complex():
        raise BadInput(
            "dl-842",
            asked="a table of numbers for scikit-learn",
            found="inputs of several tensors" if not isinstance(inputs, Tensor) else f"{inputs.dtype}",
            do="give one numeric tensor [n, ...]; it is flattened to [n, d]",
        )
    return _numbers(inputs.flatten(1) if inputs.ndim > 1 else inputs[:, None])


def _numbers(tensor: Tensor) -> Array:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()


def _described(value: Any) -> Any:
    """An estimator by its class and parameters, nested ones too: a clone has nothing else."""
    if hasattr(value, "get_params") and not isinstance(value, type):
        params = {name: _described(part) for name, part in value.get_params(deep=False).items()}
        return {"class": type(value), "params": params}
    if isinstance(value, Mapping):
        return {str(name): _described(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_described(part) for part in value]
    return value
