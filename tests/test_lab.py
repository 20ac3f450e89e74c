"""The lab: the same answers as in memory, kept by what made them, and nothing lost to any death."""

import dataclasses
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _faults import Death, FaultyOS, disk_full
from lab_job import BACKEND, SUBSETS, make_model, points, question, run
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, StoreError, TrainingError
from dataloupe._identity import differences
from dataloupe.core import Lab as LabProtocol
from dataloupe.core import MemoryLab, Question, Subsets
from dataloupe.engine import Backend, Choice
from dataloupe.lab import Lab
from dataloupe.lab import _lab as lab_module
from dataloupe.lab._job import job_of
from dataloupe.learners import SGD, Checkpoints, SklearnLearner
from dataloupe.run import Processes, Serial
from dataloupe.solve import Exact, SuffStats
from dataloupe.store import _local as local_store
from dataloupe.store import open_store


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing should be trained here")

    return lambda: monkeypatch.setattr(lab_module, "run_unit", refuse)


def quiet(where, backend=BACKEND, **settings):
    return Lab(where, backend=backend, progress=False, **settings)


def test_keeps_the_protocol(tmp_path):
    assert isinstance(quiet(tmp_path), LabProtocol)


@pytest.mark.parametrize("backend", ["loop", "stacked", BACKEND])
def test_the_same_answers_as_the_lab_in_memory(tmp_path, backend):
    subsets = SUBSETS.first(3)
    plain = MemoryLab().outcomes(question(), subsets, repeats=2)
    found = quiet(tmp_path, backend).outcomes(question(), subsets, repeats=2)
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-3, atol=1e-4)
    assert found.removal == plain.removal == "repack"


@pytest.mark.parametrize(("unit", "repeats"), [(1, 1), (3, 1), (3, 2), (2, 5)])
def test_blocks_are_the_outcomes_in_order(tmp_path, unit, repeats):
    """Whole subsets a block, also where a unit ends between two seeds of one; never read twice."""
    lab = quiet(tmp_path, Backend("stacked", group=2, unit=unit))
    whole = lab.outcomes(question(), SUBSETS, repeats=repeats)
    blocks = list(lab.blocks(question(), SUBSETS, repeats=repeats))
    assert len(blocks) > 1
    assert np.array_equal(np.concatenate([b.values for b in blocks]), whole.values)
    assert np.array_equal(np.concatenate([b.subsets.masks() for b in blocks]), SUBSETS.masks())
    assert {b.removal for b in blocks} == {whole.removal}
    stats = SuffStats.stream((b.subsets.masks(), b.mean()) for b in blocks)
    again = SuffStats.of(SUBSETS.masks(), whole.mean())
    assert np.array_equal(stats.together, again.together)
    np.testing.assert_allclose(stats.right, again.right, rtol=1e-12)


def test_blocks_are_refused_before_the_first_is_asked_for(tmp_path):
    with pytest.raises(BadInput, match="dl-227"):
        quiet(tmp_path).blocks(question(), Subsets(n=7, count=2))


def test_processes_give_the_same_files_as_one_process(tmp_path):
    here = run(tmp_path / "here")
    lab = quiet(tmp_path / "there", runner=Processes(workers=2))
    assert np.array_equal(lab.outcomes(question(), SUBSETS).values, here.values)
    units = [
        {k: v for k, v in open_store(tmp_path / side).digest().items() if "/units/" in k}
        for side in ("here", "there")
    ]
    assert units[0] == units[1] and len(units[0]) == 12


@pytest.mark.parametrize(
    ("backend", "seconds", "carrier"),
    [("auto", 0.1, Serial), ("auto", 10.0, Processes), ("loop", 10.0, Serial), ("processes", 0.1, Processes)],
)
def test_processes_where_they_are_asked_for_or_pay(tmp_path, monkeypatch, backend, seconds, carrier):
    monkeypatch.setattr(lab_module, "choose", lambda *_: Choice(BACKEND, seconds, {}))
    lab = quiet(tmp_path, backend, workers=2)
    job = job_of("outcomes", question(), SUBSETS, 1)
    found = lab._carrier(job, lab._decided(job), [(0, 2), (2, 4)])
    assert type(found) is carrier
    one_unit = lab._carrier(job, lab._decided(job), [(0, 2)])
    assert backend == "processes" or type(one_unit) is Serial


