"""Tokens, captions, and samples of diffusion models on the page."""

from pathlib import Path

import numpy as np
import pytest
import torch
from report_reading import N, Node, page

from dataloupe import BadInput
from dataloupe.apps import Journey, Likelihoods, Regenerated
from dataloupe.core import DenseAttribution, Examples, Info
from dataloupe.report import report
from dataloupe.report._tokens import _words

VOCABULARY = ["<pad>", "a", "fox", "<b>", "\n"]


def sequences(names: list[str] | None = VOCABULARY) -> Examples:
    ids = torch.tensor([[1, 2, 3, 4], [2, 1, 2, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    texts = ["a fox <b>\n", "fox a fox"]
    return Examples({"input_ids": ids, "attention_mask": mask}, texts=texts, names=names)


def of_tokens(targets: Examples, scores: list[list[float]]) -> DenseAttribution:
    """Five target rows: three tokens of the first sequence, two of the second."""
    index = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    return DenseAttribution(
        np.array(scores), Info("TRAK"), train=sequences(), targets=targets, index=index, units="relative"
    )


SCORES = [[1.0, -0.5], [2.0, 0.0], [-4.0, 1.0], [1.0, 1.0], [1.0, -2.0]]


def test_an_example_shows_what_it_does_to_each_token(tmp_path: Path) -> None:
    shown = page(report(tmp_path / "page.html", of_tokens(sequences(), SCORES), targets=[1]))
    (card,) = shown.all("article", "target-card")
    assert "token 2 of 3: <b>" in card.text
    own, *others = card.all("p", "tokens")
    assert [span.text for span in own.all("span")] == ["fox", "<b>", "\u23ce"]
    assert [i for i, span in enumerate(own.all("span")) if "here" in span.attributes["class"]] == [1]
    (first,) = [one for one in others if one.all("span")]  # the second example's score for this token is 0
    spans = first.all("span")
    assert [span.attributes["class"].split()[0] for span in spans] == ["accent", "accent", "warm"]
    assert [span.attributes["style"] for span in spans] == [
        "--strength: 0.25",
        "--strength: 0.5",
        "--strength: 1.0",
    ]


def test_without_a_vocabulary_a_component_keeps_its_number(tmp_path: Path) -> None:
    shown = page(report(tmp_path / "page.html", of_tokens(sequences(None), SCORES), targets=[1]))
    assert "component 1 of the output" in shown.text and not shown.all("p", "tokens")


def test_classes_are_no_tokens(tmp_path: Path, examples: Examples) -> None:
    index = np.array([[0, 0], [0, 1], [0, 2]])
    scores = DenseAttribution(
        np.ones((3, N)), Info("TRAK"), train=examples, targets=examples[:1], index=index, units="relative"
    )
    shown = page(report(tmp_path / "page.html", scores, targets=[1]))
    assert "component 1 of the output" in shown.text and not shown.all("p", "tokens")


def test_a_caption_stands_under_its_image(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    texts = ["a small <fox>", "a large owl", "word " * 60]
    data = Examples(torch.zeros(3, 2), images=images, texts=texts)
    scores = DenseAttribution(np.array([[1.0, 2.0, -1.0]]), Info("TRAK"), train=data, targets=data[:1])
    shown = page(report(tmp_path / "page.html", scores))
    said = [one.text for one in shown.all("p", "said")]
    assert said[:3] == ["a small <fox>", "a large owl", "a small <fox>"]
    assert len(said[3]) < 100 and said[3].endswith("\u2026")


def journey(k: int = 7, s: int = 4) -> Journey:
    draws = torch.Generator().manual_seed(0)
    stands = torch.rand(2, s, k, 1, 4, 4, generator=draws) * 2 - 1
    return Journey(np.array([99, 66, 33, 0]), stands[0], stands[1], stands[1, -1], {}, 0, np.arange(k))


def classes(k: int = 7) -> Likelihoods:
    """Class 1 more and more: sample 0 decided at step 2, the others at step 1."""
    up = np.tile(np.array([0.4, 0.6, 0.9, 1.0])[:, None], (1, k))
    up[1, 0] = 0.5
    both = np.stack([1 - up, up], axis=2)
    return Likelihoods(journey(k), np.arange(4), both, both, draws=8)


def way(shown: Node) -> Node:
    (panel,) = [one for one in shown.all("article", "finding") if "When was it decided" in one.text]
    return panel


def test_the_way_of_a_sample(tmp_path: Path) -> None:
    panel = way(page(report(tmp_path / "page.html", classes())))
    assert "What 7 samples would become was decided between timesteps 66 and 33 of 100." in panel.text
    first = panel.all("section", "direction")[0]
    assert "ended as class 1" in first.text and "decided at timestep 33" in first.text
    assert [one.text for one in first.all("span", "number")] == [
        "t 99 · 40%", "t 66 · 50%", "t 33 · 90%", "t 0 · 100%",
    ]  # fmt: skip
    assert len(first.all("img")) == 4 and len(panel.all("section", "direction")) == 6
    assert "1 more sample not shown." in panel.text
    assert len(panel.all("polyline", "course")) == 6


def test_every_step_shows_whom_it_is_attributed_to(tmp_path: Path, examples: Examples) -> None:
    """Of a loss the row that lowers it most: planted, another at every step."""
    found = classes(2)
    targets = found.journey.targets()
    scores = np.zeros((len(targets), N))
    for j in range(2):
        for i in range(4):
            scores[4 * j + i, 10 * j + i] = -1.0
            scores[4 * j + i, 39] = 2.0
    trak = DenseAttribution(
        scores,
        Info("TRAK", output="denoising loss", better="lower"),
        train=examples,
        targets=targets,
        units="relative",
    )
    panel = way(page(report(tmp_path / "page.html", trak, found)))
    for j, section in enumerate(panel.all("section", "direction")):
        numbers = [one.text for one in section.all("span", "number")][4:]
        assert numbers == [f"#{10 * j + i}" for i in range(4)]
    assert len(panel.all("polyline", "course")) == 4, "likelihoods and scores"
    elsewhere = DenseAttribution(
        scores[:3],
        Info("TRAK", output="denoising loss", better="lower"),
        train=examples,
        targets=examples[:3],
        units="relative",
    )
    without = way(page(report(tmp_path / "other.html", elsewhere, found)))
    assert len(without.all("polyline", "course")) == 2


def remade(top: float) -> Regenerated:
    samples = torch.zeros(2, 3, 1, 4, 4)
    moved, other = np.full((3, 2), top), np.full((3, 2), 0.1)
    return Regenerated(
        "TRAK", 20, 0, moved, other, top, (top - 0.05, top + 0.05), 0.1, (0.05, 0.15),
        top - 0.1, (top - 0.15, top - 0.05), samples, samples + 1, samples - 1,
    )  # fmt: skip


@pytest.mark.parametrize(("top", "verdict"), [(0.3, "agree"), (0.1, "undecided"), (0.01, "disagree")])
def test_samples_made_again(tmp_path: Path, top: float, verdict: str) -> None:
    shown = page(report(tmp_path / "page.html", remade(top)))
    (panel,) = [one for one in shown.all("article", "finding") if "the same noise have become" in one.text]
    assert panel.one("p", "verdict").text.lower().startswith(verdict)
    assert f"Removing the top 20 moves a sample by {top:.3g}" in panel.text
    assert len(panel.all("section", "direction")) == 3
    assert len(panel.all("img")) == 3 * 3 * 2


def test_samples_of_other_data_are_refused(tmp_path: Path, examples: Examples) -> None:
    few = DenseAttribution(np.ones((1, 10)), Info("TRAK"), train=examples[:10], targets=examples[:1])
    with pytest.raises(BadInput, match="dl-953"):
        report(tmp_path / "page.html", few, remade(0.3))


def test_latents_have_no_pictures(tmp_path: Path) -> None:
    found = classes()
    latent = Journey(
        found.journey.timesteps,
        torch.zeros(4, 7, 5),
        torch.zeros(4, 7, 5),
        torch.zeros(7, 5),
        {},
        0,
        np.arange(7),
    )
    shown = Likelihoods(latent, found.steps, found.seeming, found.ending, 8)
    panel = way(page(report(tmp_path / "page.html", shown)))
    assert not panel.all("img") and "t 99 · 40%" in panel.text


@pytest.mark.parametrize(
    ("names", "tokens", "words"),
    [
        (["play", "##ing", "cards"], [0, 1, 2], (" play", "ing", " cards")),
        (["\u0120the", "\u010a", "re", "\u0120"], [0, 2, 1, 3], (" the", "re", "\u23ce", " ")),
        (["\u2581of", "ten"], [0, 1], (" of", "ten")),
        (["a", "\n", ""], [0, 1, 2], ("a", "\u23ce", "\u00b7")),
    ],
    ids=["WordPiece", "byte-level BPE", "SentencePiece", "characters"],
)
def test_tokens_are_read_as_words(names: list[str], tokens: list[int], words: tuple[str, ...]) -> None:
    assert _words(names, tokens) == words
