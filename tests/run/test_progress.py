"""Progress: the figures, how often they come, and how they look. The clock is the test's own."""

import io
from typing import Any

import pytest

from dataloupe.run import Progress
from dataloupe.run._progress import _rate, _time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_figures() -> None:
    clock, told = Clock(), []
    with Progress.silent(10, "fits", done=4, file=told.append, clock=clock) as progress:
        clock.now += 2.0
        progress.advance(3)
        clock.now += 4.0
    first, middle, last = told
    assert first == {"done": 4, "total": 10, "unit": "fits", "rate": None, "seconds": 0.0, "left": None}
    assert middle == {"done": 7, "total": 10, "unit": "fits", "rate": 1.5, "seconds": 2.0, "left": 2.0}
    assert last == {"done": 7, "total": 10, "unit": "fits", "rate": 0.5, "seconds": 6.0, "left": 6.0}


def test_the_file_is_told_once_a_second_and_at_the_end() -> None:
    clock, told = Clock(), []
    with Progress.silent(40, file=told.append, clock=clock) as progress:
        for _ in range(40):
            clock.now += 0.125
            progress.advance()
    assert [facts["seconds"] for facts in told] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]
    assert told[-1]["done"] == 40


def test_lines_come_every_five_seconds_and_at_both_ends() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(24, stream=stream, clock=clock) as progress:
        for _ in range(24):
            clock.now += 0.5
            progress.advance()
    assert stream.getvalue().splitlines() == [
        "models: 0 of 24",
        "models: 10 of 24, 2 a second, 7 s left",
        "models: 20 of 24, 2 a second, 2 s left",
        "models: 24 of 24, 2 a second, done in 12 s",
    ]


def test_what_is_interrupted_says_so_and_the_error_goes_on() -> None:
    clock, stream, told = Clock(), io.StringIO(), []
    with (
        pytest.raises(KeyboardInterrupt),
        Progress(9, stream=stream, file=told.append, clock=clock) as progress,
    ):
        clock.now += 3.0
        progress.advance(3)
        raise KeyboardInterrupt
    assert stream.getvalue().splitlines()[-1] == "models: 3 of 9, 1 a second, stopped after 3 s"
    assert told[-1]["done"] == 3


def test_nothing_to_do_shows_nothing_and_tells_the_file() -> None:
    stream, told = io.StringIO(), []
    with Progress(5, done=5, stream=stream, file=told.append):
        pass
    assert stream.getvalue() == ""
    assert told[-1]["done"] == told[-1]["total"] == 5


def test_a_terminal_gets_a_bar() -> None:
    clock, stream = Clock(), Terminal()
    with Progress(20, "models", stream=stream, clock=clock) as progress:
        for _ in range(5):
            clock.now += 2.0
            progress.advance(4)
    text = stream.getvalue()
    assert "\x1b[" in text  # it moves
    assert "12/20" in text
    assert "2 a second, 4 s left" in text
    assert "2 a second, 10 s" in text.splitlines()[-1] + text.splitlines()[-2]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (0.25, "0.2 s"), (89.4, "89 s"), (5000.0, "83 min"), (7260.0, "2 h 1 min")],
)
def test_times(seconds: float, words: str) -> None:
    assert _time(seconds) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(12345.0, "12,345 a second"), (0.999, "60 a minute"), (0.02, "1.2 a minute"), (0.001, "3.6 an hour")],
)
def test_rates(rate: float, words: Any) -> None:
    assert _rate(rate) == words