def test_a_back_end_that_made_nothing_yields_to_one_asked_for_by_name(tmp_path, monkeypatch):
    """A module that cannot be stacked fails under one back end, and the advice is to name another."""

    def cannot(*_, **__):
        raise TrainingError("dl-217", asked="a stack", found="no vmap", do="train with the loop")

    with monkeypatch.context() as broken:
        broken.setattr(lab_module, "run_unit", cannot)
        with pytest.raises(TrainingError, match="dl-217"):
            quiet(tmp_path, "stacked").outcomes(question(), SUBSETS)
    found = quiet(tmp_path, "loop").outcomes(question(), SUBSETS)
    elsewhere = quiet(tmp_path / "fresh", "loop").outcomes(question(), SUBSETS)
    assert np.array_equal(found.values, elsewhere.values)
    job = job_of("outcomes", question(), SUBSETS, 1)
    assert quiet(tmp_path, "stacked")._decided(job).kind == "loop"  # units are there: these decide


def test_remembers_and_grows(tmp_path, no_training):
    lab = quiet(tmp_path)
    few = lab.outcomes(question(), SUBSETS.first(5))
    many = lab.outcomes(question(), SUBSETS)
    assert np.array_equal(many.values[:5], few.values)
    no_training()
    assert np.array_equal(quiet(tmp_path).outcomes(question(), SUBSETS).values, many.values)
    assert np.array_equal(quiet(tmp_path).outcomes(question(), SUBSETS.first(3)).values, many.values[:3])


def test_other_settings_miss_and_the_nearest_are_named(tmp_path, capsys):
    run(tmp_path)
    Lab(tmp_path, backend=BACKEND).outcomes(question(lr=0.2), SUBSETS.first(2))
    said = capsys.readouterr().err
    assert "differ in 1: question.learner.lr: 0.1 -> 0.2" in said
    Lab(tmp_path, backend=BACKEND).outcomes(question(), Subsets(n=60, count=2, seed=9))
    assert "differ" not in capsys.readouterr().err  # only the subsets are new: that is no accident
    assert len([f for f in open_store(tmp_path).folders() if f.startswith("outcomes-")]) == 3


def test_differences_name_the_path():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}) == ["a.b: 3 -> 1"]
    assert differences({"a": 1}, {}) == ["a: None -> 1"]


def test_models_are_kept_and_read(tmp_path, no_training):
    models = quiet(tmp_path).models(question(), SUBSETS.first(4))
    plain = MemoryLab().models(question(), SUBSETS.first(4))
    for ours, theirs in zip(models, plain, strict=True):
        torch.testing.assert_close(ours.params["0.weight"], theirs.params["0.weight"], rtol=1e-3, atol=1e-4)
    no_training()
    again = quiet(tmp_path).models(question(), SUBSETS.first(4))
    assert torch.equal(again[3].params["2.bias"], models[3].params["2.bias"])


def test_models_behind_outcomes_are_kept_if_asked(tmp_path, no_training):
    quiet(tmp_path, keep_models=True).outcomes(question(), SUBSETS.first(4))
    no_training()
    assert len(quiet(tmp_path).models(question(), SUBSETS.first(4))) == 4


def make_held():
    """A table from a file (the same for every seed), noise of the seed's own, statistics that training moves."""
    table, noise = nn.Linear(6, 6), nn.Linear(6, 6)
    with torch.no_grad():
        table.weight.copy_(torch.arange(36.0).view(6, 6) / 36)
        table.bias.zero_()
    module = nn.Sequential(table, noise, nn.BatchNorm1d(6), nn.Linear(6, 3))
    for part in (table, noise):
        part.requires_grad_(False)
    return module


