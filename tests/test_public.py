"""The front door: the names it hands on are the names that docs/api.md tells, and each explains itself."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import dataloupe

ROOT = Path(__file__).parents[1]
DOOR = ROOT / "src" / "dataloupe" / "__init__.py"


def handed_on() -> list[str]:
    """The names that the front door imports, in order."""
    tree = ast.parse(DOOR.read_text())
    return [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def told() -> list[str]:
    """The names in the first column of the tables of docs/api.md."""
    return re.findall(r"^\| `(\w+)", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)


def test_the_page_names_what_the_door_hands_on() -> None:
    assert sorted(told()) == sorted(handed_on())


def test_the_door_hands_on_each_name_once_and_nothing_private() -> None:
    names = handed_on()
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("_")]


RESULTS = {
    "Info",
    "TorchModel",
    "LDS",
    "Calibration",
    "RemovalTest",
    "WhatIf",
    "Support",
    "SupportCase",
    "SupportCurve",
    "GroupInfluences",
    "LinearResidual",
    "Spread",
    *("Leaks", "Mislabels", "Neighbours", "Clusters", "Principal", "DirectionRemoval"),
    "Fidelity",
    "Difference",
    *("Enrichment", "Enriched"),
    "Counterfactual",
    *("KLoM", "Floor", "Audit", "ULiRA"),
    "Unlearned",
    *("Journey", "Likelihoods", "Regenerated"),
}
"""What functions give and nobody makes by hand."""


@pytest.mark.parametrize("name", handed_on())
def test_a_public_name_explains_itself(name: str) -> None:
    words = inspect.getdoc(getattr(dataloupe, name)) or ""
    assert len(words) > 20, f"{name} has no docstring"
    assert re.search(r"[.:?]$", words.split("\n\n")[0]), f"{name}: a sentence first"


@pytest.mark.parametrize("name", sorted(set(handed_on()) - RESULTS))
def test_what_a_user_calls_has_an_example_or_a_formula(name: str) -> None:
    thing = getattr(dataloupe, name)
    if not callable(thing) or inspect.isabstract(thing) or getattr(thing, "_is_protocol", False):
        return
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    words = inspect.getdoc(thing) or ""
    formula = re.search(r"^    .*[=~].*$", words, flags=re.MULTILINE)
    assert ">>>" in words or "::\n" in words or formula, f"{name} shows neither an example nor a formula"
