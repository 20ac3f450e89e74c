"""One training as every lab does it: seeded, isolated, its errors named."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput, DataloupeError, TrainingError
from dataloupe.core._examples import Examples
from dataloupe.core._isolation import SHORT_SEED, isolated
from dataloupe.core._learner import Learner
from dataloupe.core._model import Model

_ADVICE = {
    "same dtype|expected scalar type|should be the same|not implemented for 'Long'": "give the inputs the "
    "type of the module's numbers, such as Examples(inputs.float(), ...), or cast in forward",
    "shapes cannot be multiplied|size mismatch|Expected .* input|input.size": "make the first layer take rows of this shape, "
    "or reshape the inputs",
    "same device|Expected all tensors|meta tensor": "make the module on the CPU: training stays there",
}


def learner_seed(learner: Any, seed: int) -> int:
    """The seed that a learner is given: below 2^31 (NumPy takes no larger one), but for those with ``wide_seeds``.

    >>> learner_seed(object(), 2**40 + 5), learner_seed(type("Keyed", (), {"wide_seeds": True}), 2**40 + 5)
    (5, 1099511627781)
    """
    return seed if getattr(learner, "wide_seeds", False) else seed % SHORT_SEED


def name_of(learner: Any) -> str:
    """A learner in an error message: its own ``name``, or its class."""
    name = getattr(learner, "name", None)
    return name if isinstance(name, str) else type(learner).__name__


def trained(
    learner: Learner, data: Examples, weights: Float[Tensor, " n"], *, seed: int, where: str = ""
) -> Model:
    """``learner.train`` under generators keyed by the seed; ``where`` tells an error which training it was.

    Errors of ours that the learner raises say it, too. Raises ``TrainingError`` dl-262 from whatever users' code raises, ``BadInput`` dl-264 where no model comes out.
    """
    short = learner_seed(learner, seed)
    said = f"{where} (seed {short})"
    with (
        isolated(short % SHORT_SEED),
        training_errors(name_of(learner) + said),
        _errors_say(said if where else ""),
    ):
        model = learner.train(data, weights, seed=short)
    if not callable(getattr(model, "predict", None)):
        raise BadInput(
            "dl-264",
            asked=f"the model that {name_of(learner)}.train gives",
            found=f"a {type(model).__name__}, which cannot predict",
            do="return an object with predict(inputs), such as dataloupe.TorchModel(module, params)",
        )
    return model


@contextmanager
def _errors_say(where: str) -> Iterator[None]:
    """Within it, an error of ours says which training it was; its code stays."""
    try:
        yield
    except DataloupeError as error:
        if not where:
            raise
        asked = f"{error.asked}{where}"
        told = type(error)(error.code, asked=asked, found=error.found, do=error.do)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        raise told from error


@contextmanager
def training_errors(what: str) -> Iterator[None]:
    """Within it, an error of users' code becomes a ``TrainingError`` (dl-262) that names the training.

    >>> with training_errors("SGD of Net on subset 3"):
    ...     1 / 0
    Traceback (most recent call last):
    dataloupe._errors.TrainingError: [dl-262] asked: SGD of Net on subset 3; found: ZeroDivisionError: division by zero; do: run it by itself to see where: the error's cause is kept
    """
    try:
        yield
    except (DataloupeError, MemoryError):
        raise
    except Exception as error:  # users' code may raise anything
        text = str(error).strip()
        first = text.splitlines()[0] if text else ""
        advice = [say for pattern, say in _ADVICE.items() if re.search(pattern, text)]
        raise TrainingError(
            "dl-262",
            asked=what,
            found=f"{type(error).__name__}: {first}".rstrip(": "),
            do=advice[0] if advice else "run it by itself to see where: the error's cause is kept",
        ) from error
