"""The file and its targets: what is on the page is what was put in; what cannot be shown is refused."""

import dataclasses
import itertools
import os
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from report_reading import M, N, Tree, make_answer, make_lds, number, page, pixels

from dataloupe._errors import BadInput, StoreError
from dataloupe.core import Examples
from dataloupe.judge import Control
from dataloupe.report import report
from dataloupe.report._cards import SPREAD
from dataloupe.report._parts import sort_parts
from dataloupe.report._words import NORMAL_95

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


def test_no_name_is_cut() -> None:
    """A class name wraps: "tro..." tells nobody what is meant, and a phone has no place to point at."""
    css = resources.files("dataloupe.report").joinpath("page.css").read_text()
    assert "ellipsis" not in css and "line-clamp" not in css
    for rule in re.findall(r"([^{}]*\.label[^{}]*)\{([^{}]*)\}", css):
        assert "nowrap" not in rule[1] and "overflow: hidden" not in rule[1], rule


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


@pytest.mark.parametrize(
    ("better", "words", "first"),
    [
        ("higher", ("helps", "hurts"), 1.0),
        ("lower", ("helps", "hurts"), -1.0),
        (None, ("raises", "lowers"), 1.0),
    ],
)
def test_what_is_good_for_the_target_stands_first_in_its_colour(
    tmp_path: Path, trak, better, words, first
) -> None:
    """Of a loss the rows that lower it help; an output without a direction is raised and lowered."""
    scores = np.zeros((M, N))
    scores[0, [4, 7, 9, 11]] = np.array([2.0, 1.0, -1.0, -3.0]) * first
    info = dataclasses.replace(trak.info, better=better, output="value")
    tree = page(report(tmp_path / "a.html", dataclasses.replace(trak, scores=scores, info=info), targets=[0]))
    card = tree.one("article", "target-card")
    assert [node.text for node in card.all("h4")] == [word.capitalize() for word in words]
    for word, tone, turn, ids in zip(
        words, ("accent", "warm"), (1, -1), (["#4", "#7"], ["#11", "#9"]), strict=True
    ):
        items = card.one("div", word).all("li")
        assert [item.one("span", "number").text for item in items] == ids
        assert all(turn * first * number(item.one("span", "score").text) > 0 for item in items)
        assert [item.all("rect", "fill")[0].attributes["class"] for item in items] == [f"fill {tone}"] * 2
    said = tree.one("section", "reading").text
    assert ("helps when having it in the training data lowers" in said) == (better == "lower")
    assert ("neither is better by itself" in said) == (better is None)
    assert {node.attributes["class"] for node in tree.one("section", "reading").all("em")} == set(words)


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
        r"\(40, 3\) and \(40, 12\)": (trak, smaller),
        "two attributions named TRAK": (trak, trak),
        "an LDS over 3 target rows": (trak, make_lds(per_target=np.zeros(3))),
        "a what-if of target 99": (trak, make_answer(target=99)),
        "removing up to row 400": (trak, make_answer(removed=np.array([400]))),
    }
    for found, parts in cases.items():
        with pytest.raises(BadInput, match=f"dl-953.*{found}"):
            report(path, *parts)
    with pytest.raises(BadInput, match=r"dl-512.*TRAK is of abc123, B of other"):
        report(path, trak, elsewhere)
    assert not path.exists()


def test_images_that_cannot_be_shown(tmp_path: Path, trak, examples) -> None:
    """Examples refuse them when they are given; what shows a picture of another kind is refused here."""
    floats = dataclasses.replace(examples, images=examples.images / 255)
    assert np.array_equal(floats.images, examples.images)
    with pytest.raises(BadInput, match=r"dl-130.*outside 0 to 1"):
        dataclasses.replace(examples, images=examples.images / 127.5 - 1)
    object.__setattr__(floats, "images", examples.images / 255)
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
