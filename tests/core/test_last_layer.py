"""What the last layer sees, and rows that a model can be called with as they stand."""

import numpy as np
import torch
from denoisers import DIFFUSION, clouds
from torch import nn

from dataloupe.core import Examples, MemoryLab, Question, TorchModel, last_layer_inputs, real_tokens
from dataloupe.learners import SGD
from dataloupe.methods import FeatureSimilarity
from dataloupe.outputs import DenoisingLoss


class Words(nn.Module):
    """Every token through a table, then a head."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

    def forward(self, input_ids, attention_mask):  # noqa: ARG002  (told of padding as transformers' models are)
        return self.head(self.table(input_ids))


class Strict(nn.Module):
    """A denoiser with a row for each timestep, and none for "any"."""

    def __init__(self):
        super().__init__()
        self.by_time, self.layer = nn.Embedding(20, 4), nn.Linear(4, 4)

    def forward(self, sample, timestep):
        return self.layer(sample.flatten(1) + self.by_time(timestep)).view(sample.shape)


def model_of(module):
    return TorchModel(module.eval(), {name: p.detach() for name, p in module.named_parameters()})


def test_of_a_sequence_it_is_the_mean_over_its_tokens():
    ids, mask = torch.tensor([[3, 5, 1, 0], [2, 2, 8, 4]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    model = model_of(Words())
    found = last_layer_inputs(model, Examples({"input_ids": ids, "attention_mask": mask}))
    table = model.params["table.weight"].numpy()
    by_hand = np.stack([table[[3, 5, 1]].mean(0), table[[2, 2, 8, 4]].mean(0)])
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    alone = last_layer_inputs(model, Examples({"input_ids": ids[:1, :3], "attention_mask": mask[:1, :3]}))
    np.testing.assert_allclose(found[:1], alone, rtol=1e-6)


def test_rows_that_are_no_sequences_hold_no_tokens():
    assert real_tokens(Examples(torch.ones(2, 3)).take([0])) is None
    assert real_tokens(clouds(4).take([0])) is None


def test_a_denoiser_is_never_called_with_any_timestep():
    learner = SGD(Strict, epochs=1, lr=0.01, batch_size=8, optimizer="adamw", loss=DIFFUSION)
    data = clouds(24)
    asked = Question(learner, data, data[:3], DenoisingLoss(DIFFUSION, repeats=2))
    model = learner.train(data, torch.ones(24), seed=0)
    assert asked.identity and asked.measure(model).shape == (3,)
    by_hand = data.inputs["sample"].flatten(1) + model.params["by_time.weight"][0]
    np.testing.assert_allclose(last_layer_inputs(model, data), by_hand, rtol=1e-6)
    found = FeatureSimilarity(models=1).attribute(asked, MemoryLab())
    assert found.scores.shape == (3, 24)
