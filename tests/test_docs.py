"""The pages tell the truth: every error code is documented, and every block of code in the pages runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_readme_names_every_verb() -> None:
    verbs = re.findall(r'subcommand\("([\w-]+)"\)', (ROOT / "src/dataloupe/cli/_main.py").read_text())
    readme = (ROOT / "README.md").read_text()
    assert verbs
    assert [verb for verb in verbs if f"dataloupe {verb}" not in readme] == []


def code_of(page: Path) -> str:
    """The Python blocks of a page, as one file."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def run_page(name: str, folder: Path, backend: str, *, ignore: str = "error") -> str:
    """What a page of docs/ prints, run in a folder; no clock decides what is tested."""
    code, opened = code_of(ROOT / "docs" / f"{name}.md"), f'dl.Lab("runs/{name}")'
    assert code.count(opened) == 1
    code = code.replace(opened, f'dl.Lab("runs/{name}", backend="{backend}")')
    (folder / f"{name}.py").write_text(code)
    words = [sys.executable, "-W", "error", "-W", ignore, f"{name}.py"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_runs(tmp_path: Path) -> None:
    printed = run_page("tutorial", tmp_path, "loop")
    own, trak = re.findall(r"LDS ([\d.]+) \[([-\d.]+), .*; 20 targets x 30 subsets x 2 seeds", printed)
    assert min(float(own[1]), float(trak[1])) > 0, "both predict better than chance"
    assert re.search(r"by 8 pairs of retrainings: agree\nagree\n", printed)
    assert (tmp_path / "tutorial.html").stat().st_size > 10_000


def without_numbers(text: str) -> str:
    """The words; signs, stars and numbers differ between machines."""
    return re.sub(r"[-+]?\d[\d.,]*| [*]$", "", text, flags=re.MULTILINE)


def lds_values(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"LDS ([\d.]+) \[", text)]


def test_the_page_on_datamodels_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("datamodels", tmp_path, "stacked")
    page = (ROOT / "docs" / "datamodels.md").read_text()
    shown = "".join(re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE))
    assert without_numbers(printed) == without_numbers(shown)
    assert lds_values(printed) == pytest.approx(lds_values(shown), abs=0.05)
    ridge, lasso, trak, together = lds_values(printed)
    assert together > max(ridge, lasso, trak), "the prior and the datamodel are better than either"
    assert "target 99, training row 17:" in printed, "the copy is found"
    found = re.search(r"wrong by construction: (\d+)", printed)
    assert found
    assert int(found[1]) >= 7, "wrong labels are found"


def test_the_page_on_data_prints_what_it_says(tmp_path: Path) -> None:
    assert run_page("data", tmp_path, "loop") == shown_on("data")


def test_the_page_on_checkpoints_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("trak-on-your-own-checkpoints", tmp_path, "loop")
    page = (ROOT / "docs" / "trak-on-your-own-checkpoints.md").read_text()
    shown = "".join(re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE))
    assert without_numbers(printed) == without_numbers(shown)
    assert re.findall(r"dl-\d{3}", printed) == re.findall(r"dl-\d{3}", shown)
    trak, swapped = re.findall(r"^(?:TRAK +)?LDS (-?[\d.]+)", printed, flags=re.MULTILINE)
    assert min(float(trak), float(swapped)) > 0.4, "both predict"
    slopes = re.findall(r"^(before|after ) slope ([\d.]+)", printed, flags=re.MULTILINE)
    assert abs(float(dict(slopes)["after "]) - 1) < 0.3, "calibrated scores have the output's units"


def test_the_page_on_modeldiff_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("modeldiff", tmp_path, "loop")
    page = (ROOT / "docs" / "modeldiff.md").read_text()
    shown = "".join(re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE))
    assert without_numbers(printed) == without_numbers(shown)
    moved = re.search(r"moves most, (\d+) have the patch", printed)
    assert moved
    assert int(moved[1]) >= 20, "the direction is the patch"


def test_the_page_on_unlearning_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("unlearning", tmp_path, "stacked")
    page = (ROOT / "docs" / "unlearning.md").read_text()
    shown = "".join(re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE))
    words, said = (re.sub(" +", " ", without_numbers(text)) for text in (printed, shown))
    assert words == said, "verdicts and gates are words, so that they are compared, too"
    hardness = {
        name: float(size)
        for name, size in re.findall(r"^(\w+): margins .* by ([\d.]+)", printed, re.MULTILINE)
    }
    assert hardness["like"] > 3 * hardness["random"], "coherent rows are the hard ones"
    before, dmm = (
        float(found[1])
        for name in ("nothing", "DMM")
        if (found := re.search(rf"^{name} +50  forget +20 +[\d.]+ +([\d.]+)", printed, re.MULTILINE))
    )
    assert dmm < before / 2, "matching forgets"
    assert (tmp_path / "receipt.html").stat().st_size > 10_000


def test_the_page_of_use_runs(tmp_path: Path) -> None:
    """The README's code, with smaller numbers."""
    code = code_of(ROOT / "README.md")
    for large, small in (
        ("count=2000", "count=60"),
        ("count=100,", "count=8,"),
        ("calibration_removals(trak, seed=2)", "calibration_removals(trak, count=10, seed=2)"),
        ("models=10", "models=2"),
        ("verify=8", "verify=2"),
        ("epochs=15", "epochs=3"),
        ("test[:100]", "test[:10]"),
        ('dl.Lab("runs/digits")', 'dl.Lab("runs/digits", backend="stacked")'),
    ):
        assert code.count(large) == 1, f"the README no longer says {large}"
        code = code.replace(large, small)
    (tmp_path / "use.py").write_text(code)
    words = [sys.executable, "-W", "error", "use.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10 targets x 8 subsets x 2 seeds" in done.stdout
    assert "by 2 pairs of retrainings" in done.stdout
    assert (tmp_path / "digits.html").exists()


def shown_on(name: str) -> str:
    page = (ROOT / "docs" / f"{name}.md").read_text()
    return "".join(re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE))


def test_the_page_on_language_models_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page(
        "language", tmp_path, "loop", ignore="ignore::FutureWarning"
    )  # peft's, of transformers
    assert without_numbers(printed) == without_numbers(shown_on("language")), (
        "answers and who taught them, too"
    )
    trak, ek_fac, words, _ = lds_values(printed)
    assert min(trak, ek_fac) > words, "gradients say more than words in common"
    page = (tmp_path / "language.html").read_text()
    assert "what it does to each token of the target" in page


def test_the_page_on_clip_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("clip", tmp_path, "stacked")
    table, captions = printed.split(", helped by:")
    said, helped = shown_on("clip").split(", helped by:")
    assert without_numbers(table) == without_numbers(said)
    assert captions.splitlines()[1] == helped.splitlines()[1], "a pair is helped by its like"
    trak, ek_fac, words, features = map(float, re.findall(r"LDS (-?[\d.]+) \[", printed))
    assert min(trak, ek_fac) > max(words, features) + 0.1
    assert "the digit one in thin ink" in (tmp_path / "clip.html").read_text()


def test_the_page_on_diffusion_prints_what_it_says(tmp_path: Path) -> None:
    printed = run_page("diffusion", tmp_path, "stacked")
    assert without_numbers(printed) == without_numbers(shown_on("diffusion")), "verdicts are words"
    assert min(lds_values(printed)[:2]) > 0.3
    page = (tmp_path / "diffusion.html").read_text()
    assert "When was it decided what a sample becomes?" in page
    assert "What would the same noise have become without them?" in page
