"""What the guards on gradients cost: features with all of them beside features with none, in processor time.

    python bench/audit_guards.py [--quick]

Guards are the comparison of every batch's calls with the survey's, the watch for calls that can move rows, second backward
passes where it says so, and rows held against autograd in the batch where they stand. Without them the same features
come from the same engine. Medians of turns taken one after the other.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from featurise import case
from torch import nn

import dataloupe as dl
from dataloupe.core import Question, TorchModel, torch_model
from dataloupe.engine import Featuriser, Pass, _checks, _pass, _tape
from dataloupe.solve import FactoredSketch

sys.path.insert(0, str(Path(__file__).parent))


class Everything(set):
    """Trusts every batch."""

    def __contains__(self, _: object) -> bool:
        return True


@contextlib.contextmanager
def no_guards() -> Iterator[None]:
    """Within it, nothing is checked while gradients are made."""
    with (
        mock.patch.object(_checks.RowChecks, "choose", lambda *_: None),
        mock.patch.object(_tape.Tape, "_note", lambda *_: None),
        mock.patch.object(_tape.Tape, "follows", lambda *_: True),
        mock.patch.object(_pass, "set", Everything, create=True),
    ):
        yield


def digits_mlp() -> tuple[Question, TorchModel]:
    """The demo's network on 1,437 digits."""
    train, test = dl.data.digits()
    learner = dl.SGD(lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), epochs=1)
    return Question(learner, train, test[:5], dl.outputs.margin), learner.model(learner.init(seed=0))


def masked_encoder() -> tuple[Question, TorchModel]:
    """A small BERT with attention masks, as Hugging Face builds it."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=500, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128
    )
    torch.manual_seed(0)
    module = BertForSequenceClassification(config).eval()
    ids = torch.randint(1, 500, (2048, 32))
    mask = (torch.arange(32) < torch.randint(8, 33, (2048, 1))).long()
    data = dl.Examples({"input_ids": ids * mask, "attention_mask": mask}, labels=torch.randint(0, 2, (2048,)))
    source = dl.Checkpoints(module, module.state_dict())
    return Question(source, data, data[:4], dl.outputs.margin), torch_model(source.models()[0])


def measure(*, quick: bool) -> list[tuple[str, str, str]]:
    """Rows of the table: how much longer features take with guards."""
    names = (
        ["digits MLP", "masked BERT"]
        if quick
        else ["digits MLP", "masked BERT", "fashion-5k CNN", "ResNet-9", "language model"]
    )
    rows = []
    for name in names:
        makers = {"digits MLP": digits_mlp, "masked BERT": masked_encoder}
        if name in makers:
            question, model = makers[name]()
        else:
            work = case(name)
            question, model = work.question, work.model
        turns = 7 if quick else 15 if name in makers else 5
        with_guards, without = cost(question, model, turns)
        rows.append((f"guards, {name}", "<= 5 %", f"{with_guards / without - 1:+.1%} of {without:.2f} s"))
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def cost(question: Question, model: TorchModel, turns: int) -> tuple[float, float]:
    """Median processor seconds with and without guards."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns + 1):
        for guarded in (True, False):
            with contextlib.nullcontext() if guarded else no_guards():
                start = time.process_time()
                Featuriser(Pass(question, model, "train"), FactoredSketch(2048)).rows(slice(0, None))
                if turn:
                    taken[guarded].append(time.process_time() - start)
    return statistics.median(taken[True]), statistics.median(taken[False])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    torch.set_num_threads(1)
    measure(quick=parser.parse_args().quick)
