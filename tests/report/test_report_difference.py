"""Differences of algorithms and counterfactual tests on the page: their numbers, words and drawings."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from report_reading import M, N, Node, number, page, pixels

import dataloupe as dl
from dataloupe import BadInput, outputs, testing
from dataloupe.apps import Chance, Counterfactual, Difference, Directions, Enriched, Enrichment
from dataloupe.core import DenseAttribution, Examples, MemoryLab, Question
from dataloupe.report import report
from dataloupe.report._log_charts import Dot, LogScale, log_scatter


def make_difference(
    rng: np.random.Generator, kept: tuple[int, int] = (1, 1), components: int = 3, apart: float = 0.5
) -> Difference:
    """Of each side the first so many directions are above chance."""
    sides = []
    for i, (of, against) in enumerate((("with", "without"), ("without", "with"))):
        own = np.array([0.04, 0.02, 0.01, *[0.005] * components])[:components]
        sides.append(
            Directions(
                of,
                against,
                rng.normal(size=(components, N)),
                rng.normal(size=(M, components)),
                own,
                own,
                own / 8,
                p=np.full(components, 0.01),
                ratio_p=np.full(components, 0.02),
                stability=np.full(components, 0.75),
                kept=np.arange(components) < kept[i],
            )
        )
    chance = Chance(99, 10, True, 0.99, 0.1, 2.0, apart)
    cosine = np.linspace(0.2, 0.8, M)
    return Difference(
        ("with", "without"),
        "residual",
        (sides[0], sides[1]),
        cosine,
        np.full((2, M), 0.9),
        cosine / 0.9,
        chance,
        ("one note",),
    )


def line(column: str = "web", end: str = "top", of: str = "targets", **changes: object) -> Enriched:
    given = {"side": 0, "component": 0, "of": of, "end": end, "column": column, "value": "spider"}
    counts = {"inside": 4, "k": 5, "outside": 1, "rest": 7, "p": 0.001, "q": 0.01}
    return Enriched(**(given | counts | {"odds": 12.0, "interval": (2.0, 300.0)} | changes))


def findings(path: Path) -> list[Node]:
    return page(path).all("article", "finding")


def told(direction: Node) -> dict[str, str]:
    return {row.one("dt").text: row.one("dd").text for row in direction.one("dl", "told").all("div")}


def galleries(direction: Node) -> dict[str, Node]:
    return {end.one("h5").text: end for end in direction.all("div", "end")}


def test_a_difference_shows_its_answer_and_who_stands_at_the_ends(
    tmp_path: Path, trak: DenseAttribution, examples: Examples, rng: np.random.Generator
) -> None:
    found = make_difference(rng)
    (panel,) = findings(report(tmp_path / "a.html", trak, found))
    assert "with and without have a mean cosine of 0.50 (0.56 without noise)" in panel.text
    assert panel.one("p", "verdict").text == (
        "Different 2 directions are above the largest that 99 deals of the same models give, at 0.99"
    )
    first, second = panel.all("section", "direction")
    assert (first.one("h4").text, second.one("h4").text) == ("Direction 0 of with", "Direction 0 of without")
    facts = told(first)
    assert number(facts["variance under with"]) == pytest.approx(0.04)
    assert number(facts["under without"]) == pytest.approx(0.005)
    assert (facts["ratio"], facts["stability"]) == ("8", "0.75")
    assert facts["p"] == "0.01, of the ratio 0.02"
    ends = galleries(second)
    side = found.sides[1]
    for title, ids in {
        "Targets that it moves most, either way": side.most(0, M),
        "Targets at the top": side.targets(0, 6)[0],
        "Targets at the bottom": side.targets(0, 6)[1],
        "Training rows at the top": side.rows(0, 6)[0],
        "Training rows at the bottom": side.rows(0, 6)[1],
    }.items():
        shown = ends.pop(title).one("ul", "removed").all("li")
        assert [one.one("span", "number").text for one in shown] == [f"#{i}" for i in ids]
        assert (pixels(shown[0].one("img")) == examples.images[ids[0]]).all()
    assert ends == {}
    assert panel.one("ul", "notes").text == "one note"


def test_both_variances_of_every_direction_are_drawn(tmp_path: Path, rng: np.random.Generator) -> None:
    found = make_difference(rng)
    (panel,) = findings(report(tmp_path / "a.html", found))
    variances, cosines = panel.all("svg", "plot")
    dots = variances.all("circle", "point")
    assert [len(variances.all("circle", tone)) for tone in ("accent", "warm", "quiet")] == [1, 1, 4]
    places = {tuple(float(dot.attributes[axis]) for axis in ("cx", "cy")) for dot in dots}
    (mine,), (other,) = (variances.all("circle", tone) for tone in ("accent", "warm"))
    x, y = (float(mine.attributes[axis]) for axis in ("cx", "cy"))
    assert len(places) == 6
    assert x > float(other.attributes["cx"]) and y > float(other.attributes["cy"]), (
        "below the line, right of it"
    )
    assert [text.text for text in variances.all("text", "mark")] == ["0", "0"]
    assert len(variances.all("line", "identity")) == 1
    assert len(cosines.all("polyline", "outline")) == 1 and len(cosines.all("line", "ceiling")) == 1


def test_what_the_ends_have_in_common_stands_there(tmp_path: Path, trak, rng) -> None:
    found = make_difference(rng)
    lines = (line(), line("<b>", "bottom", "rows"), *(line(f"c{i}", "most") for i in range(6)), line(q=0.5))
    enriched = Enrichment(found, ((0, 0), (1, 0)), lines, 0.05, ("2 values too rare",))
    (panel,) = findings(report(tmp_path / "a.html", trak, found, enriched))
    first, second = panel.all("section", "direction")
    ends = galleries(first)
    common = [item.text for item in ends["Targets at the top"].all("ul", "common")]
    assert common == ["web spider: 4 of 5 (80%; elsewhere 14.3%), odds ratio 12 [2, 300], q 0.01"]
    assert "<b> spider: 4 of 5" in ends["Training rows at the bottom"].text
    assert "and 2 more values" in ends["Targets that it moves most, either way"].text
    assert second.all("ul", "common") == []
    assert "2 values too rare" in panel.one("ul", "notes").text


def test_nothing_found_and_no_null_have_pages_too(tmp_path: Path, rng: np.random.Generator) -> None:
    nothing = make_difference(rng, kept=(0, 0))
    (panel,) = findings(report(tmp_path / "a.html", nothing))
    assert panel.one("p", "undecided").text.startswith("No difference found no direction is above")
    assert panel.all("section", "direction") == [] and "no direction is above chance" in panel.text
    plain = tuple(
        dataclasses.replace(side, p=None, ratio_p=None, stability=None, kept=None) for side in nothing.sides
    )
    unheld = dataclasses.replace(nothing, sides=plain, chance=None, denoised=None, reliability=None)
    (panel,) = findings(report(tmp_path / "b.html", unheld))
    assert panel.one("p", "unverified").text.startswith("Unverified")
    assert len(panel.all("polyline", "outline")) == 0


def test_many_small_differences_are_a_difference(tmp_path: Path, rng: np.random.Generator) -> None:
    (panel,) = findings(report(tmp_path / "a.html", make_difference(rng, kept=(0, 0), apart=0.005)))
    words = panel.one("p", "agree").text
    assert words.startswith("Different rows are less alike than those of deals (p 0.005)")
    assert panel.all("section", "direction") == []


def test_many_directions_are_counted_and_without_examples_rows_are_numbers(tmp_path: Path, rng) -> None:
    found = make_difference(rng, kept=(6, 2), components=6)
    (panel,) = findings(report(tmp_path / "a.html", found))
    assert len(panel.all("section", "direction")) == 6
    assert "2 more directions above chance not shown." in panel.text
    assert panel.all("img") == []
    top = found.sides[0].targets(0, 6)[0]
    shown = galleries(panel.all("section", "direction")[0])["Targets at the top"]
    assert shown.one("p", "none").text == " ".join(f"#{i}" for i in top)


def test_texts_and_table_rows_stand_at_the_ends(tmp_path: Path, trak, examples, rng) -> None:
    found = make_difference(rng)
    texts = dataclasses.replace(examples, images=None, texts=[f"text <i>{i}</i>" for i in range(N)])
    shown = dataclasses.replace(trak, train=texts, targets=texts[:M])
    (panel,) = findings(report(tmp_path / "a.html", shown, found))
    most = found.sides[0].most(0, 4)
    first = galleries(panel.all("section", "direction")[0])["Targets that it moves most, either way"]
    assert [p.text for p in first.all("p", "text")] == [f"text <i>{i}</i>" for i in most]
    rows = dataclasses.replace(examples, images=None, meta={"web": ["spider"] * N})
    shown = dataclasses.replace(trak, train=rows, targets=rows[:M])
    (panel,) = findings(report(tmp_path / "b.html", shown, found))
    assert all("web=spider" in one.text for one in panel.all("section", "direction"))


def test_parts_of_other_data_are_refused(tmp_path: Path, trak, rng) -> None:
    found = make_difference(rng)
    fewer = dataclasses.replace(
        trak, scores=trak.scores[:-1], uncertainty=None, targets=trak.targets[: M - 1]
    )
    for wrong in (found, Enrichment(found, (), (), 0.05)):
        with pytest.raises(BadInput) as error:
            report(tmp_path / "a.html", fewer, wrong)
        assert error.value.code == "dl-953"


# --- counterfactual tests ---


def counterfactual(strengths: tuple[float, ...] = (0.5, 1.0)) -> Counterfactual:
    x = torch.eye(2).repeat(6, 1)
    sides = {"with": Examples(x, labels=3.0 * x[:, 0]), "without": Examples(x, labels=3.0 * x[:, 1])}
    targets = Examples(x[:4], torch.zeros(4))
    questions = {
        name: Question(testing.RidgeLearner(1e-3), train, targets, outputs.value)
        for name, train in sides.items()
    }
    test = dl.CounterfactualTest(dl.transforms.ShiftColumn(0, 1.0), strengths, measure="output")
    return test.run(questions, MemoryLab(), models=5)


def test_a_counterfactual_test_shows_its_dose_and_the_difference(tmp_path: Path) -> None:
    found = counterfactual()
    (panel,) = findings(report(tmp_path / "a.html", found))
    assert panel.one("h3").text == "Does ShiftColumn move with and not without?"
    assert panel.one("p", "verdict").text.lower().startswith(found.verdict)
    charts = panel.all("figure", "chart")
    names = ["with", "without", "with - without"]
    for name, chart in zip(names, charts, strict=True):
        *lines, _ = chart.all("div", "line")
        for strength, one in zip(found.strengths, lines, strict=True):
            effect = found.of(name, strength)
            shown = [number(part) for part in re.findall(r"[−+]?\d+\.\d+", one.one("span", "value").text)]
            assert shown == pytest.approx([effect.mean, *effect.interval], abs=6e-3)
        assert found.dose(name).course in chart.one("figcaption").text
    assert "within pairs" in charts[2].text if found.paired else "independent" in charts[2].text
    assert found.identity[:12] in panel.one("ul", "notes").text


def test_one_strength_has_no_slope(tmp_path: Path) -> None:
    (panel,) = findings(report(tmp_path / "a.html", counterfactual((1.0,))))
    assert "Slope" not in panel.text


def test_a_test_of_examples_that_are_not_there_is_refused(tmp_path: Path, trak) -> None:
    found = dataclasses.replace(counterfactual(), examples=np.array([0, 1, 2, N]))
    with pytest.raises(BadInput) as error:
        report(tmp_path / "a.html", trak, found)
    assert error.value.code == "dl-953"


# --- drawings ---


def test_logarithmic_axes() -> None:
    scale = LogScale(-3.0, 1.0)
    assert scale.at(0.1) == pytest.approx(0.5)
    assert scale.ticks() == pytest.approx([0.001, 0.01, 0.1, 1.0, 10.0])
    narrow = LogScale(-0.1, 1.0)
    assert narrow.ticks() == pytest.approx([1.0, 2.0, 5.0, 10.0])
    assert [narrow.label(tick) for tick in narrow.ticks()] == ["1", "2", "5", "10"]
    assert len(LogScale(-20.0, 20.0).ticks()) <= 8


@pytest.mark.parametrize("dots", [[Dot(0.0, 1.0)], [Dot(0.0, 0.0)], [Dot(1.0, 1.0, "accent", "0")] * 2])
def test_no_variance_stands_at_the_edge_and_names_do_not_pile_up(dots: list[Dot]) -> None:
    drawing = str(log_scatter(dots, names=("a", "<b>")))
    assert "nan" not in drawing and "inf" not in drawing and "<b>" not in drawing
    assert drawing.count('class="mark"') <= 1
