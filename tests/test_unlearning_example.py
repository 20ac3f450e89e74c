"""The figure of unlearning's theory, made small: the numbers it prints are in the order it claims."""

import re
from pathlib import Path

import pytest

from dataloupe.run import load_module

EXAMPLE = Path(__file__).parents[1] / "examples" / "unlearning_theory.py"


@pytest.fixture
def printed(tmp_path, capsys):
    module = load_module(EXAMPLE)
    module.main(tmp_path / "theory.png", module.Size(rows=40, columns=160, steps=40, single=400, seeds=3))
    assert (tmp_path / "theory.png").read_bytes().startswith(b"\x89PNG")
    return capsys.readouterr().out


def numbers(printed, name):
    """What stands on the line of that name."""
    (line,) = [line for line in printed.splitlines() if line.startswith(name)]
    return [float(found) for found in re.findall(r"\d\.\de[-+]\d+", line)]


def test_the_numbers_are_in_the_order_that_is_claimed(printed):
    ascent, descent = numbers(printed, "ascent and descent"), numbers(printed, "descent on retained")
    kept, matched = numbers(printed, "matching on retained"), numbers(printed, "matching on all")
    assert matched[0] < 1e-2 < 0.3 < descent[0] < kept[0] <= 1.0 < ascent[0], "all rows, a small penalty"
    assert descent[1] < 1e-3 and matched[1] < 1e-2 < kept[1], "all rows, a large one: descent arrives, too"
    assert max(matched[2:]) < 0.3 < min(*descent[2:], *kept[2:]), "one row a step"
    assert numbers(printed, "the same, steps that shrink")[1] < descent[3]
    groups = [line for line in printed.splitlines() if ", penalty" in line and ":" not in line]
    assert len(groups) == 4
    for influences, left_out, group in (numbers(printed, line) for line in groups):
        assert group < 1e-12 < left_out <= influences * 1.01
    shares = re.findall(r"lie (\d+)% of the forgotten rows and (\S+) of", printed)
    assert len(shares) == 2 and all(float(error) < int(rows) / 100 for rows, error in shares)


def test_the_figure_goes_where_it_is_asked_to(monkeypatch):
    module = load_module(EXAMPLE)
    monkeypatch.setattr("sys.argv", ["unlearning_theory.py"])
    assert module.asked().out == Path("unlearning_theory.png")
    monkeypatch.setattr("sys.argv", ["unlearning_theory.py", "--out", "x/y.png"])
    assert module.asked().out == Path("x/y.png")
