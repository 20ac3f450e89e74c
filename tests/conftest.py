"""What all tests share: one thread each (pytest -n runs them side by side), and reproducible examples."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import jaxtyping
import matplotlib
import pytest
import torch

torch.set_num_threads(1)
matplotlib.use("Agg")
hypothesis.settings.register_profile(
    "house",
    deadline=None,  # two cores, shared: a slow moment is no defect
    derandomize=True,  # a red test is red for everybody
    max_examples=50,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True)
def question_files_of_one_test():
    """A question file that a test loads, and then changes, is not sent to the workers of the next test."""
    from dataloupe.run import _modules  # imported late: what conftest imports is not checked at run time

    before = dict(_modules._LOADED)
    yield
    _modules._LOADED.clear()
    _modules._LOADED.update(before)


@pytest.fixture
def unchecked():
    """As users call: without the run-time check of shapes and types, so that our own errors are met."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def no_probe(monkeypatch):
    """The back end is settled: timing it takes longer than these trainings."""
    from dataloupe.engine import Backend, Choice

    settled = Choice(Backend("loop", unit=8), seconds=1e-3, measured={})
    monkeypatch.setattr("dataloupe.lab._lab.choose", lambda *_: settled)


@pytest.fixture
def run(capsys):
    """The command line, in this process: (exit code, stdout, stderr)."""
    from dataloupe.cli import main

    def words(*given):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in given])
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return words
