"""Sequences on the page: a target's tokens, coloured by what one training example does to each of them."""

import dataclasses
from collections.abc import Sequence as Names

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe.core import IGNORED, Better, next_tokens
from dataloupe.report._parts import Method

_SHOWN = {"\n": "\u23ce", "\t": "\u21e5", "": "\u00b7"}
"""How tokens that cannot be seen are drawn."""
_MARKS = {"\u0120": " ", "\u2581": " ", "\u010a": "\n"}
"""What byte-level and sentence-piece tokenizers write for a space and for the end of a line."""


@dataclasses.dataclass(frozen=True)
class Token:
    """A token as it stands on the page: which way and how far (0 to 1) it is moved, and whether the card is about it."""

    word: str
    tone: str = ""
    strength: float = 0.0
    here: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """The target rows that are tokens of one example, in order, and their words."""

    rows: Int[np.ndarray, " t"]
    words: tuple[str, ...]
    place: int

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The words, uncoloured."""
        return tuple(Token(word, here=i == self.place) for i, word in enumerate(self.words))

    def coloured(
        self, scores: Float[np.ndarray, " t"], largest: float, better: Better | None
    ) -> tuple[Token, ...]:
        """The words, coloured by scores of which the largest on the card is known."""
        return tuple(
            Token(
                word,
                tone_of(score, better),
                round(min(1.0, abs(float(score)) / largest), 2) if largest > 0 else 0.0,
                i == self.place,
            )
            for i, (word, score) in enumerate(zip(self.words, scores.tolist(), strict=True))
        )


def tone_of(score: float, better: Better | None) -> str:
    """The colour of a score: that of what is good for the target (of an output of no direction: of what raises it)."""
    return "accent" if (score < 0 if better == "lower" else score > 0) else "warm"


def sequence_of(method: Method, row: int) -> Sequence | None:
    """The tokens around a target row, if it is one of several and the examples name them (``Examples(names=vocabulary)``)."""
    index, targets = method.index, method.targets
    if index is None or targets.names is None:
        return None
    rows = np.flatnonzero(index[:, 0] == index[row, 0])
    if len(rows) < 2:
        return None
    try:
        asked = next_tokens(targets.take([int(index[row, 0])]))[0].tolist()
    except BadInput:  # components of another kind, such as classes
        return None
    tokens = [asked[place] if place < len(asked) else IGNORED for place in index[rows, 1].tolist()]
    if not all(0 <= token < len(targets.names) for token in tokens):
        return None
    words = _words(targets.names, tokens)
    return Sequence(rows, words, int(np.flatnonzero(rows == row)[0]))


def _words(names: Names[str], tokens: list[int]) -> tuple[str, ...]:
    """Tokens as people read them: without the marks by which tokenizers say where a word begins or goes on."""
    pieces = any(str(name).startswith("##") for name in names)
    found = []
    for word in (str(names[token]) for token in tokens):
        for mark, shown in _MARKS.items():
            word = word.replace(mark, shown)
        if pieces:
            word = word.removeprefix("##") if word.startswith("##") else f" {word}"
        found.append(_SHOWN.get(word, word))
    return tuple(found)
