"""The target cards: an example of interest, and the training examples that help and hurt it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Ids
from dataloupe.core import Attribution, Examples, Sign, check_ids, raises_output, sign_words
from dataloupe.report._charts import meter
from dataloupe.report._parts import Method, Parts
from dataloupe.report._png import check_image, data_uri, shrink
from dataloupe.report._tokens import Token, sequence_of, tone_of
from dataloupe.report._words import NORMAL_95, clipped, fixed, in_scale, signed

CAPTION = 90
"""So many characters of a text stand under an image."""

SPREAD = 5
"""How many targets are shown where nobody chose."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """How one example looks: an image (as an address), a text, or the cells of a table row."""

    number: int
    label: str
    image: str = ""
    tiny: bool = False
    text: str = ""
    cells: tuple[str, ...] = ()
    note: str = ""
    """Said in place of the number, where that is none of an example."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """A training example with its score in words and as a bar."""

    picture: Picture
    score: str
    error: str
    meter: Markup
    tokens: tuple[Token, ...] = ()


@dataclasses.dataclass(frozen=True)
class End:
    """The examples at one end of a target's scores, and the word for what they do: helps, hurts, raises or lowers."""

    word: Sign
    examples: tuple[Scored, ...]


@dataclasses.dataclass(frozen=True)
class Side:
    """What one method says about one target, what is good for it first; with intervals, if it has ``errors``."""

    method: str
    errors: bool
    ends: tuple[End, ...]


@dataclasses.dataclass(frozen=True)
class TargetCard:
    """One target row: the example, how well it is predicted, and a side per method."""

    row: int
    picture: Picture
    component: str
    rank: str
    sides: tuple[Side, ...]
    tokens: tuple[Token, ...] = ()


def target_cards(parts: Parts, rows: Sequence[int], top: int) -> list[TargetCard]:
    """A card for every chosen target row."""
    main = parts.main
    if main is None:
        return []
    return [_card(parts, main, row, top) for row in rows]


def check_targets(parts: Parts, asked: Ids | None, top: int) -> list[int] | None:
    """The target rows asked for, if they exist; asked before any work.

    Raises ``BadInput`` dl-955 (no attribution to take targets from, or ``top`` below 1), dl-108 to dl-111 (rows).
    """
    if top < 1:
        raise BadInput("dl-955", asked=f"the top {top} examples", found="a number below 1", do="ask for 8")
    if asked is None:
        return None
    if parts.main is None:
        raise BadInput(
            "dl-955",
            asked=f"the targets {list(asked)}",
            found="a report without attributions",
            do="give the attribution whose targets you want to see",
        )
    return [int(row) for row in check_ids(asked, parts.main.m, "targets to show")]


def choose_targets(parts: Parts, asked: list[int] | None) -> tuple[list[int], str]:
    """Which target rows to show, and the sentence that says why these."""
    main = parts.main
    if main is None:
        return [], ""
    if asked is not None:
        return asked, "Chosen by whoever made this report."
    first = list(dict.fromkeys(answer.target for answer in parts.answers))
    rows, why = _cross_section(parts, main)
    reason = f"First {'the target' if len(first) == 1 else 'the targets'} of the what-if. " if first else ""
    return [*first, *(row for row in rows if row not in first)], reason + why


def picture(examples: Examples, row: int, where: str, length: int) -> Picture:
    """Row ``row`` as it will stand on the page (dl-954 for an image that cannot be shown)."""
    card = examples.show(row)
    if card.image is not None:
        image = shrink(check_image(card.image, f"{where} {row}"))
        said = clipped(card.text or "", CAPTION)
        return Picture(row, card.title, image=data_uri(image), tiny=max(image.shape[:2]) <= 40, text=said)
    text = card.text or ""
    if examples.texts is not None:
        return Picture(row, card.title, text=clipped(text, length))
    cells = tuple(clipped(cell, 60) for cell in text.split("  ") if cell)
    return Picture(row, card.title, cells=cells)


