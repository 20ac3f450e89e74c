"""Which of 1,000 passages of a dictionary of hacker slang make a small transformer read 150 others well?

The Jargon File comes with Debian's package jargon-text.

    dataloupe attribute examples/language.py:question --with trak --models 10 --lab runs/language
    dataloupe judge examples/language.py:question --lab runs/language --subsets 100 --repeats 2
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dataloupe as dl

WIDTH, HEADS, LENGTH = 48, 2, 64


class Block(nn.Module):
    """Attention to what came before, then two layers for every place."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.asked, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.asked(self.before(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(self.between(x))))


class Characters(nn.Module):
    """A language model of characters: 66 thousand numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(len(dl.data.ALPHABET), WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(dl.data.ALPHABET), bias=False)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


train, targets = dl.data.jargon(1000, 150, LENGTH)

question = dl.Question(
    learner=dl.SGD(
        Characters,
        epochs=8,
        lr=0.005,
        batch_size=16,
        optimizer="adamw",
        weight_decay=0.1,
        schedule="cosine",
        warmup=0.1,
    ),
    train=train,
    targets=targets,
    output=dl.outputs.sequence_loss,
)
