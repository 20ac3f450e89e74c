"""A method asked about another output than the one to be explained."""

import dataclasses
from typing import ClassVar

from dataloupe._errors import BadInput
from dataloupe.core import AbstractAttributor, DenseAttribution, Lab, Needs, Output, Question, check_settings


@dataclasses.dataclass(frozen=True)
class ByProxy(AbstractAttributor):
    """The answer of a method to the question about another ``output``, taken for the answer to this one: in its order, in relative units.

    D-TRAK is ``ByProxy(TRAK(), outputs.PredictionNorm(diffusion))``, for questions about the denoising loss. ``sign=-1`` turns the scores, for a
    proxy that falls where the output rises. ``train_output`` is the proxy on the training side, the same as ``output`` if None.

    Raises ``BadInput`` dl-711 (settings), dl-202 (an output that has other target rows), and what the method raises.

    >>> from dataloupe import Diffusion, TRAK, outputs
    >>> ByProxy(TRAK(models=1), outputs.PredictionNorm(Diffusion())).method.models
    1

    Source: Zheng et al. 2024 (D-TRAK), section 3.2.
    """

    method: AbstractAttributor
    output: Output
    train_output: Output | None = None
    sign: int = 1

    requires: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        if self.sign not in (1, -1):
            raise BadInput(
                "dl-711",
                asked=f"a proxy of sign {self.sign}",
                found="neither 1 nor -1",
                do="use 1 where the proxy rises with the output, -1 where it falls",
            )

    def needs(self, question: Question) -> Needs:
        """What the method needs."""
        return self.method.needs(self._asked(question))

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """The method's answer, under this name."""
        return self._named(self.method.attribute(self._asked(question), lab))

    def extended(self, found: DenseAttribution, question: Question, lab: Lab) -> DenseAttribution:
        """With the single models that the method can tell."""
        parts = self.method.attribute(self._asked(question), lab).parts()
        about = {name: getattr(found.info, name) for name in ("question", "output", "better", "provenance")}
        named = [self._named(one) for one in parts]
        pieces = [dataclasses.replace(one, info=dataclasses.replace(one.info, **about)) for one in named]
        return dataclasses.replace(found, pieces=pieces)

    def with_penalty(self, value: float) -> AbstractAttributor | None:
        """The method at another penalty, by the same proxy."""
        method = self.method.with_penalty(value)
        return None if method is None else dataclasses.replace(self, method=method)

    def check_capabilities(self, question: Question) -> None:
        """Refuse what the method refuses."""
        self.method.check_capabilities(question)

    def _asked(self, question: Question) -> Question:
        asked = dataclasses.replace(question, output=self.output, train_output=self.train_output)
        if not (asked.index.shape == question.index.shape and (asked.index == question.index).all()):
            raise BadInput(
                "dl-202",
                asked=f"the output {question.output.name} by way of {self.output.name}",
                found=f"{asked.m} target rows of the proxy for {question.m}",
                do="use a proxy with one component for each of the output's",
            )
        return asked

    def _named(self, found: DenseAttribution) -> DenseAttribution:
        info = dataclasses.replace(
            found.info, method=f"{found.info.method} by {self.output.name}", settings=self.settings()
        )
        return DenseAttribution(found.scores if self.sign > 0 else -found.scores, info, units="relative")
