"""Supports, leaks, wrong labels and influences of groups on the page: their numbers, words and drawings."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from report_reading import M, N, Node, number, page, pixels

from dataloupe import BadInput
from dataloupe.apps import (
    GroupInfluences,
    Leaks,
    Mislabels,
    Support,
    SupportCase,
    group_influences,
    leaks,
)
from dataloupe.core import Outcomes, Subsets
from dataloupe.report import report


def case(target: int, rows: list[int], **changes: object) -> SupportCase:
    given = {
        "target": target,
        "margin": 1.5,
        "crossing": len(rows) - 0.5 if rows else None,
        "rows": np.array(rows, dtype=np.int64),
        "predicted": -0.25 if rows else None,
        "values": np.array([-1.0, -1.2, -1.1]) if rows else np.empty(0),
    }
    return SupportCase(**(given | changes))


def make_support(*cases: SupportCase, **changes: object) -> Support:
    given = {
        "method": "TRAK",
        "kind": "remove",
        "n": N,
        "limit": 20,
        "inflate": 1.2,
        "verify": 3,
        "predicts": True,
        "cases": cases,
        "notes": ("linearised at half",),
    }
    return Support(**(given | changes))


def make_mislabels(rng: np.random.Generator, **changes: object) -> Mislabels:
    scores = rng.normal(size=N)
    given = {
        "by": "mean",
        "output": "margin",
        "order": np.argsort(-scores, kind="stable"),
        "scores": scores,
        "errors": np.full(N, 0.125),
        "trainings": 30,
    }
    return Mislabels(**(given | changes))


def make_groups(rng: np.random.Generator, m: int = 1, **changes: object) -> GroupInfluences:
    groups = np.arange(N) % 4
    masks = Subsets(N, 60, kind="groups", groups=groups).masks()
    members = masks[:, :4].astype(float)
    values = members @ np.array([3.0, 0.0, 0.0, -3.0]) + rng.normal(size=60) * 0.1
    outcomes = Outcomes.from_arrays(masks, np.repeat(values[:, None], m, axis=1))
    names = dict(enumerate(["cats", "dogs", "ants", "bees"]))
    return dataclasses.replace(group_influences(outcomes, groups, names=names), **changes)


def finding(path: Path) -> Node:
    return page(path).one("article", "finding")


def entries(panel: Node) -> list[Node]:
    return [entry for entry in panel.one("ol", "entries").children if isinstance(entry, Node)]


def facts(entry: Node) -> dict[str, str]:
    return {row.one("dt").text: row.one("dd").text for row in entry.one("dl").all("div")}


# --- supports ---


def test_a_support_shows_its_share_its_curve_and_the_smallest(tmp_path: Path, trak, examples) -> None:
    kept = case(5, [9, 8, 7, 6, 5, 4, 3, 2], values=np.array([0.9, 1.0, 1.1]))
    found = make_support(kept, case(3, [11, 12]), case(4, []), case(2, [30]))
    panel = finding(report(tmp_path / "a.html", trak, found))
    assert f"{found}.".replace("removal", "Removal", 1) in panel.text and "2 of 3 flip" in panel.text
    assert panel.one("p", "verdict").text.startswith("Undecided")
    small, middle, large = entries(panel)
    assert facts(small) == {
        "margin": "1.50",
        "removed": "1",
        "predicted": "−0.25",
        "retrained": "−1.10 [−1.35, −0.85]",
        "verdict": "flipped",
    }
    assert facts(middle)["removed"] == "2" and facts(large)["verdict"] == "kept"
    assert (pixels(small.one("div", "target").one("img")) == examples.images[2]).all()
    shown = large.one("ul", "removed").all("li")
    assert shown[-1].text == "and 2 more" and (pixels(shown[0].one("img")) == examples.images[9]).all()
    assert "linearised at half" in panel.one("ul", "notes").text
    assert len(panel.all("polyline", "stairs")) == 2 and len(panel.all("polygon", "wash")) == 1


def test_the_curve_steps_where_targets_flip(tmp_path: Path) -> None:
    found = make_support(case(0, [1]), case(1, [1, 2, 3]), case(2, []))
    panel = finding(report(tmp_path / "a.html", found))
    (solid,) = [line for line in panel.all("polyline") if line.attributes["class"] == "stairs"]
    points = [tuple(map(float, point.split(","))) for point in solid.attributes["points"].split()]
    xs, ys = np.array(points).T
    assert (np.diff(xs) >= 0).all() and (np.diff(ys) <= 0).all()
    heights = (ys[0] - np.unique(ys)[::-1]) / (ys[0] - ys.min())
    assert heights == pytest.approx([0.0, 0.5, 1.0], abs=1e-3)
    assert panel.all("img") == []


@pytest.mark.parametrize(
    ("values", "word"),
    [([-1.0, -1.1], "Agree"), ([1.0, 1.1], "Disagree"), ([], "Unverified")],
)
def test_the_claim_is_that_most_removals_flip(tmp_path: Path, values: list[float], word: str) -> None:
    cases = [case(j, [j], values=np.array(values)) for j in range(10)]
    assert (
        finding(report(tmp_path / "a.html", make_support(*cases)))
        .one("p", "verdict")
        .text.startswith(f"{word} ")
    )


def test_nothing_found_and_nothing_right_have_pages_too(tmp_path: Path) -> None:
    nothing = make_support(case(1, []), predicts=False, inflate=None)
    wrong = make_support(case(1, [], margin=-1.0, crossing=0.0))
    for found in (nothing, wrong):
        panel = finding(report(tmp_path / "a.html", found))
        assert panel.all("svg") == [] and panel.all("ol") == []
    relabelled = make_support(case(1, [3], relabelled=2, predicted=None), kind="relabel", predicts=False)
    assert facts(finding(report(tmp_path / "b.html", relabelled)))["relabelled as class 2"] == "1"


# --- leaks and wrong labels ---


def test_leaks_are_pairs_of_pictures(tmp_path: Path, trak, examples) -> None:
    found = leaks(trak, 14)
    panel = finding(report(tmp_path / "a.html", trak, found))
    pairs = entries(panel)
    assert len(pairs) == 10 and "4 more pairs are not shown." in panel.text
    for p, entry in enumerate(pairs):
        target, row = int(found.targets[p]), int(found.rows[p])
        known = facts(entry)
        assert number(known["score"]) == pytest.approx(found.scores[p], abs=5.1e-4)
        weight, error = (number(part) for part in known["weight"].split(" ± "))
        assert weight == pytest.approx(found.weights[p], abs=5.1e-3)
        assert error == pytest.approx(found.errors[p], abs=5.1e-3)
        assert ("labels" in known) == (target % 3 != row % 3)
        first, second = entry.all("img")
        assert (pixels(first) == examples.images[target]).all()
        assert (pixels(second) == examples.images[row]).all()
    nothing = leaks(trak, threshold=2.0)
    assert "No training example stands out" in finding(report(tmp_path / "b.html", trak, nothing)).text


def test_wrong_labels_are_cards(tmp_path: Path, trak, examples, rng) -> None:
    found = make_mislabels(rng)
    panel = finding(report(tmp_path / "a.html", trak, found))
    cards = panel.one("ol", "gallery").all("li")
    assert len(cards) == 16 and "from 30 trainings" in panel.text
    for row, card in zip(found.order.tolist(), cards, strict=False):
        assert card.one("span", "number").text == f"#{row}"
        assert card.one("span", "label").text == ["fox", "owl", "hare"][row % 3]
        assert number(card.one("span", "score").text) == pytest.approx(found.scores[row], abs=5.1e-3)
        assert card.one("span", "error-words").text == "± 0.12"
        assert (pixels(card.one("img")) == examples.images[row]).all()
    plain = make_mislabels(rng, errors=None, by="effect", trainings=0)
    panel = finding(report(tmp_path / "b.html", plain))
    assert panel.all("span", "error-words") == [] and "training" not in panel.text.split("effect")[1]


# --- groups ---


def test_groups_are_bars_and_what_stands_out_is_marked(tmp_path: Path, rng) -> None:
    found = make_groups(rng)
    panel = finding(report(tmp_path / "a.html", found))
    order = np.argsort(-found.influence[0])
    *lines, _ = panel.one("figure", "chart").all("div", "line")
    assert [line.one("span", "name").text for line in lines] == [found.groups[g] for g in order]
    for g, line in zip(order, lines, strict=True):
        shown = [number(part) for part in re.findall(r"[−+]?\d+\.\d+", line.one("span", "value").text)]
        exact = (found.influence[0, g], found.low[0, g], found.high[0, g])
        assert shown[:3] == pytest.approx(exact, abs=5.1e-3)
        assert ("stands out" in line.text) == bool(found.found[0, g])
        tone = "quiet" if not found.found[0, g] else "accent" if found.influence[0, g] > 0 else "warm"
        assert len(line.all("line", tone)) == 1
    assert "every subset keeps the same number of groups" in panel.one("ul", "notes").text


def test_a_group_that_raises_a_loss_has_the_colour_of_what_hurts(tmp_path: Path, rng) -> None:
    found = make_groups(rng, provenance={"better": "lower"})
    *lines, _ = finding(report(tmp_path / "a.html", found)).one("figure", "chart").all("div", "line")
    assert [line.one("span", "name").text for line in (lines[0], lines[-1])] == ["cats", "bees"]
    assert len(lines[0].all("line", "warm")) == len(lines[-1].all("line", "accent")) == 1


def test_many_groups_and_outputs_are_counted(tmp_path: Path, rng) -> None:
    panel = finding(report(tmp_path / "a.html", make_groups(rng, m=12)))
    assert len(panel.all("figure", "chart")) == 10 and "2 more outputs are not shown." in panel.text
    groups = np.arange(N)
    masks = Subsets(N, 50, kind="groups", groups=groups).masks()
    many = group_influences(Outcomes.from_arrays(masks, rng.normal(size=(50, 1))), groups)
    panel = finding(report(tmp_path / "b.html", many))
    assert len(panel.all("div", "line")) == 25 and "16 groups between the ends not shown." in panel.text


# --- all of them ---


def test_what_comes_from_data_is_escaped(tmp_path: Path, trak, examples, rng) -> None:
    bad = "<script>alert(1)</script>"
    named = dataclasses.replace(examples, names=[bad] * 3)
    held = dataclasses.replace(trak, train=named, targets=named[:M])
    groups = make_groups(rng, groups=(bad, "b", "c", "d"), notes=(bad,))
    parts = (
        make_support(case(2, [1]), method=bad, notes=(bad,)),
        dataclasses.replace(leaks(trak, 3), method=bad, notes=(bad,)),
        make_mislabels(rng, output=bad, notes=(bad,)),
        groups,
    )
    path = report(tmp_path / "a.html", held, *parts)
    assert "<script" not in path.read_text()
    tree = page(path)
    assert len(tree.all("article", "finding")) == 4 and tree.all("script") == []
    assert all(bad in panel.text for panel in tree.all("article", "finding"))


def test_the_page_leads_to_its_findings_and_may_begin_with_one(tmp_path: Path, trak, rng) -> None:
    tree = page(report(tmp_path / "a.html", make_mislabels(rng)))
    assert [link.attributes["href"] for link in tree.one("nav").all("a")] == ["#findings"]
    assert tree.one("p", "summary").text.startswith("40 training examples ranked by how likely")
    assert page(report(tmp_path / "b.html", trak)).all("article", "finding") == []


@pytest.mark.parametrize("kind", [Support, Leaks, Mislabels, GroupInfluences])
def test_findings_over_other_data_are_refused(tmp_path: Path, trak, rng, kind: type) -> None:
    other = {
        Support: make_support(case(2, [1]), n=N + 1),
        Leaks: dataclasses.replace(
            leaks(trak, 3), best=np.zeros(M + 1), best_rows=np.zeros(M + 1, dtype=np.int64)
        ),
        Mislabels: make_mislabels(rng, order=np.arange(N + 1), scores=np.zeros(N + 1), errors=None),
        GroupInfluences: make_groups(rng, member=np.zeros(N - 1, dtype=np.int64)),
    }[kind]
    with pytest.raises(BadInput, match=rf"dl-953.*{kind.__name__}"):
        report(tmp_path / "a.html", trak, other)
    assert list(tmp_path.iterdir()) == []
