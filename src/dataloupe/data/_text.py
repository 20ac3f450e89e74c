"""The Jargon File: a dictionary of hacker slang, cut into passages for a language model of characters."""

import gzip
import hashlib
import re
import textwrap
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Examples, checked

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()[]{}/-"
"""Token i is character i; token 0, the line break, ends a passage and fills it up."""
DEBIAN = Path("/usr/share/doc/jargon-text/jargon.txt.gz")
SHA256 = "40dfb4b98191a670a09a183d5798d50f243d23fdbd1495dcc0aca2ce5895ba97"
_FIRST, _LAST = "   :(TM):", "Part\N{NO-BREAK SPACE}III.\N{NO-BREAK SPACE}Appendices\n\n   Table"
_ALIKE = str.maketrans("\u2018\u2019\u201c\u201d\u2014\u2212`", "''\"\"--'")
"""Quotation marks, dash and minus sign."""
_SHORTEST = 16


@checked("dl-511")
def jargon(
    train: int = 1500, targets: int = 150, length: int = 64, seed: int = 0, file: str | Path | None = None
) -> tuple[Examples, Examples]:
    """Passages of The Jargon File 4.4.7 as (training, target) examples for a language model of characters.

    The dictionary's entries in lower case, in characters of ``ALPHABET``, are cut between words into passages
    of at most ``length`` characters, those below 16 left out. The first ``train + targets`` of them are used; which
    are targets is a pure function of the seed, so a target is never trained on and its neighbours may be.
    Inputs int64 ``[n, length]``, filled up with 0; labels the next token of each, -100 behind the end; ``texts``
    the passages; ``names`` the characters; ``meta["entry"]`` the words that they explain.

    Read from ``file`` (plain or ``.gz``), else from the Debian package jargon-text, and checked against its SHA-256.

    Raises ``BadInput`` dl-825 (numbers), dl-826 (no file), dl-827 (a damaged file), dl-828 (another text).

    ::

        train, targets = jargon(1500, 150)

    Source: The Jargon File, version 4.4.7, 29 December 2003, edited by Eric S. Raymond; in the public domain.
    """
    if min(train, targets) < 1 or length < _SHORTEST:
        raise BadInput(
            "dl-825",
            asked=f"{train} training and {targets} target passages of {length} characters",
            found="a count below 1, or passages too short to say anything",
            do=f"ask for at least one of each, of at least {_SHORTEST} characters",
        )
    found = list(passages(read_text(DEBIAN if file is None else Path(file)), length))
    if train + targets > len(found):
        raise BadInput(
            "dl-825",
            asked=f"{train} training and {targets} target passages",
            found=f"{len(found)} passages of at most {length} characters",
            do="ask for fewer, or shorter ones",
        )
    order = np.argsort(Stream.root(seed)("jargon").bits(np.arange(train + targets)), kind="stable")
    return examples(found, np.sort(order[targets:]), length), examples(
        found, np.sort(order[:targets]), length
    )


def read_text(file: Path) -> str:
    """The whole file, checked (dl-826, dl-827, dl-828)."""
    advice = (
        "apt install jargon-text (some containers leave /usr/share/doc out), or name a copy: jargon(file=...)"
    )
    if not file.is_file():
        raise BadInput("dl-826", asked="The Jargon File", found=f"no file {file}", do=advice)
    raw = file.read_bytes()
    if file.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(
                "dl-827", asked=f"The Jargon File in {file}", found=f"no whole gzip file ({error})", do=advice
            ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != SHA256:
        raise BadInput(
            "dl-828",
            asked="The Jargon File 4.4.7 as Debian's package 4.4.7-4.1 has it",
            found=f"a text with the SHA-256 {digest[:12]}..., not {SHA256[:12]}...",
            do="give that edition: with another text every result would be another",
        )
    return raw.decode("utf-8")


def passages(text: str, length: int) -> Iterator[tuple[str, str]]:
    """(entry, passage) in the order of the text: words packed into passages that end with their entry."""
    entries = text[text.index(_FIRST) : text.index(_LAST)]
    for entry in re.split(r"\n   (?=:[^:\n]+:)", "\n" + entries)[1:]:
        headword = entry[1 : entry.index(":", 1)]
        for passage in textwrap.wrap(" ".join(plain(entry).split()), length, break_on_hyphens=False):
            if len(passage) >= _SHORTEST:
                yield headword, passage


def plain(text: str) -> str:
    """Lower case, in the characters of the alphabet."""
    alike = unicodedata.normalize("NFKD", text.translate(_ALIKE)).lower()
    return "".join(character for character in alike if character in ALPHABET)


def examples(found: list[tuple[str, str]], ids: Array, length: int) -> Examples:
    """These passages: token t is answered by token t + 1, and the last one by the line break."""
    chosen = [found[i] for i in ids]
    inputs = np.zeros((len(ids), length), dtype=np.int64)
    labels = np.full((len(ids), length), -100, dtype=np.int64)
    for row, (_, passage) in enumerate(chosen):
        tokens = [ALPHABET.index(character) for character in passage]
        inputs[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = [*tokens[1:], 0]
    return Examples(
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        texts=[passage for _, passage in chosen],
        names=list(ALPHABET),
        meta={"entry": [entry for entry, _ in chosen]},
    )