def _cross_section(parts: Parts, main: Method) -> tuple[list[int], str]:
    """Target rows from the best to the least predicted, in equal steps."""
    rank = parts.rank_of(main)
    by, why = (
        (_largest_scores(main.attribution), "the size of their largest score")
        if rank is None
        else (np.asarray(rank.per_target), "how well they are predicted (their own LDS)")
    )
    order = np.argsort(-by, kind="stable")
    if main.m <= SPREAD:
        return order.tolist(), f"All target rows, ordered by {why}."
    places = np.linspace(0, main.m - 1, SPREAD).round().astype(int)
    return order[places].tolist(), (
        f"{SPREAD} of {main.m:,} target rows at equal steps of {why}, from the highest to the lowest: "
        "a cross-section, not a choice of the best."
    )


def _card(parts: Parts, main: Method, row: int, top: int) -> TargetCard:
    example, component = (row, 0) if main.index is None else (int(i) for i in main.index[row])
    several = main.index is not None and bool((main.index[:, 1] != 0).any())
    rank, sequence = parts.rank_of(main), sequence_of(main, row)
    return TargetCard(
        row=row,
        picture=picture(main.targets, example, "target", 900),
        component=""
        if not several
        else f"token {sequence.place + 1} of {len(sequence.words)}: {sequence.words[sequence.place]}"
        if sequence
        else f"component {component} of the output",
        rank="" if rank is None else fixed(float(rank.per_target[row])),
        sides=tuple(_side(method, row, top) for method in parts.methods),
        tokens=() if sequence is None else sequence.tokens,
    )


def _side(method: Method, row: int, top: int) -> Side:
    better = method.attribution.info.better
    words = sign_words(better)
    chosen = [_strongest(method.attribution, row, top, word) for word in words]
    ids = np.concatenate([ids for ids, _ in chosen])
    if len(ids) == 0:
        return Side(method.name, True, tuple(End(word, ()) for word in words))
    scores = np.concatenate([scores for _, scores in chosen])
    errors = _errors(method.attribution, row, ids)
    reach = float((np.abs(scores) + (0 if errors is None else errors)).max())
    scale, train = float(np.abs(scores).max()), method.train
    sequence = sequence_of(method, row)
    along = None if sequence is None else method.attribution.rows(sequence.rows)[:, ids].astype(np.float64)
    shown = []
    for i, (number, score) in enumerate(zip(ids.tolist(), scores.tolist(), strict=True)):
        half = None if errors is None else float(errors[i])
        words_of_error = "" if half is None else f"± {in_scale(half, scale)}"
        shown.append(
            Scored(
                picture(train, number, "training example", 220),
                signed(in_scale(score, scale)),
                words_of_error,
                meter(score, half, reach, tone_of(score, better)),
                ()
                if sequence is None or along is None
                else sequence.coloured(along[:, i], float(np.abs(along).max()), better),
            )
        )
    border = len(chosen[0][0])
    ends = zip(words, (tuple(shown[:border]), tuple(shown[border:])), strict=True)
    return Side(method.name, errors is not None, tuple(End(word, examples) for word, examples in ends))


def _strongest(
    attribution: Attribution, row: int, top: int, sign: Sign
) -> tuple[np.ndarray, Float[np.ndarray, " k"]]:
    """The strongest examples of one sign with their scores; those of the other sign, or of score 0, left out."""
    ids = attribution.top(row, min(top, attribution.n), sign=sign)
    scores = attribution.rows([row])[0][ids].astype(np.float64)
    kept = scores > 0 if raises_output(sign, attribution.info.better) else scores < 0
    return ids[kept], scores[kept]


def _errors(attribution: Attribution, row: int, ids: np.ndarray) -> Float[np.ndarray, " k"] | None:
    """Half the 95 % interval of each single score; None where the method has no error (the page says so)."""
    try:
        found = attribution.error([[int(i)] for i in ids], targets=[row])
    except CapabilityError:
        return None
    return NORMAL_95 * np.asarray(found, dtype=np.float64)[:, 0]


def _largest_scores(attribution: Attribution) -> Float[np.ndarray, " m"]:
    """The largest size of a score in every target row, read in blocks."""
    step = max(1, 4_000_000 // attribution.n)
    blocks = (slice(start, start + step) for start in range(0, attribution.m, step))
    return np.concatenate([np.abs(attribution.rows(block)).max(axis=1) for block in blocks])
