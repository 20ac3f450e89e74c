"""Every page that the package can write forbids scripts and outside addresses."""

from pathlib import Path

import pytest
from report_reading import POLICY, Node, Tree, check_policy

import dataloupe
from dataloupe.report import report


def test_every_template_of_a_page_has_a_policy() -> None:
    pages = [
        path
        for path in Path(dataloupe.__file__).parent.rglob("*.html")
        if "<head>" in path.read_text(encoding="utf-8")
    ]
    assert pages
    assert all(POLICY in path.read_text(encoding="utf-8") for path in pages)


HEAD = "<meta http-equiv='{}' content=\"{}\"><style></style>"
STRICT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'"


def made(head: str, body: str = "") -> Node:
    return Tree(f"<html><head>{head}</head><body>{body}</body></html>").open[0]


def test_a_page_that_breaks_its_policy_is_noticed(tmp_path: Path, trak) -> None:
    right = HEAD.format(POLICY, STRICT)
    check_policy(made(right))
    report(tmp_path / "a.html", trak)
    check_policy(Tree((tmp_path / "a.html").read_text()).open[0])
    for head, body in (
        ("<style></style>", ""),
        (HEAD.format(POLICY, STRICT.replace("'none'", "*", 1)), ""),
        (HEAD.format(POLICY, STRICT + "; script-src 'unsafe-inline'"), ""),
        (right, "<script>alert(1)</script>"),
        (right, "<p onclick='alert(1)'></p>"),
        (right, "<img src='https://example.org/a.png'>"),
        (right, "<a href='javascript:alert(1)'></a>"),
        (right, "<iframe></iframe>"),
    ):
        with pytest.raises(AssertionError):
            check_policy(made(head, body))


def test_a_script_with_its_hash_is_allowed() -> None:
    policy = STRICT + "; script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
    check_policy(made(HEAD.format(POLICY, policy), "<script>alert(1)</script>"))
