"""Features that a lab keeps: the same as in memory, resumed at any instant, and reused where rows stay."""

import dataclasses

import numpy as np
import pytest
import torch
from _faults import Death, FaultyOS
from lab_job import make_model, points, question

from dataloupe import outputs
from dataloupe._errors import StoreError
from dataloupe.core import MemoryLab, Question, Subsets
from dataloupe.engine import Featuriser
from dataloupe.lab import Lab
from dataloupe.lab import _features as kept
from dataloupe.learners import Checkpoints
from dataloupe.methods import TRAK
from dataloupe.solve import Beside, ByLayer, Exact, FactoredSketch
from dataloupe.store import _local as local_store
from dataloupe.store import open_store

SKETCH = FactoredSketch(8)
ALL = Subsets.full(60)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(kept, "CHUNK", 16)


@pytest.fixture
def made(monkeypatch):
    """The rows that features are made of, as they are made."""
    seen = []
    rows = Featuriser.rows

    def noted(self, some):
        seen.append((some.start, len(self.ready.pairs)))
        return rows(self, some)

    monkeypatch.setattr(Featuriser, "rows", noted)
    return seen


def states(count):
    generator = torch.Generator().manual_seed(0)
    shapes = {name: p.shape for name, p in make_model().named_parameters()}
    return [{name: torch.randn(s, generator=generator) for name, s in shapes.items()} for _ in range(count)]


def asked(models=1, n=60, targets=7):
    """A question to finished checkpoints, so that nothing is trained."""
    learner = Checkpoints(make_model, states(models))
    train = points(90, 0)[:n]
    return Question(learner, train, points(20, 1)[:targets], outputs.margin)


def quiet(where):
    return Lab(where, progress=False)


