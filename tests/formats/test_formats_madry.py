"""Stores, released pairs and weights of the original datamodels, on small files in their layout."""

import json

import madry_files
import numpy as np
import pytest
import torch

from dataloupe import formats
from dataloupe._errors import BadInput
from dataloupe.core import Outcomes, Subsets
from dataloupe.formats import _arrays, read_outcomes, read_store, read_weights

K, N, M = 60, 11, 4


@pytest.fixture
def truth():
    """Masks [60, 11], float16 margins [60, 4] linear in them with a little noise, and the weights."""
    rng = np.random.default_rng(3)
    masks = Subsets(n=N, count=K, seed=5, kind="bernoulli").masks()
    weights = rng.standard_normal((N, M))
    noise = 0.1 * rng.standard_normal((K, M))
    return masks, (masks @ weights + 2.0 + noise).astype(np.float16), weights


def code_of(call, *words, **more):
    with pytest.raises(BadInput) as caught:
        call(*words, **more)
    return caught.value.code


# --- stores ------------------------------------------------------------------------------------------------


def test_a_store_is_read_as_it_was_written(tmp_path, truth):
    masks, margins, _ = truth
    done = np.arange(K) % 3 != 1
    found = read_store(madry_files.store(tmp_path, masks, margins, done))
    np.testing.assert_array_equal(found.subsets.masks(), masks[done])
    np.testing.assert_array_equal(found.values[:, 0], margins[done].astype(np.float32))
    assert found.facts == {"imported": str(tmp_path), "models": K, "completed": int(done.sum())}
    assert found.diverged == 0
    assert found.removal == "repack"
    assert found.subsets.fraction == pytest.approx(masks[done].mean())


def test_a_store_says_what_from_arrays_says(tmp_path, truth):
    masks, margins, _ = truth
    margins = margins.copy()
    margins[7, 2], margins[9, 0] = np.nan, np.inf
    found = read_store(madry_files.store(tmp_path, masks, margins))
    same = Outcomes.from_arrays(masks, margins)
    np.testing.assert_array_equal(found.values, same.values)
    np.testing.assert_array_equal(found.status, same.status)
    np.testing.assert_array_equal(found.subsets.bits, same.subsets.bits)
    assert found.diverged == 2


@pytest.mark.parametrize("block", [1, 25, 10_000])
def test_blocks_change_nothing(tmp_path, truth, monkeypatch, block):
    masks, margins, _ = truth
    monkeypatch.setattr(_arrays, "BLOCK", block)
    found = read_store(madry_files.store(tmp_path, masks, margins), rows=slice(5, 50), targets=[3, 1])
    np.testing.assert_array_equal(found.subsets.masks(), masks[5:50])
    np.testing.assert_array_equal(found.values[:, 0], margins[5:50][:, [3, 1]].astype(np.float32))


def test_other_keys_and_types(tmp_path, truth):
    masks, margins, _ = truth
    right = margins > 2
    right[0] = False  # a model that is wrong everywhere is no damage
    folder = madry_files.store(
        tmp_path, masks, margins, kept=masks.astype(np.uint8), right=right, loss=margins[:, 0]
    )
    found = read_store(folder, masks="kept", margins="right")
    np.testing.assert_array_equal(found.subsets.masks(), masks)
    np.testing.assert_array_equal(found.values[:, 0], right)
    assert read_store(folder, margins="loss").m == 1


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda f: (f / "spec.json").unlink(), "dl-870"),
        (lambda f: (f / "margins.npy").unlink(), "dl-870"),
        (lambda f: (f / "_completed.npy").unlink(), "dl-870"),
        (lambda f: (f / "spec.json").write_text("{"), "dl-871"),
        (lambda f: (f / "spec.json").write_text('{"num_models": 60}'), "dl-871"),
        (lambda f: (f / "masks.npy").write_bytes((f / "masks.npy").read_bytes()[:-40]), "dl-871"),
        (lambda f: (f / "masks.npy").write_bytes(b"no array"), "dl-871"),
        (lambda f: (f / "masks.npy").write_bytes(b""), "dl-871"),
        (lambda f: np.save(f / "margins.npy", np.array([None]), allow_pickle=True), "dl-871"),
        (lambda f: np.save(f / "margins.npy", np.ones((K - 1, M), np.float16)), "dl-872"),
        (lambda f: np.save(f / "margins.npy", np.ones((K, M), np.float64)), "dl-872"),
        (lambda f: np.save(f / "_completed.npy", np.zeros(K, bool)), "dl-873"),
        (lambda f: np.save(f / "masks.npy", np.eye(K, N, dtype=bool)), "dl-874"),
        (lambda f: np.save(f / "margins.npy", np.eye(K, M, dtype=np.float16)), "dl-874"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path, truth, harm, code):
    folder = madry_files.store(tmp_path, truth[0], truth[1])
    read_store(folder)
    harm(folder)
    assert code_of(read_store, folder) == code


