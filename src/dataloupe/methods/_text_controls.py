"""Controls for text: what a method has to beat without looking at any model."""

import dataclasses

import numpy as np
import torch

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import (
    IGNORED,
    AbstractAttributor,
    DenseAttribution,
    Examples,
    Info,
    Lab,
    Needs,
    Question,
    Rows,
    check_settings,
    next_tokens,
    sign_of_better,
)


@dataclasses.dataclass(frozen=True)
class BM25(AbstractAttributor):
    """How alike the words of target q and training text i are, by the BM25 of Lucene:

        tau_qi = sum_{w in q} log(1 + (n - n_w + 1/2) / (n_w + 1/2)) * c_wi / (c_wi + k1 (1 - b + b l_i / mean l))

    n_w of the n training texts hold the word w, text i holds it c_wi times and has l_i words; a word said twice in q counts
    twice. Words are runs of two letters or digits and more, in lower case, none left out. For an output that is better the
    lower (a loss), the sign is turned. Relative units.

    Needs ``texts`` on both sides and bm25s (``pip install dataloupe[text]``).

    Raises ``BadInput`` dl-735 (no texts), dl-736 (settings), ``CapabilityError`` dl-737 (no bm25s).
    Source: Robertson and Zaragoza 2009; Lù 2024 (bm25s).

    >>> BM25().settings()
    {'k1': 1.5, 'b': 0.75}
    """

    k1: float = 1.5
    b: float = 0.75

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-736")
        if not (0 <= self.k1 < float("inf") and 0 <= self.b <= 1):
            raise BadInput(
                "dl-736",
                asked=f"BM25 with k1 = {self.k1:g} and b = {self.b:g}",
                found="a number outside its range",
                do="give k1 of at least 0, and b from 0 to 1",
            )

    def needs(self, question: Question) -> Needs:  # noqa: ARG002  (the same for every question)
        """Nothing."""
        return Needs()

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:  # noqa: ARG002  (asks nothing of it)
        """The scores of every training text for every target's words."""
        try:
            import bm25s
        except ImportError as error:
            raise CapabilityError(
                "dl-737", asked="BM25", found="no bm25s", do="pip install 'dataloupe[text]'"
            ) from error
        asked, known = (
            bm25s.tokenize(_texts(data, side), stopwords=None, return_ids=False, show_progress=False)
            for data, side in ((question.targets, "targets"), (question.train, "training examples"))
        )
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        index.index(known, show_progress=False)
        none = np.zeros(question.n, dtype=np.float32)
        scores = np.stack([index.get_scores(words) if words else none for words in asked])
        return _control(question, "BM25", self, scores[question.index[:, 0]])


@dataclasses.dataclass(frozen=True)
class SequenceLength(AbstractAttributor):
    """How many tokens training sequence i is asked for, whatever the target; turned for a loss. Relative units.

    Of a sequence with one label, a class, how many follow its first.

    Raises ``BadInput`` dl-807, dl-808 (inputs that are no sequences of tokens).

    >>> SequenceLength().settings()
    {}
    """

    def needs(self, question: Question) -> Needs:  # noqa: ARG002  (the same for every question)
        """Nothing."""
        return Needs()

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:  # noqa: ARG002  (asks nothing of it)
        """The same row for every target."""
        counts = [
            (next_tokens(_sequences(rows)) != IGNORED).sum(1) for _, rows in question.blocks(question.train)
        ]
        scores = np.broadcast_to(torch.cat(counts).numpy(), (question.m, question.n))
        return _control(question, "sequence length", self, scores)


def _sequences(rows: Rows) -> Rows:
    """The sequences without a label that is of all of them."""
    classes = rows.labels is not None and rows.labels.ndim == 1
    return rows._replace(labels=None) if classes else rows


def _texts(data: Examples, side: str) -> list[str]:
    if data.texts is None:
        raise BadInput(
            "dl-735",
            asked="the words of examples",
            found=f"{side} without texts",
            do="give Examples(..., texts=[...])",
        )
    return list(data.texts)


def _control(
    question: Question, name: str, method: AbstractAttributor, scores: np.ndarray
) -> DenseAttribution:
    """Scores that say how much an example should help, as an attribution of the question's output."""
    signed = scores.astype(np.float32) * np.float32(sign_of_better(question.output))
    return DenseAttribution(signed, Info(name, method.settings(), role="control"), units="relative")
