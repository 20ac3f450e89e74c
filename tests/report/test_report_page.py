"""The page as a reader gets it: what is on it, and that it is what was put in."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import base64
import dataclasses
import io
import itertools
import os
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataloupe._errors import BadInput, StoreError
from dataloupe.apps import WhatIf
from dataloupe.core import DenseAttribution, Examples, Info, Outcomes, Subsets, Uncertainty
from dataloupe.judge import LDS, Calibration, Control, RemovalTest, calibration, lds
from dataloupe.report import report
from dataloupe.report._cards import NORMAL_95, SPREAD
from dataloupe.report._parts import sort_parts

N, M = 40, 12
VOID = {"meta", "img", "link", "br"}


@dataclasses.dataclass
class Node:
    """An element of the page: enough of a tree to ask questions."""

    tag: str
    attributes: dict[str, str]
    children: list["Node | str"] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(c if isinstance(c, str) else f" {c.text} " for c in self.children).split())

    def all(self, tag: str | None = None, name: str | None = None) -> list["Node"]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                classes = child.attributes.get("class", "").split()
                if (tag is None or child.tag == tag) and (name is None or name in classes):
                    found.append(child)
                found += child.all(tag, name)
        return found

    def one(self, tag: str | None = None, name: str | None = None) -> "Node":
        (found,) = self.all(tag, name)
        return found


class Tree(HTMLParser):
    """Fails on an element that is closed wrongly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open = [Node("", {})]
        self.feed(html)
        self.close()
        assert [node.tag for node in self.open] == [""]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        node = Node(tag, {k: v or "" for k, v in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.open[-1].children.append(Node(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page(path: Path) -> Node:
    return Tree(path.read_text(encoding="utf-8")).open[0]


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace("±", "").replace(",", ""))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def examples(rng: np.random.Generator) -> Examples:
    images = rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)
    return Examples(torch.zeros(N, 2), torch.arange(N) % 3, images=images, names=["fox", "owl", "hare"])


@pytest.fixture
def trak(rng: np.random.Generator, examples: Examples) -> DenseAttribution:
    info = Info(
        "TRAK", {"models": 3, "dim": 512}, {"rank": 64}, {"seconds": 12.5}, fraction=0.5, question="abc123"
    )
    return DenseAttribution(
        rng.normal(size=(M, N)),
        info,
        uncertainty=Uncertainty(np.full(M, 0.04)),
        train=examples,
        targets=examples[:M],
    )


@pytest.fixture
def fresh(rng: np.random.Generator, trak: DenseAttribution) -> Outcomes:
    subsets = Subsets(n=N, count=30, seed=1)
    truth = subsets.masks() @ trak.scores.T
    values = truth[:, None] + rng.normal(size=(30, 2, M)) * 2
    return Outcomes(subsets, values.astype(np.float32), np.zeros((30, 2), dtype=np.uint8))


def make_answer(**changes: object) -> WhatIf:
    given = {
        "method": "TRAK",
        "target": 7,
        "removed": np.arange(20),
        "predicted": -1.9,
        "predicted_interval": (-2.4, -1.4),
        "verified": -1.6,
        "verified_interval": (-1.9, -1.3),
        "differences": np.array([-1.5, -1.7, -1.6]),
        "verdict": "agree",
        "notes": ("linearised at half of the data",),
    }
    return WhatIf(**(given | changes))


def make_lds(**changes: object) -> LDS:
    given = {
        "method": "TRAK",
        "value": 0.41,
        "interval": (0.38, 0.44),
        "per_target": np.linspace(0.1, 0.72, M),
        "ceiling": 0.73,
        "ceiling_interval": (0.7, 0.76),
        "reliability": 0.36,
        "disattenuated": 0.5616,
        "controls": {"random": Control(-0.01, (-0.04, 0.02))},
        "subsets": 100,
        "repeats": 2,
        "targets": M,
        "left_out": 3,
        "notes": ("one note",),
    }
    return LDS(**(given | changes))


# --- the file ---


def test_the_page_asks_nobody_for_anything(tmp_path: Path, trak, fresh) -> None:
    html = report(tmp_path / "a.html", trak, fresh, make_answer()).read_text()
    assert "http:" not in html and "https:" not in html and "@import" not in html and "<script" not in html
    for node in Tree(html).open[0].all():
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = node.attributes.get(name, "")
            assert value == "" or value.startswith(("data:image/png;base64,", "#"))
    assert re.findall(r"url\(", html) == []


def test_the_same_parts_give_the_same_bytes(tmp_path: Path, trak, fresh) -> None:
    first = report(tmp_path / "a.html", trak, fresh, make_answer()).read_bytes()
    assert report(tmp_path / "b.html", trak, fresh, make_answer()).read_bytes() == first
    dated = report(tmp_path / "c.html", trak, fresh, make_answer(), date="1 May 2026")
    assert page(dated).one("time").text == "1 May 2026"
    assert page(tmp_path / "a.html").all("time") == []


def test_headings_pictures_and_links_are_in_order(tmp_path: Path, trak, fresh) -> None:
    tree = page(report(tmp_path / "a.html", trak, fresh, make_answer(), make_lds(method="other")))
    levels = [int(node.tag[1]) for node in tree.all() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert all(image.attributes["alt"] for image in tree.all("img"))
    assert all(figure.all("figcaption") for figure in tree.all("figure"))
    targets = {node.attributes["id"] for node in tree.all() if "id" in node.attributes}
    assert {link.attributes["href"][1:] for link in tree.all("a")} <= targets
    names = {node.attributes["aria-labelledby"] for node in tree.all("section")}
    assert names <= targets


def test_colours_are_themed_and_can_be_read() -> None:
    css = resources.files("dataloupe.report").joinpath("page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    )
    assert "prefers-color-scheme: dark" in css
    assert set(light) == set(dark)
    for colours in (light, dark):
        for ink in ("ink", "soft", "accent", "warm", "quiet"):
            for ground in ("paper", "card", "faint"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for tone in ("accent", "warm", "quiet"):
            for ground in ("paper", "card"):
                assert contrast(colours[tone], over(colours[f"{tone}-wash"], colours[ground])) >= 4.5, tone


def channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def over(wash: str, ground: str) -> str:
    share = int(wash[7:], 16) / 255
    mixed = [share * a + (1 - share) * b for a, b in zip(channels(wash), channels(ground), strict=True)]
    return "#" + "".join(f"{round(c):02x}" for c in mixed)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, contrast ratio."""

    def luminance(colour: str) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_that_is_used_is_defined() -> None:
    css = resources.files("dataloupe.report").joinpath("page.css").read_text()
    assert set(re.findall(r"var\(--([\w-]+)\)", css)) <= set(re.findall(r"--([\w-]+): ", css))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, trak, monkeypatch) -> None:
    path = report(tmp_path / "a.html", trak)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"dl-956.*No space left"):
        report(path, trak, title="another")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_a_path_that_cannot_hold_a_file_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"dl-956.*no folder"):
        report(tmp_path / "none" / "a.html")
    with pytest.raises(StoreError, match=r"dl-956.*a folder of that name"):
        report(tmp_path)


# --- targets ---


def test_scores_labels_and_intervals_are_the_attributions_own(tmp_path: Path, trak, examples) -> None:
    tree = page(report(tmp_path / "a.html", trak, targets=[5, 2], top=4))
    cards = tree.all("article", "target-card")
    assert [card.one("h3").text for card in cards] == ["Target 5", "Target 2"]
    for card, row in zip(cards, (5, 2), strict=True):
        for sign in ("helps", "hurts"):
            shown = card.one("div", sign).all("li")
            ids = [int(item.one("span", "number").text[1:]) for item in shown]
            assert ids == trak.top(row, 4, sign=sign).tolist()
            for item, i in zip(shown, ids, strict=True):
                assert item.one("span", "label").text == examples.label_name(i)
                assert number(item.one("span", "score").text) == pytest.approx(
                    trak.scores[row, i], abs=0.0051
                )
                assert number(item.one("span", "error-words").text) == pytest.approx(
                    NORMAL_95 * 0.2, abs=0.0051
                )


def test_pictures_are_the_examples_own(tmp_path: Path, trak, examples) -> None:
    tree = page(report(tmp_path / "a.html", trak, targets=[3], top=2))
    for item in tree.one("article", "target-card").all("li"):
        i = int(item.one("span", "number").text[1:])
        assert (pixels(item.one("img")) == examples.images[i]).all()
        assert item.one("img").attributes["alt"] == f"training example {i}, label {examples.label_name(i)}"
        assert "tiny" in item.one("img").attributes["class"]
    assert (
        pixels(tree.one("article", "target-card").one("div", "face").one("img")) == examples.images[3]
    ).all()


def test_colour_images_keep_their_colours(tmp_path: Path, trak, examples, rng) -> None:
    images = rng.integers(0, 256, (N, 5, 6, 3), dtype=np.uint8)
    coloured = dataclasses.replace(examples, images=images)
    attribution = dataclasses.replace(trak, train=coloured, targets=coloured[:M])
    tree = page(report(tmp_path / "a.html", attribution, targets=[3], top=1))
    item = tree.one("article", "target-card").all("li")[0]
    assert (pixels(item.one("img")) == images[trak.top(3, 1)[0]]).all()


def pixels(image: Node) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(image.attributes["src"].split(",")[1]))) as opened:
        return np.asarray(opened)


def test_text_from_data_stays_text(tmp_path: Path, trak) -> None:
    evil = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'
    texts = Examples(
        torch.zeros(N, 1), torch.zeros(N, dtype=torch.int64), texts=[evil] * N, names=["<b>bold</b>"]
    )
    info = dataclasses.replace(trak.info, method="<i>TRAK</i>", note=evil, settings={evil: evil})
    attribution = dataclasses.replace(trak, info=info, train=texts, targets=texts[:M])
    answer = make_answer(notes=(evil,))
    tree = page(
        report(
            tmp_path / "a.html",
            attribution,
            answer,
            make_lds(controls={evil: Control(0.0, (0.0, 0.0))}),
            title=evil,
        )
    )
    assert {"script", "b", "i", "img"}.isdisjoint(node.tag for node in tree.all())
    assert tree.one("h1").text == evil
    assert tree.all("p", "text")[0].text == evil
    assert tree.all("span", "label")[0].text == "<b>bold</b>"
    assert evil in [note.text for notes in tree.all("ul", "notes") for note in notes.all("li")]
    assert evil in [line.one("span", "name").text for line in tree.all("div", "line")]
    assert tree.one("article", "origin").one("h3").text == "<i>TRAK</i>"


def test_long_texts_are_cut_and_table_rows_are_cells(tmp_path: Path, trak) -> None:
    texts = Examples(torch.zeros(N, 1), texts=["word " * 400] * N)
    tree = page(
        report(tmp_path / "a.html", dataclasses.replace(trak, train=texts, targets=texts[:M]), targets=[0])
    )
    lengths = {len(node.text) for node in tree.all("p", "text")}
    assert max(lengths) <= 900 and all(node.text.endswith("…") for node in tree.all("p", "text"))
    table = Examples(torch.zeros(N, 1), meta={"age": list(range(N)), "town": ["Ulm"] * N})
    tree = page(
        report(tmp_path / "b.html", dataclasses.replace(trak, train=table, targets=table[:M]), targets=[4])
    )
    cells = tree.one("div", "face").one("p", "cells").all("span")
    assert [cell.text for cell in cells] == ["age=4", "town=Ulm"]


def test_components_and_examples_behind_a_row_are_named(tmp_path: Path, trak, examples) -> None:
    index = np.stack([np.arange(M) // 2, np.arange(M) % 2], axis=1)
    tree = page(report(tmp_path / "a.html", dataclasses.replace(trak, index=index), targets=[5]))
    what = tree.one("div", "what").text
    assert "component 1 of the output" in what and "#2" in what
    assert (pixels(tree.one("div", "face").one("img")) == examples.images[2]).all()


def test_only_examples_of_the_right_sign_are_shown(tmp_path: Path, trak) -> None:
    scores = np.zeros((M, N))
    scores[0, 3] = 2.0
    tree = page(report(tmp_path / "a.html", dataclasses.replace(trak, scores=scores), targets=[0, 1]))
    first, second = tree.all("article", "target-card")
    assert [item.one("span", "number").text for item in first.one("div", "helps").all("li")] == ["#3"]
    assert "No training example hurts" in first.one("div", "hurts").text
    assert "No training example helps" in second.one("div", "helps").text


def test_default_targets_are_a_cross_section_of_the_lds(tmp_path: Path, trak) -> None:
    rank = make_lds(per_target=np.linspace(0.9, -0.2, M)[np.random.default_rng(0).permutation(M)])
    tree = page(report(tmp_path / "a.html", trak, rank))
    shown = [number(card.all("dd")[-1].text) for card in tree.all("article", "target-card")]
    assert len(shown) == SPREAD
    assert shown[0] == 0.9 and shown[-1] == -0.2 and shown == sorted(shown, reverse=True)


def test_default_targets_follow_the_largest_score_and_what_ifs_come_first(tmp_path: Path, trak) -> None:
    tree = page(report(tmp_path / "a.html", trak, make_answer()))
    rows = [int(card.one("h3").text.split()[1]) for card in tree.all("article", "target-card")]
    assert rows[0] == 7
    order = np.argsort(-np.abs(trak.scores).max(axis=1), kind="stable")
    chosen = order[np.linspace(0, M - 1, SPREAD).round().astype(int)].tolist()
    assert rows[1:] == [row for row in chosen if row != 7]


def test_units_are_said_in_words(tmp_path: Path, trak) -> None:
    assert (
        "a score is a change of the output"
        in page(report(tmp_path / "a.html", trak)).one("section", "reading").text
    )
    relative = dataclasses.replace(trak, units="relative", uncertainty=None)
    tree = page(report(tmp_path / "b.html", relative))
    assert "relative units" in tree.one("section", "reading").text
    assert "without error bars" in tree.all("p", "method")[0].text
    assert tree.all("span", "error-words") == []


# --- judgements ---


def test_outcomes_are_judged_and_shown_with_ceiling_and_controls(tmp_path: Path, trak, fresh, rng) -> None:
    other = dataclasses.replace(
        trak,
        scores=trak.scores + rng.normal(size=(M, N)),
        info=dataclasses.replace(trak.info, method="Datamodel"),
    )
    noise = dataclasses.replace(
        trak, scores=rng.normal(size=(M, N)), info=dataclasses.replace(trak.info, method="RandomScores")
    )
    tree = page(report(tmp_path / "a.html", trak, other, noise, fresh))
    lines = tree.one("figure", "chart").all("div", "line")
    expected = [lds(trak, fresh, controls={"RandomScores": noise}), lds(other, fresh)]
    for line, rank in zip(lines, expected, strict=False):
        assert line.one("span", "name").text == rank.method
        shown = [number(part) for part in re.findall(r"[−\d.]+", line.one("span", "value").text)]
        assert shown == [round(v, 2) for v in (rank.value, *rank.interval, rank.disattenuated)]
    control = expected[0].controls["RandomScores"]
    assert lines[2].one("span", "name").text == "RandomScores"
    assert number(re.findall(r"[−\d.]+", lines[2].one("span", "value").text)[0]) == pytest.approx(
        control.value, abs=0.0051
    )
    caption = tree.one("figure", "chart").one("figcaption").text
    assert f"Noise ceiling: {expected[0].ceiling:.2f}" in caption
    line = calibration(trak, fresh)
    text = tree.one("div", "pair").text
    assert (
        f"{line.r2:.2f}" in text and "Calibration, TRAK" in text and "Spread over targets, Datamodel" in text
    )
    sides = tree.all("article", "target-card")[0].all("p", "method")
    assert [side.text for side in sides] == ["TRAK", "Datamodel"]


def test_given_judgements_are_shown_as_they_are(tmp_path: Path, trak) -> None:
    tree = page(report(tmp_path / "a.html", trak, make_lds()))
    first, control, _ = tree.one("figure", "chart").all("div", "line")
    assert first.one("span", "value").text == "0.41 [0.38, 0.44] 0.56 of the ceiling"
    assert control.one("span", "value").text == "−0.01 [−0.04, 0.02] control"
    caption = tree.one("figure", "chart").one("figcaption").text
    assert "100 retraining subsets (2 seeds each), averaged over 12 targets" in caption
    assert (
        "Noise ceiling: 0.73 [0.70, 0.76]" in caption
        and "3 subsets with a diverged training left out" in caption
    )
    assert "one note" in tree.one("ul", "notes").text
    assert "0.41 [0.38, 0.44], where retraining noise lets nobody pass 0.73" in tree.one("p", "summary").text
    ceilings = tree.one("figure", "chart").all("line", "ceiling")
    assert len({node.attributes["x1"] for node in ceilings}) == 1 and len(ceilings) == 2


def test_an_lds_of_another_basis_is_told_apart(tmp_path: Path) -> None:
    other = make_lds(method="Datamodel", subsets=50, ceiling=0.8, ceiling_interval=None, left_out=0)
    tree = page(report(tmp_path / "a.html", make_lds(), other))
    caption = tree.one("figure", "chart").one("figcaption").text
    assert (
        "Datamodel was judged elsewhere: 50 subsets, 2 seeds each, 12 targets; noise ceiling 0.80." in caption
    )
    assert "TRAK was judged elsewhere" not in caption


def test_one_seed_has_no_ceiling_and_the_page_says_why(tmp_path: Path, trak, fresh) -> None:
    single = Outcomes(fresh.subsets, fresh.values[:, :1], fresh.status[:, :1])
    tree = page(report(tmp_path / "a.html", trak, single))
    caption = tree.one("figure", "chart").one("figcaption").text
    assert "Noise ceiling: not known: it takes a second seed per subset" in caption
    assert tree.one("figure", "chart").all("line", "ceiling") == []
    assert "lets nobody pass" not in tree.one("p", "summary").text


def test_relative_units_have_no_identity_line(tmp_path: Path, trak, fresh) -> None:
    assert len(page(report(tmp_path / "a.html", trak, fresh)).all("line", "identity")) == 1
    tree = page(report(tmp_path / "b.html", dataclasses.replace(trak, units="relative"), fresh))
    assert tree.all("line", "identity") == [] and len(tree.all("line", "fit")) == 1
    assert "the slope is the scale it lacks" in tree.one("div", "pair").text


def test_a_removal_test_shows_both_removals(tmp_path: Path) -> None:
    test = RemovalTest(
        "TRAK",
        20,
        np.arange(2),
        np.array([-1.0, -2.0]),
        np.array([0.1, 0.0]),
        -1.5,
        (-2.0, -1.0),
        0.05,
        (0.0, 0.1),
        "agree",
        3,
    )
    tree = page(report(tmp_path / "a.html", test))
    top, random, _ = tree.one("figure", "chart").all("div", "line")
    assert top.one("span", "name").text == "The 20 examples that help most"
    assert top.one("span", "value").text == "−1.50 [−2.00, −1.00]"
    assert random.one("span", "value").text == "+0.05 [0.00, 0.10]"
    assert len(top.all("circle", "dot")) == len(random.all("circle", "dot")) == 2
    assert tree.one("p", "verdict").text.startswith("Agree removing the examples that help most")


def test_judgements_alone_make_a_report(tmp_path: Path) -> None:
    line = Calibration(
        "TRAK",
        1.25,
        (1.0, 1.5),
        0.1,
        0.5,
        (0.4, 0.6),
        np.array([-1.0, 1.0]),
        np.array([-1.2, 1.3]),
        np.array([0.1, 0.1]),
        5,
        30,
    )
    tree = page(report(tmp_path / "a.html", make_lds(), line, make_answer()))
    assert tree.all("article", "target-card") == [] and tree.all("img") == []
    assert "Slope 1.25 [1.00, 1.50], R² 0.50 [0.40, 0.60]" in tree.one("div", "pair").text


# --- what-ifs ---


def test_a_what_if_shows_prediction_verification_and_removed_examples(tmp_path: Path, trak, examples) -> None:
    tree = page(report(tmp_path / "a.html", trak, make_answer()))
    answer = tree.one("article", "answer")
    assert answer.one("h3").text == "What if 20 training examples had not been there?"
    predicted, verified, _ = answer.all("div", "line")
    assert predicted.one("span", "value").text == "−1.90 [−2.40, −1.40]"
    assert verified.one("span", "value").text == "−1.60 [−1.90, −1.30] 3 pairs"
    assert len(verified.all("circle", "dot")) == 3 and predicted.all("circle", "dot") == []
    assert answer.one("p", "verdict").text == "Agree the retrainings bear the prediction out"
    assert "linearised at half of the data" in answer.one("ul", "notes").text
    shown = answer.one("ul", "removed").all("li")
    assert shown[-1].text == "and 8 more" and len(shown) == 13
    assert (pixels(shown[4].one("img")) == examples.images[4]).all()
    assert (pixels(answer.one("div", "ask").one("img")) == examples.images[7]).all()
    assert (
        "by −1.90 [−2.40, −1.40], and 3 pairs of retrainings measure −1.60 [−1.90, −1.30] (agree)"
        in tree.one("p", "summary").text
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("disagree", "contradict"), ("undecided", "too noisy"), ("unverified", "prediction only")],
)
def test_every_verdict_has_its_words_and_its_own_sign(tmp_path: Path, trak, verdict: str, words: str) -> None:
    unverified = (
        {"verified": None, "verified_interval": None, "differences": np.empty(0)}
        if verdict == "unverified"
        else {}
    )
    tree = page(report(tmp_path / "a.html", trak, make_answer(), make_answer(verdict=verdict, **unverified)))
    agree, other = tree.all("p", "verdict")
    assert words in other.text and other.text.startswith(verdict.capitalize())
    assert verdict in other.attributes["class"].split()
    signs = [[(c.tag, c.attributes) for c in p.one("svg", "icon").all()] for p in (agree, other)]
    assert signs[0] != signs[1]
    names = [line.one("span", "name").text for line in tree.all("article", "answer")[1].all("div", "line")]
    assert names == (["Predicted", ""] if verdict == "unverified" else ["Predicted", "Verified", ""])


def test_a_prediction_without_interval_says_so(tmp_path: Path, trak) -> None:
    tree = page(
        report(tmp_path / "a.html", trak, make_answer(predicted_interval=None, removed=np.array([3])))
    )
    assert (
        tree.one("article", "answer").all("div", "line")[0].one("span", "value").text == "−1.90 no interval"
    )
    assert "Removing it is predicted" in tree.one("article", "answer").text


# --- provenance ---


def test_provenance_is_complete(tmp_path: Path, trak, fresh) -> None:
    info = dataclasses.replace(trak.info, note="its models saw half")
    tree = page(report(tmp_path / "a.html", dataclasses.replace(trak, info=info), fresh))
    method, truth = tree.all("article", "origin")
    rows = {row.one("dt").text: row.one("dd").text for row in method.all("div")}
    assert (
        rows["models"] == "3" and rows["dim"] == "512" and rows["seconds"] == "12.5" and rows["rank"] == "64"
    )
    assert (
        rows["question"] == "abc123"
        and rows["data share seen"] == "50 %"
        and rows["removal"].startswith("repack")
    )
    assert method.one("p", "note").text == "its models saw half"
    assert "30 subsets" in truth.text and "50 %" in truth.text


# --- refusals ---


def test_no_parts(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dl-950.*no parts"):
        report(tmp_path / "a.html")


def test_an_unknown_part() -> None:
    with pytest.raises(BadInput, match=r"dl-951.*type int.*Attribution, Outcomes, LDS"):
        sort_parts([3])


def test_an_attribution_without_its_examples(tmp_path: Path, trak) -> None:
    for missing in ("train", "targets"):
        with pytest.raises(BadInput, match=r"dl-952.*TRAK.*train=question.train"):
            report(tmp_path / "a.html", dataclasses.replace(trak, **{missing: None}))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_different_questions(tmp_path: Path, trak, fresh) -> None:
    path = tmp_path / "a.html"
    elsewhere = dataclasses.replace(trak, info=dataclasses.replace(trak.info, method="B", question="other"))
    smaller = dataclasses.replace(trak, scores=trak.scores[:3], uncertainty=None, info=elsewhere.info)
    cases = {
        "2 sets of outcomes": (trak, fresh, fresh),
        "the questions abc123 and other": (trak, elsewhere),
        r"\(40, 3\) and \(40, 12\)": (trak, smaller),
        "two attributions named TRAK": (trak, trak),
        "an LDS over 3 target rows": (trak, make_lds(per_target=np.zeros(3))),
        "a what-if of target 99": (trak, make_answer(target=99)),
        "removing up to row 400": (trak, make_answer(removed=np.array([400]))),
        "holding 12 and 12": (dataclasses.replace(trak, train=trak.targets),),
    }
    for found, parts in cases.items():
        with pytest.raises(BadInput, match=f"dl-953.*{found}"):
            report(path, *parts)
    assert not path.exists()


def test_images_that_cannot_be_shown(tmp_path: Path, trak, examples) -> None:
    floats = dataclasses.replace(examples, images=examples.images / 255)
    with pytest.raises(BadInput, match=r"dl-954.*float64"):
        report(tmp_path / "a.html", dataclasses.replace(trak, train=floats))


def test_targets_and_top_that_cannot_be_meant(tmp_path: Path, trak) -> None:
    path = tmp_path / "a.html"
    with pytest.raises(BadInput, match=r"dl-109.*row 12.*12 rows"):
        report(path, trak, targets=[0, 12])
    with pytest.raises(BadInput, match=r"dl-955.*the top 0"):
        report(path, trak, top=0)
    with pytest.raises(BadInput, match=r"dl-955.*without attributions"):
        report(path, make_lds(), targets=[0])
    assert len(page(report(path, trak, targets=[0], top=1000)).one("article", "target-card").all("li")) == N