def test_models_are_kept_without_what_no_training_moves(tmp_path):
    """A frozen backbone is not written once a model: it is what the learner starts from."""
    asked = dataclasses.replace(question(), learner=SGD(make_held, epochs=1, batch_size=8))
    lab, subsets = quiet(tmp_path), SUBSETS.first(4)
    found, plain = lab.models(asked, subsets), MemoryLab().models(asked, subsets)
    for ours, theirs in zip(found, plain, strict=True):
        assert ours.buffers.keys() == theirs.buffers.keys()
        for name, right in theirs.buffers.items():
            torch.testing.assert_close(ours.buffers[name], right, rtol=1e-4, atol=1e-5)
    folder = job_of("models", asked, subsets, 1).folder
    written, _ = lab.store.read(folder, lab.store.units(folder)[1])
    assert {"0.weight", "0.bias"}.isdisjoint(written)
    assert {"1.weight", "2.running_mean", "2.num_batches_tracked", "3.weight"} <= set(written)


def test_models_of_several_seeds_are_refused_not_dropped(tmp_path, no_training):
    no_training()
    with pytest.raises(BadInput, match="dl-230.*2 seeds"):
        quiet(tmp_path / "new", keep_models=True).outcomes(question(), SUBSETS, repeats=2)
    assert not (tmp_path / "new").exists()


def test_models_that_cannot_be_kept_are_refused_before_training(tmp_path, no_training):
    forest = Question(SklearnLearner.ridge_classifier(), points(60, 0), points(7, 1), outputs.margin)
    no_training()
    for ask in (Lab.models, Lab.outcomes):
        with pytest.raises(CapabilityError, match="dl-221.*SklearnLearner"):
            ask(quiet(tmp_path, keep_models=True), forest, SUBSETS)


