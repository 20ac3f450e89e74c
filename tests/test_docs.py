"""The pages tell the truth: every error code is documented, and every block of code in the pages runs."""

import ast
import re
from pathlib import Path

import pytest

from dataloupe.run import load_module

ROOT = Path(__file__).parents[1]


def codes_in_the_program() -> set[str]:
    return {
        str(node.value)
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch(r"dl-\d{3}", str(node.value))
    }


def codes_in_the_pages() -> dict[str, list[str]]:
    """Error code -> the pages that have a section for it."""
    found: dict[str, list[str]] = {}
    for page in sorted((ROOT / "docs" / "errors").glob("*.md")):
        for code in re.findall(r"^## (dl-\d{3}): \S", page.read_text(), flags=re.MULTILINE):
            found.setdefault(code, []).append(page.name)
    return found


def test_every_code_of_the_program_is_documented() -> None:
    missing = sorted(codes_in_the_program() - set(codes_in_the_pages()))
    assert not missing, f"write a section `## dl-NNN: title` into docs/errors/<room>.md for {missing}"


def test_every_documented_code_is_in_the_program() -> None:
    stale = {code: codes_in_the_pages()[code] for code in set(codes_in_the_pages()) - codes_in_the_program()}
    assert not stale, f"these sections describe errors that nothing raises: {stale}"


def test_every_code_is_documented_once() -> None:
    assert {code: pages for code, pages in codes_in_the_pages().items() if len(pages) > 1} == {}


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs" / "errors" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs" / "errors").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\((\w+\.md)\)", index))


def links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [target.split("#")[0] for target in targets if "://" not in target and not target.startswith("#")]


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def code_of(page: Path) -> str:
    """The Python blocks of a page, as one file."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tutorial.py").write_text(code_of(ROOT / "docs" / "tutorial.md"))
    tutorial = load_module(tmp_path / "tutorial.py")
    said = capsys.readouterr().out
    assert tutorial.score.interval[0] > 0, "the tutorial's datamodel predicts better than chance"
    assert tutorial.answer.verdict == "agree"
    assert str(tutorial.answer) in said
    assert (tmp_path / "tutorial.html").stat().st_size > 10_000