def test_a_key_that_the_spec_does_not_have_is_named(tmp_path, truth):
    folder = madry_files.store(tmp_path, truth[0], truth[1])
    with pytest.raises(BadInput, match="masks, margins.*name one") as caught:
        read_store(folder, margins="test_margins")
    assert caught.value.code == "dl-870"


def test_an_unknown_type_in_the_spec(tmp_path, truth):
    folder = madry_files.store(tmp_path, truth[0], truth[1])
    spec = json.loads((folder / "spec.json").read_text())
    spec["schema"]["margins"]["dtype"] = "load"
    (folder / "spec.json").write_text(json.dumps(spec))
    assert code_of(read_store, folder) == "dl-871"


# --- released pairs ----------------------------------------------------------------------------------------


def test_a_released_pair(tmp_path, truth):
    masks, margins, _ = truth
    paths = tmp_path / "train_masks_50pct.npy", tmp_path / "test_margins_50pct.npy"
    for path, array in zip(paths, (masks, margins), strict=True):
        np.save(path, array)
    held_out = read_outcomes(*paths, rows=slice(-10, None), targets=slice(1, 3))
    np.testing.assert_array_equal(held_out.subsets.masks(), masks[-10:])
    np.testing.assert_array_equal(held_out.values[:, 0], margins[-10:, 1:3].astype(np.float32))
    assert code_of(read_outcomes, *paths, rows=slice(K, None)) == "dl-873"
    assert code_of(read_outcomes, *paths, targets=slice(M, None)) == "dl-873"
    assert code_of(read_outcomes, *paths, targets=[M]) == "dl-109"
    assert code_of(read_outcomes, paths[0], tmp_path / "none.npy") == "dl-870"


@pytest.mark.parametrize(
    ("masks", "margins", "code"),
    [
        (np.ones((5, 3), bool), np.ones((4, 2)), "dl-872"),
        (np.ones((5, 3), np.float32), np.ones((5, 2)), "dl-872"),
        (np.ones(5, bool), np.ones((5, 2)), "dl-872"),
        (np.ones((5, 0), bool), np.ones((5, 2)), "dl-872"),
        (np.ones((5, 3), bool), np.ones((5, 0)), "dl-873"),
        (np.full((5, 3), 2, np.uint8), np.ones((5, 2)), "dl-872"),
        (np.full((5, 3), 7, np.uint8).view(bool), np.ones((5, 2)), "dl-872"),
        (np.ones((5, 3), bool), np.ones((5, 2, 10)), "dl-872"),
        (np.ones((5, 3), bool), np.full((5, 2), "a"), "dl-872"),
        (np.array(True), np.array(1.0), "dl-873"),
        (np.ones((5, 3), bool), np.zeros((5, 2)), "dl-874"),
        (np.zeros((5, 3), bool), np.ones((5, 2)), "dl-874"),
    ],
)
def test_arrays_that_cannot_be_meant(tmp_path, masks, margins, code):
    np.save(tmp_path / "masks.npy", masks)
    np.save(tmp_path / "margins.npy", margins)
    assert code_of(read_outcomes, tmp_path / "masks.npy", tmp_path / "margins.npy") == code


def test_doubles_beyond_float32_are_diverged(tmp_path):
    np.save(tmp_path / "masks.npy", np.ones((2, 3), bool))
    np.save(tmp_path / "margins.npy", np.array([[1.0, 2.0], [1e300, 2.0]]))
    assert read_outcomes(tmp_path / "masks.npy", tmp_path / "margins.npy").status.tolist() == [[0], [1]]


# --- weights -----------------------------------------------------------------------------------------------


