"""What the ends of a direction have in common: exact tests, planted values, and what chance finds."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats.contingency import odds_ratio

import dataloupe as dl
from dataloupe._errors import BadInput
from dataloupe.apps import Difference, Directions
from dataloupe.core import Examples

M, N = 120, 200


def difference(seed, components=2):
    """Directions at random: nothing about the examples is known to them."""
    draws = np.random.default_rng(seed)
    sides = []
    for of, against in (("A", "B"), ("B", "A")):
        vectors = draws.standard_normal((components, N))
        kept = np.arange(components) == 0
        ones = np.ones(components)
        told = (ones, ones, ones, kept)
        coordinates = draws.standard_normal((M, components))
        sides.append(Directions(of, against, vectors, coordinates, ones, ones, ones, *told))
    return Difference(("A", "B"), "residual", tuple(sides), np.ones(M))


def examples(rows, seed=0, **meta):
    draws = np.random.default_rng(seed)
    labels = torch.from_numpy(draws.integers(0, 3, rows))
    return Examples(torch.zeros(rows, 1), labels, names=["fox", "owl", "hare"], meta=meta)


def test_lines_are_fishers_exact_test():
    found = difference(0)
    targets = examples(M)
    said = dl.enrichment(found, targets=targets, directions=[(0, 1)], k=15)
    assert len(said.lines) == 9
    ends = dict(zip(("top", "bottom"), found.sides[0].targets(1, 15), strict=True))
    ends["most"] = found.sides[0].most(1, 15)
    names = np.array([targets.label_name(j) for j in range(M)])
    for line in said.lines:
        inside = np.isin(np.arange(M), ends[line.end])
        has = names == line.value
        table = [[int((has & inside).sum()), int((~has & inside).sum())]]
        table.append([int((has & ~inside).sum()), int((~has & ~inside).sum())])
        assert (line.inside, line.k - line.inside) == tuple(table[0])
        assert (line.outside, line.rest - line.outside) == tuple(table[1])
        assert line.p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    adjusted = stats.false_discovery_control([line.p for line in said.lines])
    assert [line.q for line in said.lines] == pytest.approx(adjusted)


def test_what_is_planted_is_found_with_its_odds():
    found = difference(1)
    top, _ = found.sides[0].targets(0, 20)
    bottom_rows = found.sides[1].rows(0, 20)[1]
    web = ["none"] * M
    size = np.random.default_rng(0).uniform(0, 1, N)
    for j in top[:16]:
        web[j] = "spider"
    web[int(found.sides[0].targets(0, 20)[1][0])] = "spider"
    size[bottom_rows] += 2
    said = dl.enrichment(found, examples(N, size=size.tolist()), examples(M, web=web), k=20)
    assert said.directions == ((0, 0), (1, 0)), "the kept ones"
    spider = next(line for line in said.of(0, 0) if line.end == "top")
    assert (spider.column, spider.value, spider.inside, spider.outside) == ("web", "spider", 16, 1)
    exact = odds_ratio([[16, 4], [1, 99]])
    assert spider.odds == pytest.approx(exact.statistic)
    assert spider.interval == pytest.approx(tuple(exact.confidence_interval()))
    (large,) = said.of(1, 0)
    assert (large.of, large.end, large.column, large.inside) == ("rows", "bottom", "size", 20)
    assert large.value.startswith("above ")
    assert "direction 0 of A, top 20 targets: web spider: 16 of 20 (80%; elsewhere 1.0%)" in str(said)
    facts = json.loads(json.dumps(said.to_json(), allow_nan=False))
    assert facts["lines"][0]["value"] == said.lines[0].value
    assert len(facts["lines"]) == len(said.lines) > len(said.found)


def test_chance_finds_something_in_at_most_a_twentieth():
    train = examples(N, 1, source=[f"s{i % 7}" for i in range(N)], size=np.linspace(0, 1, N).tolist())
    targets = examples(M, 2, tone=[i % 5 for i in range(M)])
    runs = 200
    wrong = sum(bool(dl.enrichment(difference(seed), train, targets).found) for seed in range(runs))
    assert wrong <= stats.binom.isf(0.01, runs, 0.05)


def test_numbers_become_quartiles_and_missing_ones_say_so():
    found = difference(2)
    top, _ = found.sides[0].targets(0, 30)
    size = np.arange(M, dtype=float)
    size[top] = np.nan
    few = [None if j in set(top) else j % 3 for j in range(M)]
    said = dl.enrichment(found, targets=examples(M, size=size.tolist(), few=few), directions=[(0, 0)], k=30)
    assert {line.value for line in said.lines if line.column == "few"} == {"missing", "0", "1", "2"}
    assert len({line.value for line in said.lines if line.column == "size"}) == 5
    missing = [line for line in said.found if (line.value, line.end) == ("missing", "top")]
    assert {line.column for line in missing} == {"few", "size"}
    assert all(line.inside == 30 and line.interval[1] == np.inf for line in missing)
    assert said.to_json()["lines"][0]["odds"] is None


def test_labels_that_are_numbers_are_cut_and_rows_of_labels_left_out():
    found = difference(3)
    numbers = Examples(torch.zeros(M, 1), torch.linspace(0, 1, M))
    said = dl.enrichment(found, targets=numbers, directions=[(0, 0)])
    assert {line.column for line in said.lines} == {"label"} and len(said.lines) == 12
    tokens = Examples(torch.zeros(M, 1), torch.zeros(M, 4, dtype=torch.int64), meta={"part": [0, 1] * 60})
    said = dl.enrichment(found, targets=tokens, directions=[(0, 0)])
    assert {line.column for line in said.lines} == {"part"}


def test_values_that_could_not_stand_out_cost_nothing():
    found = difference(4)
    named = examples(M, name=[f"row {j}" for j in range(M)])
    said = dl.enrichment(found, targets=named, directions=[(0, 0)], columns=["name"])
    assert said.lines == () and "360 values" in said.notes[0]
    assert "nothing is over-represented" in str(said)


def test_target_rows_of_one_example_share_its_label():
    found = difference(5)
    index = np.stack([np.arange(M) // 2, np.arange(M) % 2], axis=1)
    said = dl.enrichment(found, targets=examples(M // 2), directions=[(0, 0)], index=index)
    assert sum(line.inside + line.outside for line in said.lines if line.end == "top") == M


def test_without_directions_there_is_nothing_to_say():
    found = difference(6)
    none = tuple(dataclasses.replace(side, kept=None) for side in found.sides)
    said = dl.enrichment(dataclasses.replace(found, sides=none), examples(N), examples(M))
    assert (said.lines, str(said)) == ((), "no direction to look at")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"columns": ["colour"]}, "dl-786"),
        ({"level": 1.0}, "dl-786"),
        ({"directions": [(2, 0)]}, "dl-786"),
        ({"directions": [(0, 9)]}, "dl-109"),
        ({"k": 61}, "dl-781"),
        ({"k": 0}, "dl-781"),
        ({"train": None, "targets": None}, "dl-787"),
        ({"train": Examples(torch.zeros(N, 1)), "targets": None}, "dl-787"),
        ({"train": examples(N - 1)}, "dl-788"),
        ({"targets": examples(M - 1)}, "dl-788"),
        ({"index": np.zeros((M - 1, 2), dtype=np.int64)}, "dl-788"),
        ({"index": np.full((M, 2), M)}, "dl-788"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(words, code):
    given = {"train": examples(N), "targets": examples(M), "directions": [(0, 0)]}
    with pytest.raises(BadInput) as error:
        dl.enrichment(difference(0), **(given | words))
    assert error.value.code == code
