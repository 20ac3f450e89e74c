"""The contract suite for runners: inherit, give a runner, and let pytest run the rest.

::

    class TestMyRunner(RunnerContract):
        def make(self):
            return MyRunner(workers=2)
"""

import abc
from typing import Any

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe.core import Runner, check_ids
from dataloupe.testing._contracts import must


class RunnerContract(abc.ABC):
    """What every runner keeps to: each job once, its own result, errors as they are."""

    @abc.abstractmethod
    def make(self) -> Any:
        """A runner."""

    def test_is_a_runner(self) -> None:
        """It has what the protocol has."""
        runner = self.make()
        must(isinstance(runner, Runner), "a runner satisfies dataloupe.core.Runner")
        must(runner.workers >= 1, "at least one job runs at once")

    def test_every_job_is_done_once(self) -> None:
        """Results carry the number of their job, whatever the order; context and arrays come through whole."""
        context = {"weights": torch.arange(6.0).reshape(2, 3), "shift": np.float32(0.5)}
        jobs = [np.full(3, i, dtype=np.float32) for i in range(7)]
        found = list(self.make().map(shifted_product, context, jobs))
        must(sorted(number for number, _ in found) == list(range(7)), "every job ends exactly once")
        for number, result in found:
            right = shifted_product(context, jobs[number])
            must(result.dtype == right.dtype and np.array_equal(result, right), "a job has its own result")

    def test_no_jobs_no_results(self) -> None:
        """Nothing asked, nothing done."""
        must(list(self.make().map(shifted_product, {}, [])) == [], "no jobs give no results")

    def test_errors_come_out_as_they_are(self) -> None:
        """A job's own exception, code and words; an error of the library is that error."""
        kinds: list[tuple[type[Exception], str]] = [(BadInput, "dl-108"), (ZeroDivisionError, "division")]
        for job, (kind, words) in enumerate(kinds):
            try:
                list(self.make().map(fail, "context", [job]))
            except kind as error:
                must(words in str(error), f"the message of the {kind.__name__} comes through")
            else:
                must(False, f"a {kind.__name__} comes through")


def shifted_product(context: dict[str, Any], job: np.ndarray) -> np.ndarray:
    """A small honest job: ``weights @ job + shift``."""
    return context["weights"].numpy() @ job + context["shift"]


def fail(context: str, job: int) -> float:
    """Job 0 raises an error of the library, job 1 one of Python's."""
    if job == 0:
        check_ids([], 3, context)
    return 1 / 0
