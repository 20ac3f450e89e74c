"""How far the work is: a bar on a terminal, plain lines elsewhere, and facts for a machine to read."""

import sys
import time
from collections.abc import Callable
from typing import IO, Any, Protocol, cast, runtime_checkable

import rich.console
import rich.progress

from dataloupe._typing import Facts

_FACTS_EVERY = 1.0


@runtime_checkable
class Screen(Protocol):
    """Where progress is shown: any text stream."""

    def write(self, text: str, /) -> Any:
        """Append text."""
        ...

    def flush(self) -> None:
        """Show it now."""
        ...

    def isatty(self) -> bool:
        """Whether a person sees it move."""
        ...


class Progress:
    """Counts what is done, of `total`; a context manager.

    ``rate`` is per second since the start and counts only what was done since (``done`` at the start is what
    was found finished); ``left`` is in seconds. ``file`` is called with ``{done, total, unit, rate, seconds,
    left}`` at the start, at most once a second, and at the end. Lines come at most every 5 seconds.

    >>> import io
    >>> lines = io.StringIO()
    >>> with Progress(3, stream=lines, clock=iter([0.0, 1.0, 2.0]).__next__) as progress:
    ...     progress.advance(3)
    >>> print(lines.getvalue(), end="")
    models: 0 of 3
    models: 3 of 3, 1.5 a second, done in 2 s
    """

    def __init__(
        self,
        total: int,
        unit: str = "models",
        *,
        done: int = 0,
        stream: Screen | None = None,
        file: Callable[[Facts], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.total, self.unit, self.done = total, unit, done
        self._found, self._clock, self._started = done, clock, 0.0
        self._file = file
        self._file_due = self._display_due = 0.0
        self._display: _Display = _Nothing()
        if not quiet and done < total:
            stream = stream or sys.stderr
            self._display = _Bar(stream, total, unit) if stream.isatty() else _Lines(stream)

    @classmethod
    def silent(
        cls,
        total: int,
        unit: str = "models",
        *,
        done: int = 0,
        file: Callable[[Facts], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Progress":
        """One that shows nothing, and still calls ``file``."""
        return cls(total, unit, done=done, file=file, clock=clock, quiet=True)

    def __enter__(self) -> "Progress":
        self._started = self._clock()
        self._tell(0.0)
        return self

    def __exit__(self, *_: object) -> None:
        facts = self.facts(self._clock() - self._started)
        self._display.close(facts)
        if self._file is not None:
            self._file(facts)

    def advance(self, k: int = 1) -> None:
        """`k` more are done."""
        self.done += k
        self._tell(self._clock() - self._started)

    def _tell(self, seconds: float) -> None:
        if self._file is not None and seconds >= self._file_due:
            self._file(self.facts(seconds))
            self._file_due = seconds + _FACTS_EVERY
        if seconds >= self._display_due:
            self._display.show(self.facts(seconds))
            self._display_due = seconds + self._display.every

    def facts(self, seconds: float) -> Facts:
        """How far it is after so many seconds."""
        here = self.done - self._found
        rate = here / seconds if seconds > 0 else None
        left = (self.total - self.done) / rate if rate else None
        return {
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": rate,
            "seconds": seconds,
            "left": left,
        }


@runtime_checkable
class _Display(Protocol):
    every: float
    """Seconds between two looks."""

    def show(self, facts: Facts) -> None: ...
    def close(self, facts: Facts) -> None: ...


class _Nothing:
    every = 5.0

    def show(self, facts: Facts) -> None: ...
    def close(self, facts: Facts) -> None: ...


class _Lines:
    every = 5.0

    def __init__(self, stream: Screen) -> None:
        self._stream = stream

    def show(self, facts: Facts) -> None:
        """A line."""
        self._write(facts, f", {_time(facts['left'])} left" if facts["left"] is not None else "")

    def close(self, facts: Facts) -> None:
        """The last line."""
        how = "done in" if facts["done"] >= facts["total"] else "stopped after"
        self._write(facts, f", {how} {_time(facts['seconds'])}")

    def _write(self, facts: Facts, end: str) -> None:
        pace = f", {_rate(facts['rate'])}" if facts["rate"] else ""
        self._stream.write(f"{facts['unit']}: {facts['done']} of {facts['total']}{pace}{end}\n")
        self._stream.flush()


class _Bar:
    every = 0.1

    def __init__(self, stream: Screen, total: int, unit: str) -> None:
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[pace]}"),
            console=rich.console.Console(file=cast(IO[str], stream)),
            auto_refresh=False,
            redirect_stdout=False,
        )
        self._task = self._bar.add_task(unit, total=total, pace="")

    def show(self, facts: Facts) -> None:
        """Move the bar."""
        self._bar.start()
        left = f"{_time(facts['left'])} left" if facts["left"] is not None else ""
        self._draw(facts, left)

    def close(self, facts: Facts) -> None:
        """Leave the bar as it is at the end."""
        self._draw(facts, _time(facts["seconds"]))
        self._bar.stop()

    def _draw(self, facts: Facts, end: str) -> None:
        pace = f"{_rate(facts['rate'])}, {end}" if facts["rate"] else end
        self._bar.update(self._task, completed=facts["done"], pace=pace, refresh=True)


def _rate(per_second: float) -> str:
    """A rate in the unit that reads best.

    >>> _rate(12.34), _rate(0.5), _rate(0.01)
    ('12 a second', '30 a minute', '36 an hour')
    """
    if per_second >= 1:
        number, unit = per_second, "a second"
    elif per_second >= 1 / 60:
        number, unit = per_second * 60, "a minute"
    else:
        number, unit = per_second * 3600, "an hour"
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


def _time(seconds: float) -> str:
    """A time in the unit that reads best.

    >>> _time(0.4), _time(75.0), _time(1000.0), _time(9000.0)
    ('0.4 s', '75 s', '17 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.1g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
