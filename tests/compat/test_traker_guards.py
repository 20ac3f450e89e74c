"""What the class refuses, and that nothing is lost; what a kill leaves, and that a rerun goes on from there."""

# ruff: noqa: ARG002, ARG005  (what the original hands to an output is not always needed)

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from traker_reference import NETS, TARGETS, TRAIN, M, N, asked, featurised, reference, scored

from dataloupe import BadInput, CapabilityError, StoreError
from dataloupe.compat import AbstractModelOutput, NoOpProjector, TRAKer
from dataloupe.compat import _features as features
from dataloupe.store import LocalStore

pytestmark = pytest.mark.usefixtures("unchecked")


def make(folder: Path, **settings) -> TRAKer:
    given = {"projector": NoOpProjector(), "lambda_reg": 0.01, "use_half_precision": False, **settings}
    given = {"task": "image_classification", "train_set_size": N, **given}
    return TRAKer(NETS[0], save_dir=folder / "trak", **given)


def refused(code: str, kind: type[Exception] = BadInput):
    return pytest.raises(kind, match=rf"\[{code}\]")


def everything(folder: Path) -> dict[str, str]:
    return LocalStore(folder / "trak").digest()


def begun(folder: Path, **settings) -> TRAKer:
    traker = make(folder, **settings)
    featurised(traker, NETS[0], 0)
    return traker


def counted(monkeypatch) -> list[int]:
    """The sizes of the batches whose gradients are computed from here on."""
    sizes, of = [], features.Featuriser.of

    def noted(self, batch):
        sizes.append(len(batch[1]))
        return of(self, batch)

    monkeypatch.setattr(features.Featuriser, "of", noted)
    return sizes


# --- resume ------------------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_traker_guards import NETS, TRAIN, make
traker = make(Path(sys.argv[1]))
traker.load_checkpoint(NETS[0].state_dict(), model_id=0)
add = traker._shelf.add
def third(ids, arrays, facts):
    if ids[0] == 80:
        os.kill(os.getpid(), signal.SIGKILL)
    add(ids, arrays, facts)
traker._shelf.add = third
for x, y in zip(*(part.split(40) for part in TRAIN)):
    traker.featurize([x, y], num_samples=len(x))
