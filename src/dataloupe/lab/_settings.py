"""Which settings a :class:`Lab` takes."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from dataloupe._errors import BadInput
from dataloupe.core import Runner

_MOST_WORKERS = 4096
"""More processes than any machine that runs a lab has cores: a slip of the pen."""


def check_settings(workers: Any, runner: Any, switches: Mapping[str, Any]) -> None:
    """Refuse what no lab can mean (dl-268)."""
    whole = isinstance(workers, Integral) and not isinstance(workers, bool)
    if workers is not None and not (whole and 1 <= int(workers) <= _MOST_WORKERS):
        words = f"a whole number from 1 to {_MOST_WORKERS}, or None for one process per core"
        raise _refused(f"workers = {workers!r}", words)
    if runner is not None and (isinstance(runner, type) or not isinstance(runner, Runner)):
        raise _refused(
            f"runner = {runner!r}", "a runner, such as dataloupe.run.Processes(workers=2), or None"
        )
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise _refused(f"{name} = {value!r}", "True or False")


def _refused(setting: str, words: str) -> BadInput:
    return BadInput(
        "dl-268", asked=f"a lab with {setting}", found="a value that it cannot have", do=f"give {words}"
    )
