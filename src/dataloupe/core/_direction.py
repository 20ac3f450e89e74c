"""Which way an output is better, and what "helps" and "hurts" mean of it."""

from typing import Any, Literal, TypeAlias, get_args

from dataloupe._errors import BadInput

Better: TypeAlias = Literal["higher", "lower"]
"""Which way an output is better; None of one that is no measure of quality (a logit, a regression value)."""

Sign: TypeAlias = Literal["helps", "hurts", "raises", "lowers"]
"""Which training rows: by what having them does for the target, or to its output."""


def better_of(output: Any) -> Better | None:
    """What an output declares in its field ``better``; None where it declares nothing. Its name is never read.

    Raises ``BadInput`` dl-510 for a word that is neither "higher" nor "lower".
    """
    return check_better(getattr(output, "better", None))


def check_better(better: Any) -> Better | None:
    """The word, if it is one (dl-510)."""
    if better is not None and better not in (get_args(Better) if isinstance(better, str) else ()):
        raise BadInput(
            "dl-510",
            asked="which way an output is better",
            found=f"better={better!r}",
            do='declare better = "higher" or "lower", or None for an output that is no measure of quality',
        )
    return better


def sign_of_better(output: Any) -> float:
    """-1 for an output that is better the lower, else 1."""
    return -1.0 if better_of(output) == "lower" else 1.0


def helping(output: Any) -> Sign:
    """What rows that help do to the output: "lowers" where lower is better, else "raises"."""
    return "lowers" if better_of(output) == "lower" else "raises"


def raises_output(sign: Sign, better: Better | None) -> bool:
    """Whether the word asks for rows that raise the output (positive scores).

    Of an output of no direction "helps" is "raises". Raises ``BadInput`` dl-510 for any other word.

    >>> raises_output("helps", "higher"), raises_output("helps", "lower"), raises_output("lowers", "lower")
    (True, False, False)
    """
    if not isinstance(sign, str) or sign not in get_args(Sign):
        raise BadInput(
            "dl-510",
            asked=f"the top training rows by sign={sign!r}",
            found="an unknown word",
            do=f"use one of {', '.join(map(repr, get_args(Sign)))}",
        )
    return sign == "raises" or sign == ("hurts" if better == "lower" else "helps")


def sign_words(better: Better | None) -> tuple[Sign, Sign]:
    """The two words for the training rows of a target: what is good for it first.

    >>> sign_words("lower"), sign_words(None)
    (('helps', 'hurts'), ('raises', 'lowers'))
    """
    return ("raises", "lowers") if better is None else ("helps", "hurts")
