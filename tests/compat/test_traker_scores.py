"""Scores of the class are those of the original's algorithm, whatever the task, projector, batch or precision."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from traker_reference import CLASSES, NETS, TARGETS, TRAIN, M, N, asked, reference, scored

from dataloupe import DenseAttribution, outputs
from dataloupe.compat import AbstractModelOutput, NoOpProjector, TRAKer
from dataloupe.solve import HashSketch

P = sum(parameter.numel() for parameter in NETS[0].parameters())


def make(folder: Path, **settings) -> TRAKer:
    given = {"task": "image_classification", "use_half_precision": False, "lambda_reg": 0.01, **settings}
    return TRAKer(NETS[0], train_set_size=N, save_dir=folder / "trak", **given)


def close(found: np.ndarray, truth: np.ndarray, error: float = 1e-5) -> bool:
    return found.shape == truth.shape and float(np.abs(found - truth).max() / np.abs(truth).max()) < error


class OwnMargin(AbstractModelOutput):
    """As a script for the original writes one."""

    def get_output(self, model, weights, buffers, image, label):
        logits = torch.func.functional_call(model, (weights, buffers), image.unsqueeze(0))
        own = logits[torch.arange(1), label.unsqueeze(0)]
        others = logits.masked_fill(torch.arange(CLASSES) == label, -torch.inf)
        return (own - others.logsumexp(1)).sum()

    def get_out_to_loss_grad(self, model, weights, buffers, batch):
        images, labels = batch
        p = torch.func.functional_call(model, (weights, buffers), images).softmax(1)
        return (1 - p[torch.arange(len(labels)), labels]).unsqueeze(-1)


@pytest.mark.parametrize("ridge", [1e-3, 0.1])
@pytest.mark.parametrize(
    "task", ["image_classification", "iterative_image_classification", outputs.margin, OwnMargin()]
)
def test_without_a_projection_scores_are_the_originals(tmp_path: Path, task, ridge: float) -> None:
    found = scored(make(tmp_path, task=task, projector=NoOpProjector(), lambda_reg=ridge))
    assert close(found, reference(NETS, ridge))


def test_a_scale_of_its_own_for_every_checkpoint_is_all_that_differs(tmp_path: Path) -> None:
    """The original divides each inverse by its mean size: one checkpoint correlates fully."""
    found = scored(make(tmp_path, projector=NoOpProjector()), NETS[:1])
    truth = reference(NETS[:1], 0.01) * 123.0
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 1 - 1e-9


class Dense:
    """A projector in the manner of the original: signs, drawn anew for every model."""

    proj_dim, grad_dim, seed, proj_type = 20, P, 0, "rademacher"

    @staticmethod
    def matrix(k: int) -> np.ndarray:
        return np.sign(np.random.default_rng(k).normal(size=(P, 20)))

    def project(self, grads, model_id):
        return grads @ torch.from_numpy(self.matrix(model_id)).to(grads)


def test_a_projector_of_the_original_and_no_ridge(tmp_path: Path) -> None:
    found = scored(make(tmp_path, projector=Dense(), lambda_reg=0.0))
    one = [reference(NETS[k : k + 1], 0.0, project=lambda rows, k=k: rows @ Dense.matrix(k)) for k in (0, 1)]
    weights = [scored_weights(k) for k in (0, 1)]
    truth = sum(part / w for part, w in zip(one, weights, strict=True)) / 2 * sum(weights) / 2
    assert close(found, truth, 1e-4)


def scored_weights(k: int) -> np.ndarray:
    with torch.no_grad():
        return 1 - NETS[k](TRAIN[0]).softmax(1).gather(1, TRAIN[1][:, None]).numpy()


def test_gradients_with_respect_to_some_parameters(tmp_path: Path) -> None:
    names = ["0.weight", "2.bias"]
    truth = reference(NETS, 0.01, names)
    for task in ("image_classification", OwnMargin()):
        folder = tmp_path / str(type(task).__name__)
        found = scored(make(folder, task=task, grad_wrt=names, projector=NoOpProjector()))
        assert close(found, truth)


def test_our_sketch_is_one_linear_map_in_the_originals_units(tmp_path: Path) -> None:
    """With no fewer dimensions than parameters it keeps every gradient, so lambda is in units of k |g|^2 / p."""
    found = scored(make(tmp_path, proj_dim=P, lambda_reg=0.01 * P))
    assert close(found, reference(NETS, 0.01))
    sketched = scored(make(tmp_path / "less", projector=HashSketch(40), lambda_reg=None), NETS[:1])
    assert np.corrcoef(sketched.ravel(), reference(NETS[:1], 0.1).ravel())[0, 1] > 0.5


def test_the_default_ridge_is_the_mean_eigenvalue(tmp_path: Path) -> None:
    from traker_reference import gradients

    x = gradients(NETS[0], TRAIN, list(dict(NETS[0].named_parameters()))) / P**0.5
    found = scored(make(tmp_path, projector=NoOpProjector(), lambda_reg=None), NETS[:1])
    assert close(found, reference(NETS[:1], float(np.trace(x.T @ x)) / P))


def test_half_precision_is_storage_only(tmp_path: Path) -> None:
    found = scored(make(tmp_path, use_half_precision=True, projector=NoOpProjector()))
    assert close(found, reference(NETS, 0.01), 2e-3)
    assert not close(found, reference(NETS, 0.01), 1e-6)


def test_gradients_too_large_and_too_small_for_half_precision(tmp_path: Path) -> None:
    """Each row has a scale of its own: 1e-9 and 1e9 survive, where plain half precision keeps neither."""

    class Scaled(OwnMargin):
        def __init__(self, by: float) -> None:
            self.by = by

        def get_output(self, model, weights, buffers, image, label):
            return self.by * super().get_output(model, weights, buffers, image, label)

    truth = reference(NETS, 0.01)
    for by in (1e-9, 1e9):
        ridge = 0.01 * by**2
        traker = make(
            tmp_path / str(by),
            task=Scaled(by),
            use_half_precision=True,
            projector=NoOpProjector(),
            lambda_reg=ridge,
        )
        assert close(scored(traker), truth, 2e-3)


def test_fewer_rows_than_dimensions(tmp_path: Path) -> None:
    """The dual form, on 30 of the rows."""
    from traker_reference import gradients

    names = list(dict(NETS[0].named_parameters()))
    few = TRAIN[0][:30], TRAIN[1][:30]
    traker = TRAKer(
        NETS[0],
        "image_classification",
        30,
        tmp_path,
        projector=NoOpProjector(),
        lambda_reg=0.01,
        use_half_precision=False,
    )
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    traker.featurize(few, num_samples=30)
    traker.finalize_features()
    asked(traker, NETS[0], 0)
    x, phi = (gradients(NETS[0], side, names) / P**0.5 for side in (few, TARGETS))
    weight = scored_weights(0)[:30]
    truth = x @ np.linalg.inv(x.T @ x + 0.01 * np.eye(P)) @ phi.T * weight
    assert close(traker.finalize_scores("test"), truth)


def test_rows_may_come_in_any_order_if_they_are_named(tmp_path: Path) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    traker = make(tmp_path, projector=NoOpProjector())
    traker.load_checkpoint(NETS[0].state_dict(), 0)
    for ids, wrap in zip(order.split(31), (lambda i: i, list, np.asarray, torch.Tensor.tolist), strict=True):
        traker.featurize((TRAIN[0][ids], TRAIN[1][ids]), inds=wrap(ids))
    traker.finalize_features()
    asked(traker, NETS[0], 0)
    assert close(traker.finalize_scores("test"), reference(NETS[:1], 0.01))


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.kinds, self.head = nn.Embedding(11, 5), nn.Embedding(2, 5), nn.Linear(5, CLASSES)

    def forward(self, input_ids, token_type_ids, attention_mask):
        values = self.table(input_ids) + self.kinds(token_type_ids)
        return self.head((values * attention_mask[..., None]).sum(1))


def test_texts_are_given_as_keywords(tmp_path: Path) -> None:
    """The built-in task and the same written for one example agree."""

    class OneText(OwnMargin):
        def get_output(self, model, weights, buffers, ids, kinds, mask, label):
            call = functools.partial(torch.func.functional_call, model, (weights, buffers), ())
            logits = call(
                {"input_ids": ids[None], "token_type_ids": kinds[None], "attention_mask": mask[None]}
            )[0]
            others = logits.masked_fill(torch.arange(CLASSES) == label, -torch.inf)
            return logits.gather(0, label[None])[0] - others.logsumexp(0)

        def get_out_to_loss_grad(self, model, weights, buffers, batch):
            ids, kinds, mask, labels = batch
            p = torch.func.functional_call(model, (weights, buffers), (ids, kinds, mask)).softmax(1)
            return 1 - p.gather(1, labels[:, None])

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(11, (40, 6), generator=generator)
    batch = (ids, ids % 2, (ids > 2).float(), ids.sum(1) % CLASSES)
    net = Texts()
    found = []
    for name, task in (("ours", "text_classification"), ("own", OneText())):
        traker = TRAKer(net, task, 40, tmp_path / name, projector=NoOpProjector(), use_half_precision=False)
        traker.load_checkpoint(net.state_dict(), 0)
        traker.featurize(batch, num_samples=40)
        traker.finalize_features()
        traker.start_scoring_checkpoint("test", net.state_dict(), 0, 5)
        traker.score([part[:5] for part in batch], num_samples=5)
        found.append(traker.finalize_scores("test"))
    assert close(found[0], found[1], 1e-4)


def test_scores_as_an_attribution(tmp_path: Path) -> None:
    traker = make(tmp_path, projector=NoOpProjector())
    scores = scored(traker)
    found = traker.attribution("test")
    assert isinstance(found, DenseAttribution)
    assert (found.units, found.m, found.n) == ("relative", M, N)
    assert np.array_equal(found.scores, scores.T)
    assert np.array_equal(traker.scores, scores)
    certificate = found.info.certificate
    assert (certificate["models"], certificate["coverage"], certificate["zero_rows"]) == (
        2,
        {"as factors": 1.0},
        0,
    )
    assert certificate["gradient_error"] < 1e-6
