"""Judgements, what-ifs and provenance on the page: their numbers, their words, their drawings."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from report_reading import M, N, make_answer, make_lds, number, page, pixels

from dataloupe.core import Outcomes
from dataloupe.judge import Calibration, RemovalTest, calibration, lds
from dataloupe.report import report

# --- judgements ---


def test_outcomes_are_judged_and_shown_with_ceiling_and_controls(tmp_path: Path, trak, fresh, rng) -> None:
    other = dataclasses.replace(
        trak,
        scores=trak.scores + rng.normal(size=(M, N)),
        info=dataclasses.replace(trak.info, method="Datamodel"),
    )
    noise = dataclasses.replace(
        trak,
        scores=rng.normal(size=(M, N)),
        info=dataclasses.replace(trak.info, method="RandomScores", role="control"),
    )
    alike = dataclasses.replace(noise, info=dataclasses.replace(noise.info, method="feature similarity"))
    tree = page(report(tmp_path / "a.html", noise, trak, other, alike, fresh))
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
    assert [line.one("span", "name").text for line in lines[3:]] == ["feature similarity", ""]
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
    [
        ("disagree", "contradict"),
        ("undecided", "too noisy"),
        ("uninformative", "too vague"),
        ("unverified", "prediction only"),
    ],
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
    assert rows["models"] == "3" and rows["dim"] == "512" and "seconds" not in rows and rows["rank"] == "64"
    assert (
        rows["question"] == "abc123"
        and rows["data share seen"] == "50 %"
        and rows["removal"].startswith("repack")
    )
    assert method.one("p", "note").text == "its models saw half"
    assert "30 subsets" in truth.text and "50 %" in truth.text
