"""The contract of the outputs of segmentation and of several labels, some places ignored."""

import torch
from torch import nn
from torch.nn import functional

from dataloupe import outputs
from dataloupe._identity import Stream
from dataloupe.core import Rows, TorchModel
from dataloupe.testing import OutputContract


def numbers(*shape):
    return torch.from_numpy(Stream.root(0)("pixels and labels", *map(str, shape)).numpy().normal(size=shape))


def with_random_numbers(module, size=0.5):
    params = {name: size * numbers(*p.shape) for name, p in module.double().named_parameters()}
    return TorchModel(module, params)


class PixelContract(OutputContract):
    """Pictures of 3 x 4 pixels in two channels, three classes, every fifth pixel ignored."""

    def model(self):
        return with_random_numbers(nn.Conv2d(2, 3, 3, padding=1))

    def rows(self):
        x = numbers(6, 2, 3, 4)
        y = (x.sum(1) > 0).long() + (x[:, 0] > 0.5).long()
        y.view(-1)[::5] = -100
        return Rows(x, y)


class TestPixelLoss(PixelContract):
    def output(self):
        return outputs.pixel_loss

    def training_loss(self, model, rows):
        each = functional.cross_entropy(model.predict(rows.inputs), rows.labels, reduction="none").flatten(1)
        return each.sum(1) / (rows.labels != -100).flatten(1).sum(1)


class TestPixelMargin(PixelContract):
    """Its slope takes all pixels of a picture to move alike: exact where they do."""

    def output(self):
        return outputs.pixel_margin

    def model(self):
        """One prediction for the whole picture, so that its pixels move alike."""
        return with_random_numbers(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1), nn.Upsample((3, 4)))
        )

    def rows(self):
        """One class for every picture."""
        wide = super().rows()
        classes = torch.arange(6)[:, None, None] % 3
        return wide._replace(labels=torch.where(wide.labels == -100, -100, classes))

    training_loss = TestPixelLoss.training_loss


class LabelContract(OutputContract):
    """Three labels a row, some of which nobody knows."""

    reduction = "mean"

    def rows(self):
        x = super().rows().inputs
        y = (x[:, :3] > 0).long()
        y.view(-1)[::5] = -100
        return Rows(x, y)

    def training_loss(self, model, rows):
        known = rows.labels != -100
        each = functional.binary_cross_entropy_with_logits(
            model.predict(rows.inputs), rows.labels.clamp(min=0).double(), reduction="none"
        )
        total = (each * known).sum(1)
        return total / known.sum(1) if self.reduction == "mean" else total


class TestLabelMargins(LabelContract):
    def output(self):
        return outputs.LabelMargins(3)


class TestMultilabelLoss(LabelContract):
    def output(self):
        return outputs.multilabel_loss


class TestMultilabelLossOfASum(LabelContract):
    reduction = "sum"

    def output(self):
        return outputs.MultilabelLoss(reduction="sum")