@pytest.mark.parametrize(
    "sketch", [Exact(), SKETCH, Beside((SKETCH, FactoredSketch(5, 1))), ByLayer(4)], ids=str
)
def test_chunks_from_disk_are_what_is_in_memory(tmp_path, sketch):
    plain = MemoryLab().features(asked(), ALL, 0, sketch)
    first = quiet(tmp_path).features(asked(), ALL, 0, sketch)
    again = quiet(tmp_path).features(asked(), ALL, 0, sketch)
    assert first.train.sizes == (16, 16, 16, 12)
    for ours, theirs in zip(first.whole, plain.whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(first.whole, again.whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ids = [59, 3, 3, 16]
    np.testing.assert_array_equal(first.train.rows(ids), first.train.whole()[ids])
    assert first.facts == again.facts and first.finite and first.facts["zero_rows"] == 0


@pytest.mark.usefixtures("unchecked")
def test_killed_at_any_file_operation_no_more_than_a_chunk_is_lost(tmp_path, monkeypatch, made):
    counting = FaultyOS(None, Death, forever=True)
    with monkeypatch.context() as patch:
        patch.setattr(local_store, "os", counting)
        quiet(tmp_path / "right").features(asked(), ALL, 0, SKETCH)
    right, whole = open_store(tmp_path / "right").digest(), len(made)
    assert whole == 5
    for j in range(0, len(counting.calls), 5):
        root, before = tmp_path / str(j), len(made)
        with monkeypatch.context() as patch:
            patch.setattr(local_store, "os", FaultyOS(j, Death, forever=True))
            with pytest.raises(Death):
                quiet(root).features(asked(), ALL, 0, SKETCH)
        quiet(root).features(asked(), ALL, 0, SKETCH)
        assert open_store(root).digest() == right
        assert len(made) - before <= whole + 1


def test_rows_at_the_end_other_targets_and_more_checkpoints_cost_only_themselves(tmp_path, made):
    lab = quiet(tmp_path)
    lab.features(asked(), ALL, 0, SKETCH)
    made.clear()
    lab.features(asked(n=85), Subsets.full(85), 0, SKETCH)
    assert made == [(48, 85), (64, 85), (80, 85)]
    made.clear()
    lab.features(asked(targets=20), ALL, 0, SKETCH)
    assert made == [(0, 20), (16, 20)]
    made.clear()
    lab.features(asked(models=2), ALL, 0, SKETCH)
    assert made == []
    lab.features(asked(models=2), ALL, 1, SKETCH)
    assert len(made) == 5
    made.clear()
    longer = lab.features(asked(n=85), Subsets.full(85), 0, SKETCH)
    fresh = MemoryLab().features(asked(n=85), Subsets.full(85), 0, SKETCH)
    np.testing.assert_allclose(longer.train.whole(), fresh.train.whole(), rtol=1e-4, atol=1e-5)
    assert made == []


def test_edited_rows_are_other_rows(tmp_path, made):
    lab, before = quiet(tmp_path), asked()
    lab.features(before, ALL, 0, SKETCH)
    made.clear()
    edited = before.with_train(before.train.with_labels([20], [(before.train.labels[20].item() + 1) % 3]))
    lab.features(edited, ALL, 0, SKETCH)
    assert made == [(16, 60)]


def test_trak_reuses_features_whatever_its_ridge_and_options(tmp_path, made):
    lab, asks = quiet(tmp_path), asked(models=2)
    first = TRAK(models=2, dim=8).attribute(asks, lab)
    made.clear()
    for other in (
        TRAK(models=2, dim=8, ridge=3.0),
        TRAK(models=2, dim=8, leverage=True),
        TRAK(models=1, dim=8),
    ):
        assert not np.array_equal(other.attribute(asks, lab).scores, first.scores)
    assert made == []
    remembered = TRAK(models=2, dim=8).attribute(asks, lab)
    np.testing.assert_array_equal(remembered.scores, first.scores)
    np.testing.assert_array_equal(remembered.parts()[1].scores, first.parts()[1].scores)
    np.testing.assert_array_equal(
        remembered.effect([[1, 2]], kind="group"), first.effect([[1, 2]], kind="group")
    )


def test_several_sketches_keep_inner_products_as_one_does(tmp_path):
    """All parameters fit: three sketches of everything are three times the same, and none is refused."""
    asks = asked(models=2)
    one, three = (TRAK(models=2, sketches=b).attribute(asks, quiet(tmp_path)) for b in (1, 3))
    np.testing.assert_allclose(three.scores, one.scores, rtol=1e-3, atol=1e-6)
    assert three.info.certificate["sketch_error"] < 1e-5
    found = quiet(tmp_path).features(asks, ALL, 0, Beside((FactoredSketch(60), FactoredSketch(60, 1)))).train
    exact = quiet(tmp_path).features(asks, ALL, 0, Exact()).train.whole()
    np.testing.assert_allclose(found.whole() @ found.whole().T, exact @ exact.T, rtol=1e-3, atol=1e-4)


def test_features_made_elsewhere_are_not_mixed(tmp_path, monkeypatch):
    lab = quiet(tmp_path)
    lab.features(asked(), ALL, 0, SKETCH)
    there = {"torch": "1.0", "device": "cpu", "processor": "other"}
    monkeypatch.setattr(kept, "environment", lambda: there)
    lab.features(asked(), ALL, 0, SKETCH)  # nothing to add
    with pytest.raises(StoreError, match=r"dl-225.*features made elsewhere"):
        lab.features(asked(n=85), Subsets.full(85), 0, SKETCH)


def test_a_removed_unit_is_told(tmp_path):
    found = quiet(tmp_path).features(asked(), ALL, 0, SKETCH)
    for file in tmp_path.glob("features-*/units/*.safetensors"):
        file.unlink()
    with pytest.raises(StoreError, match="dl-229"):
        found.train.whole()


def test_models_that_the_lab_trained_are_found_by_their_training(tmp_path, made):
    lab, subsets = quiet(tmp_path), Subsets(n=60, count=2)
    lab.features(question(), subsets, 0, SKETCH)
    made.clear()
    lab.features(question(), dataclasses.replace(subsets, count=5), 0, SKETCH)
    assert made == []
    lab.features(question(epochs=1), subsets, 0, SKETCH)
    assert len(made) == 5
