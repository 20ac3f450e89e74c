"""Reading a page: a small tree of its elements, and judgements to put on one."""
# ruff: noqa: RUF001  (the page writes true minus signs)

import base64
import dataclasses
import hashlib
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from dataloupe.apps import WhatIf
from dataloupe.judge import LDS, Control

N, M = 40, 12
POLICY = "Content-Security-Policy"
VOID = {"meta", "img", "link", "br"}


@dataclasses.dataclass
class Node:
    """An element of the page: enough of a tree to ask questions."""

    tag: str
    attributes: dict[str, str]
    children: list["Node | str"] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(c if isinstance(c, str) else f" {c.text} " for c in self.children).split())

    def all(self, tag: str | None = None, name: str | None = None) -> list["Node"]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                classes = child.attributes.get("class", "").split()
                if (tag is None or child.tag == tag) and (name is None or name in classes):
                    found.append(child)
                found += child.all(tag, name)
        return found

    def one(self, tag: str | None = None, name: str | None = None) -> "Node":
        (found,) = self.all(tag, name)
        return found


class Tree(HTMLParser):
    """Fails on an element that is closed wrongly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open = [Node("", {})]
        self.feed(html)
        self.close()
        assert [node.tag for node in self.open] == [""]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        node = Node(tag, {k: v or "" for k, v in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.open[-1].children.append(Node(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page(path: Path) -> Node:
    """The tree of a page; whatever the page is, it can load nothing and run nothing that its policy does not name."""
    html = Tree(path.read_text(encoding="utf-8")).open[0]
    check_policy(html)
    return html


def check_policy(html: Node) -> None:
    """A strict policy, which comes first; no script without a hash, no handler, no address outside."""
    head = html.one("head")
    metas = [node for node in head.all("meta") if node.attributes.get("http-equiv") == POLICY]
    assert len(metas) == 1
    policy = {
        words[0]: words[1:] for words in (part.split() for part in metas[0].attributes["content"].split(";"))
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["style-src"] == ["'unsafe-inline'"]
    assert policy["img-src"] == policy["font-src"] == ["data:"]
    assert head.children.index(metas[0]) < head.children.index(head.one("style"))
    allowed = policy.get("script-src", [])
    for script in html.all("script"):
        digest = hashlib.sha256("".join(map(str, script.children)).encode()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in allowed
        assert "src" not in script.attributes
    assert all(source.startswith("'sha256-") for source in allowed)
    for node in html.all():
        assert not any(name.startswith("on") for name in node.attributes), node
        for name in ("src", "href", "srcset", "action", "data", "formaction", "xlink:href", "poster"):
            value = node.attributes.get(name, "")
            assert not value or value.startswith(("data:image/", "#")), node
    assert not {node.tag for node in html.all()} & {"iframe", "object", "embed", "form", "base", "link"}


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace("±", "").replace(",", ""))


def pixels(image: Node) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(image.attributes["src"].split(",")[1]))) as opened:
        return np.asarray(opened)


def make_answer(**changes: object) -> WhatIf:
    given = {
        "method": "TRAK",
        "target": 7,
        "removed": np.arange(20),
        "predicted": -1.9,
        "predicted_interval": (-2.4, -1.4),
        "verified": -1.6,
        "verified_interval": (-1.9, -1.3),
        "differences": np.array([-1.5, -1.7, -1.6]),
        "verdict": "agree",
        "notes": ("linearised at half of the data",),
    }
    return WhatIf(**(given | changes))


def make_lds(**changes: object) -> LDS:
    given = {
        "method": "TRAK",
        "value": 0.41,
        "interval": (0.38, 0.44),
        "per_target": np.linspace(0.1, 0.72, M),
        "ceiling": 0.73,
        "ceiling_interval": (0.7, 0.76),
        "reliability": 0.36,
        "disattenuated": 0.5616,
        "controls": {"random": Control(-0.01, (-0.04, 0.02))},
        "subsets": 100,
        "repeats": 2,
        "targets": M,
        "left_out": 3,
        "notes": ("one note",),
    }
    return LDS(**(given | changes))
