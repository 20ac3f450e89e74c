"""The Jargon File: passages, tokens, the split, and files that are not it."""

import gzip
import hashlib

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.data import ALPHABET, jargon
from dataloupe.data import _text as text_module

ENTRIES = "\n".join(
    f"""   :word{i}: /w@rd/, n.

   [Unix] The {i}th “word” of a list — see {{word{i + 1}}}. It is long enough to be cut into
   several passages, number {i} of many, and ends {i} (naïve).
"""
    for i in range(20)
)
BOOK = f"""The Jargon File

   Contents

   III. Appendices

   :(TM): //

   A mark of ownership that nobody takes seriously.

{ENTRIES}
                       Part\N{NO-BREAK SPACE}III.\N{NO-BREAK SPACE}Appendices

   Table of Contents that is no entry at all and must not be read.
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A small dictionary, known by its own digest."""
    raw = BOOK.encode()
    monkeypatch.setattr(text_module, "SHA256", hashlib.sha256(raw).hexdigest())
    (tmp_path / "jargon.txt").write_bytes(raw)
    (tmp_path / "jargon.txt.gz").write_bytes(gzip.compress(raw))
    return tmp_path / "jargon.txt.gz"


def test_passages_are_whole_words_of_one_entry(book):
    found = list(text_module.passages(text_module.read_text(book), 64))
    assert found[0] == ("(TM)", ":(tm): // a mark of ownership that nobody takes seriously.")
    assert all(16 <= len(passage) <= 64 and set(passage) <= set(ALPHABET) for _, passage in found)
    third = " ".join(passage for entry, passage in found if entry == "word2")
    assert third == (
        ':word2: /wrd/, n. [unix] the 2th "word" of a list - see {word3}. it is long enough '
        "to be cut into several passages, number 2 of many, and ends 2 (naive)."
    )
    assert not any("contents" in passage for _, passage in found)


def test_tokens_are_characters_and_labels_the_next_ones(book):
    train, targets = jargon(30, 10, 48, file=book)
    for data, rows in ((train, 30), (targets, 10)):
        assert data.inputs.shape == data.labels.shape == (rows, 48)
        assert data.inputs.dtype == data.labels.dtype == torch.int64
        for i, passage in enumerate(data.texts):
            tokens = [ALPHABET.index(character) for character in passage]
            assert data.inputs[i].tolist() == tokens + [0] * (48 - len(tokens))
            assert data.labels[i].tolist() == [*tokens[1:], 0] + [-100] * (48 - len(tokens))
            assert data.show(i).text == passage
            assert len(data.meta["entry"]) == rows
    assert len({len(passage) for passage in train.texts}) > 3


def test_the_split_is_a_function_of_the_seed_and_whole(book):
    read = list(text_module.passages(text_module.read_text(book), 64))
    train, targets = jargon(30, 10, file=book)
    together = sorted([*train.texts, *targets.texts])
    assert together == sorted(passage for _, passage in read[:40])
    again, other = jargon(30, 10, file=book)[1], jargon(30, 10, seed=1, file=book)[1]
    assert again.fingerprint == targets.fingerprint != other.fingerprint
    places = [[passage for _, passage in read].index(one) for one in train.texts]
    assert places == sorted(places) and not set(train.texts) & set(targets.texts)


def test_plain_and_compressed_are_the_same(book):
    assert jargon(5, 5, file=book)[0].fingerprint == jargon(5, 5, file=book.with_suffix(""))[0].fingerprint


@pytest.mark.parametrize("numbers", [(0, 5, 64), (5, 0, 64), (5, 5, 8), (5000, 5, 64)])
def test_numbers_that_cannot_be_meant_are_refused(book, numbers):
    with pytest.raises(BadInput, match="dl-825"):
        jargon(*numbers, file=book)


def test_a_missing_damaged_or_other_file_is_refused(book, tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "DEBIAN", tmp_path / "nowhere.gz")
    with pytest.raises(BadInput, match="dl-826.*apt install jargon-text"):
        jargon()
    book.write_bytes(book.read_bytes()[:-20])
    with pytest.raises(BadInput, match="dl-827"):
        jargon(5, 5, file=book)
    other = tmp_path / "other.txt"
    other.write_text(BOOK + " ")
    with pytest.raises(BadInput, match=r"dl-828.*SHA-256"):
        jargon(5, 5, file=other)


def test_the_alphabet_says_each_character_once():
    assert len(set(ALPHABET)) == len(ALPHABET) == 54
    assert ALPHABET[0] == "\n" and np.all([not c.isupper() for c in ALPHABET])
