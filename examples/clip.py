"""Which of 2,000 captioned garments taught a small CLIP to tell 200 other pairs from the rest?

Fashion-MNIST comes with Debian's package dataset-fashion-mnist; its captions say what can be seen.

    dataloupe attribute examples/clip.py:question --with trak --models 10 --lab runs/clip
    dataloupe judge examples/clip.py:question --lab runs/clip --subsets 100 --repeats 2

Expect an LDS of 0.41 [0.38, 0.43] for TRAK with 10 models, where words in common (BM25) have 0.03, under a ceiling of 0.79.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dataloupe as dl

WIDTH, BATCH = 64, 64


class Pixels(nn.Module):
    """Pixels 0 to 255 as numbers from 0 to 1."""

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1).to(torch.get_default_dtype()) / 255


class Scale(nn.Module):
    """The inverse of the temperature, learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log.exp()


class Towers(nn.Module):
    """A picture and a caption, each as a vector of length 1: 115 thousand numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(Pixels(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, WIDTH))
        self.words = nn.Embedding(len(dl.data.CAPTION_WORDS), WIDTH)
        self.text = nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.scale = Scale()

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        said = self.text((self.words(words) * (words > 0)[..., None]).sum(1))
        seen, said = F.normalize(self.image(image), dim=-1), F.normalize(said, dim=-1)
        return torch.stack([self.scale(seen), said], 1)


train, targets = dl.data.fashion_captions(2000, 200)

question = dl.Question(
    learner=dl.SGD(
        Towers,
        epochs=15,
        lr=0.002,
        batch_size=BATCH,
        optimizer="adamw",
        schedule="cosine",
        warmup=0.1,
        loss="contrastive",
    ),
    train=train,
    targets=targets,
    output=dl.outputs.PairMargin(train, count=BATCH - 1),
)