def test_features_and_embeddings_are_those_of_the_lab_in_memory(tmp_path):
    subsets = SUBSETS.first(2)
    ours, plain = quiet(tmp_path, "loop"), MemoryLab()
    for found, right in (
        (
            ours.features(question(), subsets, 1, Exact()).whole,
            plain.features(question(), subsets, 1, Exact()).whole,
        ),
        (ours.embeddings(question(), subsets, 1), plain.embeddings(question(), subsets, 1)),
    ):
        for a, b in zip(found, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_put_and_get(tmp_path):
    lab = quiet(tmp_path)
    assert lab.get("thing", {"a": 1}) is None
    lab.put("thing", {"a": 1}, {"x": np.arange(3.0)}, {"note": "hello"})
    lab.put("thing", {"a": 1}, {"x": np.arange(3.0)}, {"note": "hello"})
    arrays, facts = quiet(tmp_path).get("thing", {"a": 1})
    assert arrays["x"].tolist() == [0, 1, 2] and facts == {"note": "hello"}
    assert lab.get("thing", {"a": 2}) is None and lab.get("other", {"a": 1}) is None
    [(facts, load)] = lab.entries("thing")
    assert facts == {"note": "hello"} and load()["x"].tolist() == [0, 1, 2]


def test_any_url_of_fsspec(no_training):
    where = "memory://lab-test"
    values = run(where).values
    no_training()
    assert np.array_equal(run(where).values, values)


def test_progress_is_left_for_machines(tmp_path):
    run(tmp_path)
    [folder] = open_store(tmp_path).folders()
    facts = open_store(tmp_path).read_facts(folder, "progress")
    assert facts["done"] == facts["total"] == 24 and facts["unit"] == "models"
    [times] = open_store(tmp_path).read_facts(folder, "times")["runs"]
    assert times["models"] == 24 and 0 < times["writing"] < times["seconds"]


# --- what cannot be meant ---


@pytest.mark.usefixtures("unchecked")
def test_bad_use_is_refused_before_any_file(tmp_path):
    lab = quiet(tmp_path / "new")
    with pytest.raises(BadInput, match=r"dl-227.*61 examples.*60"):
        lab.outcomes(question(), Subsets(n=61, count=2))
    with pytest.raises(BadInput, match="dl-227.*0 seeds"):
        lab.outcomes(question(), SUBSETS, repeats=0)
    source = Checkpoints(make_model, [make_model().state_dict()])
    finished = Question(source, points(60, 0), points(7, 1), outputs.margin)
    with pytest.raises(CapabilityError, match="dl-207.*finished models"):
        lab.outcomes(finished, SUBSETS)
    assert len(lab.models(finished, Subsets.full(60))) == 1
    with pytest.raises(BadInput, match="dl-226.*quantum"):
        Lab(tmp_path, backend="quantum")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_torch_is_not_mixed(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(
        lab_module, "environment", lambda: {"torch": "9.9", "device": "cpu", "processor": "X"}
    )
    with pytest.raises(StoreError, match=r"dl-225.*torch: .* there, 9.9 here"):
        quiet(tmp_path).outcomes(question(), SUBSETS.first(30))
    assert quiet(tmp_path).outcomes(question(), SUBSETS).m == 7  # what is finished can be read anywhere


def test_the_back_end_on_record_is_used_on_resume(tmp_path):
    quiet(tmp_path).outcomes(question(), SUBSETS.first(4))
    lab = quiet(tmp_path, Backend("loop", unit=3))
    assert np.array_equal(lab.outcomes(question(), SUBSETS).values, run(tmp_path / "other").values)


@pytest.mark.parametrize("harm", ["truncated", "edited"])
def test_a_damaged_unit_is_named_and_made_again(tmp_path, harm):
    values = run(tmp_path).values
    before = open_store(tmp_path).digest()
    unit = sorted(Path(tmp_path).rglob("*.safetensors"))[5]
    raw = unit.read_bytes()
    unit.write_bytes(raw[:-3] if harm == "truncated" else raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    with pytest.raises(StoreError, match=f"dl-603.*{unit.name}.*remove the file"):
        run(tmp_path)
    unit.unlink()
    assert np.array_equal(run(tmp_path).values, values)
    assert open_store(tmp_path).digest() == before


def test_masks_are_checked_against_their_recipe(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(Subsets, "digest", lambda *_: "other masks")
    with pytest.raises(StoreError, match=r"dl-229.*masks other than"):
        run(tmp_path)


# --- death ---


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """The digest of an undisturbed run, and how many calls to the system it makes."""
    run(
        tmp_path_factory.mktemp("first")
    )  # the first of a process tries the recipe, and keeps that it was right
    root = tmp_path_factory.mktemp("right")
    counting = FaultyOS(None, Death, forever=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_store, "os", counting)
        run(root)
    return open_store(root).digest(), len(counting.calls)


@pytest.mark.parametrize("fault", [Death, disk_full], ids=["killed", "disk full"])
@pytest.mark.usefixtures("unchecked")
def test_at_any_file_operation(tmp_path, monkeypatch, right, fault):
    digest, calls = right
    assert calls > 100
    for j in [*range(20), *range(20, calls, calls // 30)]:
        root = tmp_path / str(j)
        with monkeypatch.context() as patch:
            faulty = FaultyOS(j, fault, forever=fault is Death)
            patch.setattr(local_store, "os", faulty)
            try:
                run(root)
            except (Death, StoreError) as error:
                assert isinstance(error, Death if fault is Death else StoreError)
            else:  # a run under load may look at its records once more: later calls are not made by all
                assert len(faulty.calls) <= j, "a fault that nobody noticed"
        survivor = open_store(root)
        assert survivor.damaged() == []
        assert survivor.digest().items() <= digest.items()
        run(root)
        assert open_store(root).digest() == digest


class Interrupted(Serial):
    """A runner whose user presses Ctrl-C after three units."""

    def map(self, work, context, jobs):
        for done, result in super().map(work, context, jobs):
            if done == 3:
                raise KeyboardInterrupt
            yield done, result


def test_ctrl_c_keeps_the_finished_units(tmp_path, right):
    with pytest.raises(KeyboardInterrupt):
        quiet(tmp_path, runner=Interrupted()).outcomes(question(), SUBSETS)
    [folder] = open_store(tmp_path).folders()
    assert len(open_store(tmp_path).units(folder)) == 3
    run(tmp_path)
    assert open_store(tmp_path).digest() == right[0]


@pytest.mark.usefixtures("unchecked")
def test_killed_twenty_times_in_the_middle_of_training(tmp_path):
    """Real processes, kill -9 at random moments; the store ends as if nothing had happened."""
    epochs = 40
    run(tmp_path / "undisturbed", epochs=epochs)
    draws = random.Random(0)
    killed = tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).parent / "lab_job.py"), str(killed), str(epochs)]
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout.readline() == b"training\n"
        try:
            process.wait(timeout=draws.uniform(0.0, 0.35))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if killed.exists():
            assert open_store(killed).damaged() == []
    run(killed, epochs=epochs)
    assert open_store(killed).digest() == open_store(tmp_path / "undisturbed").digest()
