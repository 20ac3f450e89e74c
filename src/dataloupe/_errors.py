"""Every error of the house: what was asked, what was found, what to do.

::

    DataloupeError
    ├── BadInput          (ValueError)  data, indices or settings that cannot be meant
    ├── CapabilityError   (TypeError)   this learner, output or attribution cannot do that
    ├── UnitsError        (ValueError)  a number without units where the output's units are needed
    ├── StoreError        (OSError)     the folder: unknown layout, damaged unit, other settings, disk full
    └── TrainingError     (RuntimeError) a training that could not be done at all

Each carries a code with a section in ``docs/errors/``; a test holds the two lists against each other.
"""


class DataloupeError(Exception):
    """What was asked, what was found, what to do.

    >>> raise BadInput("dl-109", asked="target 900", found="360 targets", do="name a target below 360")
    Traceback (most recent call last):
    dataloupe._errors.BadInput: [dl-109] asked: target 900; found: 360 targets; do: name a target below 360
    """

    def __init__(self, code: str, *, asked: str, found: str, do: str) -> None:
        self.code, self.asked, self.found, self.do = code, asked, found, do
        super().__init__(f"[{code}] asked: {asked}; found: {found}; do: {do}")

    def __reduce__(self) -> tuple:
        """Cross process borders whole."""
        return _rebuild, (type(self), self.code, self.asked, self.found, self.do)


class BadInput(DataloupeError, ValueError):  # noqa: N818  (reads as a sentence where it is raised)
    """Data, indices or settings that cannot be meant."""


class CapabilityError(DataloupeError, TypeError):
    """This learner, output or attribution cannot do what was asked."""


class UnitsError(DataloupeError, ValueError):
    """A relative number where the output's own units are needed."""


class StoreError(DataloupeError, OSError):
    """The folder: unknown layout, damaged unit, other settings, full disk."""

    def __str__(self) -> str:
        return str(self.args[0])


class TrainingError(DataloupeError, RuntimeError):
    """A training that could not be done at all."""


def _rebuild(cls: type[DataloupeError], code: str, asked: str, found: str, do: str) -> DataloupeError:
    return cls(code, asked=asked, found=found, do=do)
