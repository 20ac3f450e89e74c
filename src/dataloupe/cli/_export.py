"""``export``: an attribution of a lab as a file that other programs open."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from dataloupe.cli._base import MaybeNumber, MaybeShare, Out, Place, Result, Text, Verb
from dataloupe.cli._folder import attributions, one
from dataloupe.formats import export
from dataloupe.lab import Lab


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Verb):
    """Write an attribution of a lab as .safetensors, .npz (scipy sparse) or .parquet (target, row, score).

    dataloupe export runs/fashion --only trak --to trak.parquet --top 100
    """

    lab: Annotated[Place, tyro.conf.Positional]
    """the folder or URL"""
    to: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """the file; its ending chooses the format"""
    top: MaybeNumber = None
    """only the scores of largest size of every target, so many"""
    above: MaybeShare = None
    """only the scores of size above this"""
    only: Text = ""
    """the attribution whose method's name begins so"""

    def run(self, out: Out) -> Result:
        """Read the folder, write the file."""
        attribution = one(attributions(Lab(self.lab), only=self.only))
        path = export(attribution, self.to, k=self.top, above=self.above)
        size = path.stat().st_size
        out.say(
            f"  {attribution.info.method}, {attribution.m:,} targets x {attribution.n:,} examples: "
            f"[bold]{path}[/] [dim]{size / 1000:,.0f} kB[/]"
        )
        return Result({"path": str(path), "method": attribution.info.method, "bytes": size})
