"""The examples of every modality in a tiny form: fewer rows, one epoch, every step of what their headers say."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import dataloupe as dl
from dataloupe.data import _captions
from dataloupe.run import load_module

EXAMPLES = Path(__file__).parents[1] / "examples"


def garments(n, seed):
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 256, size=(n, 28, 28)).astype(np.uint8)
    images[::2, 14:] = 0
    labels = torch.from_numpy(draws.integers(0, 10, size=n))
    data = dl.Examples(torch.from_numpy(images)[:, None], labels, images=images)
    return _captions._captioned(data, dl.data._captions.Stream.root(seed))


def passages(n, seed):
    ids = torch.from_numpy(np.random.default_rng(seed).integers(2, 28, size=(n, 64)))
    texts = ["".join(dl.data.ALPHABET[i] for i in row) for row in ids.tolist()]
    return dl.Examples(ids, torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100), texts=texts)


def small_garments(n, seed):
    sample = torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    images = ((sample[:, 0] + 1) * 127.5).to(torch.uint8).numpy()
    return dl.Examples(
        {"sample": sample, "timestep": torch.full((n,), -1)},
        images=images,
        texts=[f"garment {i}" for i in range(n)],
        meta={"class": ["bag" if i % 2 else "trouser" for i in range(n)]},
    )


def quotations(n, seed):
    draws = np.random.default_rng(seed)
    ids = torch.from_numpy(draws.integers(1, 20, size=(n, 9)))
    mask = (torch.arange(9) < torch.from_numpy(draws.integers(3, 10, size=(n, 1)))).long()
    texts = [" ".join(f"word{i}" for i in row) for row in ids.tolist()]
    names = ["art", "computers", "politics", "science", "work"]
    return dl.Examples(
        {"input_ids": ids, "attention_mask": mask}, torch.arange(n) % 5, texts=texts, names=names
    )


def small_encoder(_, **settings):
    """In place of the packaged one."""
    shape = {"vocab_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return transformers.BertModel(transformers.BertConfig(hidden_size=384, **shape, **settings))


EXAMPLES_OF = [
    ("clip", "fashion_captions", garments),
    ("language", "jargon", passages),
    ("diffusion", "fashion_samples", small_garments),
    ("encoder", "fortunes", quotations),
]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("name", "source", "made"), EXAMPLES_OF, ids=[name for name, *_ in EXAMPLES_OF])
@pytest.mark.usefixtures("unchecked")
def test_an_example_answers(name, source, made, monkeypatch, tmp_path):
    lines = (EXAMPLES / f"{name}.py").read_text()
    assert len(lines.splitlines()) <= 80
    assert "Expect an LDS of" in lines
    n = 80 if name in ("clip", "language") else 24
    monkeypatch.setattr(dl.data, source, lambda *_: (made(n, 0), made(6, 1)))
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", small_encoder)
    asked = load_module(EXAMPLES / f"{name}.py").question
    question = dataclasses.replace(asked, learner=dataclasses.replace(asked.learner, epochs=1))
    lab = dl.Lab(tmp_path / "lab", backend="loop", progress=False)
    trak = dl.TRAK(models=2, dim=64).attribute(question, lab)
    truth = lab.outcomes(question, dl.Subsets(n=question.n, count=6, seed=1), repeats=2)
    score = dl.lds(trak, truth, controls=[dl.BM25().attribute(question, lab)])
    assert np.isfinite(score.value)
    dl.report(tmp_path / "page.html", trak, truth, targets=[0])
    page = (tmp_path / "page.html").read_text()
    assert question.targets.texts[0][:10] in page