def test_standardised_weights_predict_in_raw_coordinates(tmp_path, truth):
    masks, margins, weights = truth
    saved = madry_files.fit(masks, margins.astype(np.float64))
    path = madry_files.save(tmp_path / "datamodels.pt", saved)
    outcomes = Outcomes.from_arrays(masks, margins)
    found = read_weights(path, standardised=True, subsets=outcomes.subsets, check=outcomes)
    x = (masks - masks.mean(0)) / masks.std(0)
    np.testing.assert_allclose(
        found.predict(outcomes.subsets), x @ saved["weight"] + saved["bias"], atol=1e-5
    )
    np.testing.assert_allclose(found.scores, weights.T, atol=0.2)
    assert (found.units, found.info.output, found.info.fraction) == (
        "output",
        "margin",
        outcomes.subsets.fraction,
    )
    assert found.info.certificate["lam"] == pytest.approx([0.01, 0.01])
    assert found.scores.flags.c_contiguous


def test_raw_weights_are_taken_as_they_are(tmp_path, truth):
    masks, margins, weights = truth
    path = madry_files.save(tmp_path / "test_50pct.pt", {"weight": weights, "bias": np.full(M, 2.0)})
    found = read_weights(path, standardised=False, check=Outcomes.from_arrays(masks, margins))
    np.testing.assert_array_equal(found.scores, weights.T.astype(np.float32))
    assert found.bias is not None
    assert found.bias.tolist() == [2.0] * M


@pytest.mark.parametrize("saved_standardised", [True, False])
def test_the_wrong_coordinates_are_noticed(tmp_path, truth, saved_standardised):
    """On rare examples the two differ by much: sigma is small."""
    masks = np.random.default_rng(0).random((400, N)) < 0.04
    masks[:, 0] |= ~masks.any(axis=1)
    margins = 5.0 + masks @ truth[2]
    arrays = madry_files.fit(masks, margins)
    if not saved_standardised:
        arrays["weight"] = arrays["weight"] / masks.std(0)[:, None]
        arrays["bias"] = arrays["bias"] - masks.mean(0) @ arrays["weight"]
    path = madry_files.save(tmp_path / "datamodels.pt", arrays)
    outcomes = Outcomes.from_arrays(masks, margins)
    read_weights(path, standardised=saved_standardised, subsets=outcomes.subsets, check=outcomes)
    wrong = {"standardised": not saved_standardised, "subsets": outcomes.subsets}
    with pytest.raises(BadInput, match=f"standardised={saved_standardised}") as caught:
        read_weights(path, **wrong, check=outcomes)
    assert caught.value.code == "dl-875"


def test_coordinates_are_never_guessed(tmp_path, truth):
    masks, margins, _ = truth
    path = madry_files.save(tmp_path / "datamodels.pt", madry_files.fit(masks, margins.astype(np.float64)))
    with pytest.raises(TypeError, match="standardised"):
        formats.read_weights(path)  # type: ignore[call-arg]
    assert code_of(read_weights, path, standardised=True) == "dl-875"
    always = masks.copy()
    always[:, 4] = True
    assert code_of(read_weights, path, standardised=True, subsets=Subsets.listed(always)) == "dl-875"
    assert code_of(read_weights, path, standardised=True, subsets=Subsets(n=N + 1, count=9)) == "dl-872"
    other = Outcomes.from_arrays(masks, margins[:, :2])
    assert code_of(read_weights, path, standardised=False, check=other) == "dl-872"


@pytest.mark.parametrize(
    ("held", "code"),
    [
        ({"weight": torch.ones(3, 2)}, "dl-870"),
        (torch.ones(3, 2), "dl-870"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "dl-872"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2), "lam": torch.ones(1)}, "dl-872"),
        ({"weight": torch.ones(3), "bias": torch.ones(3)}, "dl-872"),
        ({"weight": torch.full((3, 2), torch.nan), "bias": torch.ones(2)}, "dl-502"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2), "model": torch.nn.Linear(2, 2)}, "dl-871"),
    ],
)
def test_weights_that_cannot_be_meant(tmp_path, held, code):
    torch.save(held, tmp_path / "w.pt")
    assert code_of(read_weights, tmp_path / "w.pt", standardised=False) == code


def test_a_damaged_weights_file(tmp_path, truth):
    path = madry_files.save(tmp_path / "w.pt", {"weight": truth[2], "bias": np.zeros(M)})
    path.write_bytes(path.read_bytes()[:100])
    assert code_of(read_weights, path, standardised=False) == "dl-871"
    assert code_of(read_weights, tmp_path / "none.pt", standardised=False) == "dl-870"