"""


def test_a_killed_script_loses_one_batch_and_the_rerun_ends_alike(tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    words = [sys.executable, str(script), str(tmp_path / "killed"), str(Path(__file__).parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = make(tmp_path / "whole")
    featurised(whole, NETS[0], 0, batch=40)
    sizes = counted(monkeypatch)
    again = make(tmp_path / "killed")
    featurised(again, NETS[0], 0, batch=40)
    assert sizes == [40], "two of three batches were there"
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


def test_a_partly_done_batch_is_completed(tmp_path: Path, monkeypatch) -> None:
    traker = make(tmp_path)
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    traker.featurize((TRAIN[0][:7], TRAIN[1][:7]), num_samples=7)
    traker.featurize((TRAIN[0][20:23], TRAIN[1][20:23]), inds=np.array([20, 21, 22]))
    sizes = counted(monkeypatch)
    again = make(tmp_path)
    featurised(again, NETS[0], 0, batch=15)
    assert sizes == [8, 12, 15, 15, 15, 15, 15, 15]
    featurised(again, NETS[0], 0, batch=15)
    assert len(sizes) == 8, "finished rows are skipped"
    again.finalize_features()
    asked(again, NETS[0], 0)
    assert np.allclose(again.finalize_scores("test"), reference(NETS[:1], 0.01), rtol=1e-4, atol=1e-6)


def test_models_and_experiments_are_added_later(tmp_path: Path, monkeypatch) -> None:
    scored(make(tmp_path), NETS[:1])
    sizes = counted(monkeypatch)
    found = scored(make(tmp_path, load_from_save_dir=False), NETS)
    assert sum(sizes) == N + M, "the first model was there"
    assert np.allclose(found, reference(NETS, 0.01), rtol=1e-4, atol=1e-6)
    first = make(tmp_path).finalize_scores("test", model_ids=[0])
    assert np.allclose(first, reference(NETS[:1], 0.01), rtol=1e-4, atol=1e-6)


def test_another_lambda_makes_other_scores_from_the_same_features(tmp_path: Path, monkeypatch) -> None:
    scored(make(tmp_path))
    sizes = counted(monkeypatch)
    found = make(tmp_path, lambda_reg=0.1).finalize_scores("test")
    assert np.allclose(found, reference(NETS, 0.1), rtol=1e-4, atol=1e-6)
    assert sizes == []


def test_two_workers_on_overlapping_rows(tmp_path: Path) -> None:
    """Rows that are there twice count once."""
    one, two = make(tmp_path), make(tmp_path)
    for traker in (one, two):
        traker.load_checkpoint(NETS[0].state_dict(), 0)
    for traker, rows in ((one, slice(0, 70)), (two, slice(50, N))):
        traker.featurize((TRAIN[0][rows], TRAIN[1][rows]), inds=np.arange(N)[rows])
    again = make(tmp_path)
    again.finalize_features()
    asked(again, NETS[0], 0)
    assert np.allclose(again.finalize_scores("test"), reference(NETS[:1], 0.01), rtol=1e-4, atol=1e-6)


# --- what was made otherwise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"projector": None, "proj_dim": 7},
        {"projector": None, "projector_seed": 7},
        {"grad_wrt": ["0.bias"]},
        {"use_half_precision": True},
        {"train_set_size": N + 1},
        {"task": __import__("dataloupe").outputs.loss},
    ],
    ids=lambda other: "+".join(other),
)
def test_other_settings_are_refused_and_nothing_is_lost(tmp_path: Path, other) -> None:
    begun(tmp_path)
    before = everything(tmp_path)
    for again in (True, False):
        with refused("dl-962", StoreError):
            make(tmp_path, load_from_save_dir=again, **other)
    assert everything(tmp_path) == before
    make(tmp_path).finalize_features()


def test_another_checkpoint_under_a_known_id(tmp_path: Path) -> None:
    traker = begun(tmp_path)
    before = everything(tmp_path)
    with refused("dl-963", StoreError):
        traker.load_checkpoint(NETS[1].state_dict(), 0)
    traker.finalize_features()
    with refused("dl-963", StoreError):
        traker.start_scoring_checkpoint("test", NETS[1].state_dict(), 0, M)
    with refused("dl-964"):
        traker.start_scoring_checkpoint("test", NETS[1].state_dict(), 1, M)
    assert before.items() <= everything(tmp_path).items()


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    state = NETS[0].state_dict()
    with refused("dl-861"):
        make(tmp_path).load_checkpoint({**state, "3.weight": torch.zeros(2)}, 0)
    with refused("dl-863"):
        make(tmp_path).load_checkpoint({**state, "0.bias": torch.full_like(state["0.bias"], torch.nan)}, 0)


def test_a_loader_that_shuffles(tmp_path: Path) -> None:
    """The original mixes up its rows without a word."""
    begun(tmp_path)
    before = everything(tmp_path)
    traker = make(tmp_path)
    traker.load_checkpoint(NETS[1].state_dict(), 1)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    with refused("dl-969"):
        traker.featurize((TRAIN[0][order], TRAIN[1][order]), num_samples=N)
    with refused("dl-969"):
        traker.featurize((TRAIN[0], (TRAIN[1] + 1) % 3), num_samples=N)
    assert before.items() <= everything(tmp_path).items()
    loose = make(tmp_path, check_rows=False)
    loose.load_checkpoint(NETS[1].state_dict(), 1)
    loose.featurize((TRAIN[0][order], TRAIN[1][order]), num_samples=N)


def test_a_refused_batch_may_come_back_mended(tmp_path: Path) -> None:
    traker = make(tmp_path)
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    with refused("dl-105"):
        traker.featurize((TRAIN[0] * torch.nan, TRAIN[1]), num_samples=N)
    traker.featurize(TRAIN, num_samples=N)
    traker.finalize_features()


def test_other_targets_under_a_known_name(tmp_path: Path) -> None:
    traker = begun(tmp_path)
    traker.finalize_features()
    asked(traker, NETS[0], 0)
    before = everything(tmp_path)
    with refused("dl-970"):
        traker.start_scoring_checkpoint("test", NETS[0].state_dict(), 0, M + 1)
    with refused("dl-969"):
        traker.start_scoring_checkpoint("test", NETS[0].state_dict(), 0, M)
        traker.score((TARGETS[0].flip(0), TARGETS[1].flip(0)), num_samples=M)
    assert everything(tmp_path) == before
    assert traker.finalize_scores("test").shape == (N, M)


def test_a_folder_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "trak").mkdir()
    (tmp_path / "trak" / "metadata.json").write_text("{}")
    with refused("dl-609", StoreError):
        make(tmp_path)


# --- what is not there -------------------------------------------------------------------------------------


def test_rows_that_are_missing(tmp_path: Path) -> None:
    traker = make(tmp_path)
    with refused("dl-966"):
        traker.finalize_features()
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    traker.featurize((TRAIN[0][:50], TRAIN[1][:50]), num_samples=50)
    with pytest.raises(BadInput, match="70 of 120 rows missing, first 50, 51, 52, 53"):
        traker.finalize_features()
    with refused("dl-966"):
        traker.finalize_features(model_ids=[5])


def test_targets_that_are_missing_are_no_zeros(tmp_path: Path) -> None:
    traker = make(tmp_path)
    with refused("dl-970"):
        traker.finalize_scores("test")
    for k, net in enumerate(NETS):
        featurised(traker, net, k)
    traker.start_scoring_checkpoint("test", NETS[0].state_dict(), 0, M)
    traker.score((TARGETS[0][:4], TARGETS[1][:4]), num_samples=4)
    with refused("dl-966"):
        traker.finalize_scores("test")
    traker.score((TARGETS[0][4:], TARGETS[1][4:]), num_samples=M - 4)
    with refused("dl-964"):
        traker.finalize_scores("test", model_ids=[0])
    traker.finalize_features()
    with pytest.raises(BadInput, match="scores at model 1"):
        traker.finalize_scores("test")
    found = traker.finalize_scores("test", allow_skip=True)
    assert np.allclose(found, reference(NETS[:1], 0.01), rtol=1e-4, atol=1e-6)
    with refused("dl-964"):
        traker.finalize_scores("test", model_ids=[1], allow_skip=True)


def test_calls_before_their_time(tmp_path: Path) -> None:
    traker = make(tmp_path)
    with refused("dl-964"):
        traker.featurize(TRAIN, num_samples=N)
    with refused("dl-964"):
        traker.score(TARGETS, num_samples=M)
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    for both in ({}, {"inds": np.arange(N), "num_samples": N}):
        with refused("dl-964"):
            traker.featurize(TRAIN, **both)


@pytest.mark.parametrize(
    "given",
    [
        {"num_samples": N - 1},
        {"inds": np.arange(1, N + 1)},
        {"inds": np.zeros(N, int)},
        {"inds": np.arange(N) * 0.5},
    ],
    ids=["too few", "too high", "twice", "halves"],
)
def test_rows_that_cannot_be_meant(tmp_path: Path, given) -> None:
    traker = make(tmp_path)
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    with refused("dl-965"):
        traker.featurize(TRAIN, **given)
    with refused("dl-965"):
        traker.featurize((TRAIN[0], TRAIN[1][:5]), num_samples=N)
    traker.featurize(TRAIN, num_samples=N)
    with refused("dl-965"):
        traker.featurize(TRAIN, num_samples=N)


def test_a_file_that_goes_while_it_is_read(tmp_path: Path, monkeypatch) -> None:
    traker = begun(tmp_path)
    monkeypatch.setattr(traker.store, "read", lambda *_: None)
    with refused("dl-974", StoreError):
        traker.finalize_features()


# --- what has no counterpart, or no meaning ----------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"task": "clip"},
        {"task": "imaging"},
        {"gradient_computer": object},
        {"saver": object},
        {"projector": object},
    ],
    ids=str,
)
def test_what_has_no_counterpart(tmp_path: Path, given) -> None:
    with refused("dl-961", CapabilityError):
        make(tmp_path, **given)


def test_batches_of_another_task(tmp_path: Path) -> None:
    traker = make(tmp_path, task="text_classification")
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    with refused("dl-961", CapabilityError):
        traker.featurize(TRAIN, num_samples=N)


@pytest.mark.parametrize(
    "given", [{"proj_dim": 0, "projector": None}, {"lambda_reg": -1.0}, {"train_set_size": 0}], ids=str
)
def test_settings_outside_their_range(tmp_path: Path, given) -> None:
    with refused("dl-973"):
        make(tmp_path, **given)


@pytest.mark.parametrize("names", [["0.wait"], []])
def test_parameters_that_there_are_not(tmp_path: Path, names) -> None:
    with refused("dl-972"):
        make(tmp_path, grad_wrt=names)


def test_another_device(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("dl-960"):
        make(tmp_path, device="cuda")
    traker = make(tmp_path, device="cpu")
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    with refused("dl-960"):
        traker.featurize((TRAIN[0].to("meta"), TRAIN[1]), num_samples=N)


def test_a_singular_gram_without_a_ridge(tmp_path: Path) -> None:
    """A margin does not move when all logits do, so all parameters together never span all directions."""
    for settings in ({}, {"projector": None, "proj_dim": 200}):
        traker = begun(tmp_path / str(len(settings)), lambda_reg=0.0, **settings)
        with refused("dl-967"):
            traker.finalize_features()


class Own(AbstractModelOutput):
    def __init__(self, output, weight=lambda batch: torch.ones(len(batch[0]))) -> None:
        self.output, self.weight = output, weight

    def get_output(self, model, weights, buffers, x, y):
        return self.output(torch.func.functional_call(model, (weights, buffers), x[None])[0], y)

    def get_out_to_loss_grad(self, model, weights, buffers, batch):
        return self.weight(batch)


@pytest.mark.parametrize(
    ("code", "kind", "task"),
    [
        ("dl-968", BadInput, Own(lambda z, y: (z[0] - z[0].detach()).sqrt())),
        ("dl-968", BadInput, Own(lambda z, y: z.detach().sum())),
        ("dl-971", CapabilityError, Own(lambda z, y: z[0] if float(y) else z[1])),
        ("dl-971", CapabilityError, Own(lambda z, y: z[0], lambda batch: torch.ones(3))),
    ],
    ids=["infinite", "no gradient", "a branch on data", "weights of another shape"],
)
def test_outputs_of_ones_own_that_go_wrong(tmp_path: Path, code: str, kind, task) -> None:
    traker = make(tmp_path, task=task)
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    with refused(code, kind):
        traker.featurize(TRAIN, num_samples=N)
    assert not traker._shelf.there.any()
