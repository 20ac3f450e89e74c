"""Receipts of unlearning on the page: the request, verdicts, numbers, drawings, pictures."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from report_reading import N, Node, number, page, pixels

from dataloupe import BadInput
from dataloupe.core import DenseAttribution, Examples
from dataloupe.judge import audit_outputs
from dataloupe.report import report
from dataloupe.report._receipt import RootScale
from dataloupe.unlearning import Gates, MethodCost, Receipt, rows_digest

FORGET = np.array([2, 5, 7, 11, 30])
T = 8
"""Targets."""


def make_receipt(
    rng: np.random.Generator, looks: tuple[Examples, Examples] | None, **changes: object
) -> Receipt:
    """ "good" is like retraining, "idle" like doing nothing; rows to forget are known to models before."""
    labels = np.arange(N + T) % 3

    def outputs(known: float) -> np.ndarray:
        found = rng.normal(size=(30, N + T, 3)) * 0.5
        found[:, np.arange(N + T), labels] += 2.0
        found[:, FORGET, labels[FORGET]] += known
        return found

    oracles, full = outputs(0.0), outputs(6.0)
    splits = {
        "forget": FORGET,
        "retain": np.setdiff1d(np.arange(N), FORGET),
        "validation": np.arange(N, N + T),
    }
    methods = {"good": outputs(0.0), "idle": outputs(6.0)}
    given = {
        "audit": audit_outputs(
            methods, oracles, full, labels, splits, estimator="gaussian", diverged={"idle": 0}
        ),
        "costs": {
            "good": MethodCost(0.042, 1234.0, 0.5, 500, {"epochs": 4, "by": {"fraction": 0.75}}),
            "idle": MethodCost(1.5, 40000.0, 0.1, 0, {}),
        },
        "forget": FORGET,
        "digest": rows_digest(FORGET),
        "train": "data123",
        "question": "abc123",
        "rows": N,
        "seed": 3,
        "gates": Gates(0.25, 8.0),
        "looks": looks,
    }
    return Receipt(**(given | changes))


@pytest.fixture
def looks(examples: Examples) -> tuple[Examples, Examples]:
    return examples, examples[:T]


@pytest.fixture
def receipt(rng: np.random.Generator, looks: tuple[Examples, Examples]) -> Receipt:
    return make_receipt(rng, looks)


def tables(panel: Node) -> dict[str, list[list[str]]]:
    """The cells of every table under its title."""
    return {
        table.one("caption").text: [
            [cell.text for cell in row.all("td")] for row in table.one("tbody").all("tr")
        ]
        for table in panel.all("table", "numbers")
    }


def test_the_request_and_the_verdict(
    tmp_path: Path, receipt: Receipt, looks: tuple[Examples, Examples]
) -> None:
    whole = page(report(tmp_path / "a.html", receipt, title="A receipt"))
    panel = whole.one("article", "finding")
    assert "against 30 models that never saw them, good passes every gate, idle fails" in panel.text
    verdict = panel.one("p", "verdict").text
    assert verdict.startswith("Passes good: normalised KLoM of at most 0.25")
    assert "evidence, not proof" in verdict
    told = {row.one("dt").text: row.one("dd").text for row in panel.one("dl", "told").all("div")}
    assert told == {
        "request": receipt.digest,
        "rows": "5 of 40 (12.5 %)",
        "training data": "data123",
        "question": "abc123",
        "seed": "3",
    }
    shown = panel.one("section", "direction").all("img")
    assert [(pixels(one) == looks[0].images[row]).all() for one, row in zip(shown, FORGET, strict=True)] == [
        True
    ] * 5
    assert "idle: forget: normalised KLoM" in panel.one("ul", "notes").text
    assert "evidence, not proof" in whole.one("section", "reading").text
    assert "A score belongs" not in whole.text, "no word of scores where there are none"
    assert "Unlearning by good" in whole.text and "by · fraction" in whole.text


def test_every_number_is_the_audits(tmp_path: Path, receipt: Receipt) -> None:
    found = tables(page(report(tmp_path / "a.html", receipt)).one("article", "finding"))
    good, idle = found["What each method costs"]
    assert good == ["good", "4.2 %", "0.5 s", "500", "522 requests", "passes"]
    assert (idle[1], idle[4], idle[5]) == ("150 %", "never", "fails")
    rows = found["How far from retraining"]
    assert [row[0] for row in rows] == ["nothing (30)", "", "", "good (30)", "", "", "idle (30)", "", ""]
    audit = receipt.audit
    for row, (name, split) in zip(rows, [(m, s) for m in audit.methods for s in audit.accuracy], strict=True):
        at = audit.methods[name].splits[split]
        assert (row[1], number(row[2])) == (split, at.points)
        levels = [at.oracle_first.p50, at.oracle_first.p95, at.oracle_first.p99]
        assert [number(cell) for cell in row[3:6]] == pytest.approx(levels, abs=0.006)
        assert number(row[6]) == pytest.approx(audit.methods[name].floor.oracle_first.p95, abs=0.006)
        assert (
            row[7] == "-"
            if at.normalised is None
            else number(row[7]) == pytest.approx(at.normalised, abs=0.006)
        )
        assert number(row[8]) == pytest.approx(at.accuracy, abs=6e-4)
        assert number(row[9]) == pytest.approx(audit.accuracy[split], abs=6e-4)
    assert [row[11] for row in rows] == [
        "",
        "",
        "",
        "passes",
        "passes",
        "passes",
        "fails",
        "passes",
        "passes",
    ]


def test_the_worst_points_come_with_three_margins(
    tmp_path: Path, receipt: Receipt, looks: tuple[Examples, Examples]
) -> None:
    panel = page(report(tmp_path / "a.html", receipt)).one("article", "finding")
    rows = tables(panel)["Where good is farthest from retraining"]
    points = receipt.audit.methods["good"].worst[:8]
    pictures = panel.all("table", "numbers")[2].all("img")
    for row, point, shown in zip(rows, points, pictures, strict=True):
        train = point.row < N
        place = point.row if train else point.row - N
        label = looks[0].label_name(place)
        assert row[:2] == [f"{'row' if train else 'target'} {place} ({label})", point.split]
        for cell, (mean, sd) in zip(row[3:], (point.unlearned, point.oracles, point.full), strict=True):
            assert [number(part) for part in cell.split(" ± ")] == pytest.approx([mean, sd], abs=0.006)
        assert (pixels(shown) == looks[0].images[place]).all()


def test_the_drawings_stand_where_the_numbers_are(tmp_path: Path, receipt: Receipt) -> None:
    panel = page(report(tmp_path / "a.html", receipt)).one("article", "finding")
    assert [node.text for node in panel.all("h4", "above")] == [
        "On the rows to forget.",
        "On the retained rows.",
        "On the targets.",
    ]
    forget, retain, _ = panel.all("figure", "chart")
    nothing, good, idle = (line.one("svg", "strip") for line in forget.all("div", "line")[:3])
    place = {
        name: float(svg.one("circle", "point").attributes["cx"][:-1])
        for name, svg in {"nothing": nothing, "good": good, "idle": idle}.items()
    }
    assert place["good"] < place["idle"]
    undone = float(nothing.one("line", "ceiling").attributes["x1"][:-1])
    assert undone == pytest.approx(place["nothing"], abs=0.01)
    assert [
        len(svg.all("circle", tone)) for svg, tone in ((nothing, "quiet"), (good, "accent"), (idle, "warm"))
    ] == [1, 1, 1]
    band = float(good.one("rect", "band").attributes["width"][:-1])
    floor = receipt.audit.methods["good"].floor.oracle_first.p95
    level = receipt.audit.methods["idle"].splits["forget"].oracle_first.p95
    assert (band / place["idle"]) ** 2 == pytest.approx(floor / level, rel=0.02), "a square root"
    assert retain.all("circle", "warm") == []


def test_where_doing_nothing_passes_a_pass_tells_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    receipt = make_receipt(rng, None)
    splits = receipt.audit.methods
    still = dataclasses.replace(
        receipt.audit,
        methods={
            name: dataclasses.replace(
                method,
                splits={
                    split: dataclasses.replace(at, normalised=None) for split, at in method.splits.items()
                },
            )
            for name, method in splits.items()
        },
    )
    gates = Gates(0.25, 1e6)
    panel = page(report(tmp_path / "a.html", dataclasses.replace(receipt, audit=still, gates=gates))).one(
        "article", "finding"
    )
    assert panel.one("p", "verdict").text.startswith("Nothing to tell good passes, but doing nothing")
    assert panel.all("img") == []
    assert "#2 #5 #7 #11 #30" in panel.text, "rows by number where nobody can see them"


def test_a_method_that_fails_says_where(tmp_path: Path, rng: np.random.Generator) -> None:
    receipt = make_receipt(rng, None)
    costs = {name: receipt.costs[name] for name in ("idle", "good")}
    panel = page(report(tmp_path / "a.html", dataclasses.replace(receipt, costs=costs))).one(
        "article", "finding"
    )
    assert panel.one("p", "verdict").text.startswith("Fails idle: forget: normalised KLoM")
    json.dumps(receipt.to_json())


def test_names_are_escaped_and_many_rows_counted(
    tmp_path: Path, rng: np.random.Generator, examples: Examples
) -> None:
    receipt = make_receipt(rng, (examples, examples[:T]))
    many = dataclasses.replace(receipt, forget=np.arange(20), train="<b>data</b>")
    path = report(tmp_path / "a.html", many)
    assert "<b>data</b>" not in path.read_text()
    panel = page(path).one("article", "finding")
    assert len(panel.one("section", "direction").all("img")) == 13
    assert "and 7 more" in panel.text
    assert path.read_bytes() == report(tmp_path / "b.html", many).read_bytes()


def test_beside_an_attribution_it_speaks_of_the_same_data(
    tmp_path: Path, receipt: Receipt, trak: DenseAttribution
) -> None:
    whole = page(report(tmp_path / "a.html", trak, receipt))
    assert "A score belongs" in whole.text and "Is what the rows taught gone?" in whole.text
    with pytest.raises(BadInput, match="dl-953"):
        report(tmp_path / "a.html", trak, dataclasses.replace(receipt, rows=N + 1))


def test_texts_stand_in_words(tmp_path: Path, rng: np.random.Generator) -> None:
    texts = Examples(torch.zeros(N, 2), torch.arange(N) % 3, texts=[f"text {i}" for i in range(N)])
    panel = page(report(tmp_path / "a.html", make_receipt(rng, (texts, texts[:T])))).one("article", "finding")
    assert "text 30" in panel.text


@pytest.mark.parametrize("high", [1e-3, 0.4, 1.6, 23.0, 5e4])
def test_a_root_scale_has_ticks_inside_it(high: float) -> None:
    scale = RootScale(0.0, high)
    ticks = scale.ticks()
    assert ticks[0] == 0.0 and 3 <= len(ticks) <= 6
    assert max(ticks) <= high * (1 + 1e-9)
    assert scale.at(high) == 1.0 and scale.at(-1.0) == 0.0
    assert scale.at(high / 4) == pytest.approx(math.sqrt(0.25))
    assert [float(scale.label(tick)) for tick in ticks] == ticks
