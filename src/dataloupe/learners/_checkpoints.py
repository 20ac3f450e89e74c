"""Models that the user trained elsewhere: the door for every training loop that is not ours."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, canonical
from dataloupe.core import Model, Subsets, TorchModel, TrainingLoss, as_array, copied_module, isolated
from dataloupe.learners._losses import Loss, as_training_loss
from dataloupe.learners._read_state import Source, read_state, title_of
from dataloupe.learners._state_names import matched


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoints:
    """Finished models: the tensors of the user's own training, put into ``module`` (or what it makes).

    ``sources``: one or more state dicts, modules, ``.safetensors`` files, ``.pt`` / ``.pth`` / ``.bin`` files that hold a state
    dict and nothing else, ``.ckpt`` files of Lightning (read with ``weights_only=True``: no code of theirs runs), an
    ``.index.json`` of shards, or folders of ``save_pretrained`` and trainers (``checkpoint-500/``). ``kept``: booleans
    ``[k, n]``, the training rows that each of the k models saw, where you know them. ``loss``: what they were trained with, as
    :class:`SGD` takes it (:mod:`dataloupe.losses`); None: the plain loss of the output, and attributions say that it is assumed. Everything is read and
    checked here, against the module: names, shapes, dtypes, NaN. Tensors of another device come to the CPU. There is
    no ``train``.

    What is explained is what was trained: parameters of the module that want no gradient are held still, and a source may leave them
    out; the module's own are taken. So ``peft``'s adapters are sources as they were saved, for the module that ``get_peft_model`` makes.

    Raises ``BadInput`` dl-860 (a file), dl-861 (names), dl-862 (shapes, dtypes), dl-863 (NaN), dl-864
    (``kept``), dl-865 (module or sources), dl-866 (what is in it).

    >>> import torch
    >>> states = [nn.Linear(3, 2).state_dict() for _ in range(2)]
    >>> import numpy as np
    >>> source = Checkpoints(nn.Linear(3, 2), states, kept=np.array([[True, False], [False, True]]))
    >>> source.models()[0].predict(torch.ones(5, 3)).shape, source.subsets(2).count
    (torch.Size([5, 2]), 2)
    """

    module: nn.Module | Callable[[], nn.Module]
    sources: Source | Sequence[Source] = dataclasses.field(repr=False)
    kept: Any = dataclasses.field(default=None, repr=False)
    loss: Loss | None = None
    _models: list[TorchModel] = dataclasses.field(init=False, repr=False)
    _kept: Subsets | None = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read and check everything."""
        sources = _listed(self.sources)
        if not sources:
            raise BadInput(
                "dl-865",
                asked="checkpoints",
                found="an empty list",
                do="give at least one state dict or file",
            )
        kept = None if self.kept is None else as_array(self.kept, "kept")
        if kept is not None and (kept.ndim != 2 or len(kept) != len(sources) or kept.dtype != bool):
            raise BadInput(
                "dl-864",
                asked=f"the rows that each of {len(sources)} checkpoints saw",
                found=f"{kept.dtype} of shape {kept.shape}",
                do="give a boolean matrix [k, n], true where model k saw row n",
            )
        _check_apart(sources)
        self.training_loss  # noqa: B018  (checked now)
        module = _module(self.module)
        adapters = hasattr(module, "peft_config")
        titles = [title_of(source, i) for i, source in enumerate(sources)]
        models = [
            _load(module, read_state(source, title, adapters=adapters), title)
            for source, title in zip(sources, titles, strict=True)
        ]
        object.__setattr__(self, "_models", models)
        object.__setattr__(self, "_kept", None if kept is None else Subsets.listed(kept))

    @staticmethod
    def read(source: Source) -> dict[str, Tensor]:
        """The state dict in a file, in shards or in a folder, as sources are read: to rename or choose its tensors.

        Raises ``BadInput`` dl-860, dl-866.

        >>> sorted(Checkpoints.read(nn.Linear(3, 2)))
        ['bias', 'weight']
        """
        return read_state(source, title_of(source, 0))

    def models(self) -> list[Model]:
        """All of them, in the order given."""
        return list(self._models)

    def subsets(self, n: int) -> Subsets | None:
        """The rows that each was trained on, None where nobody knows (dl-864 for another n)."""
        if self._kept is not None and self._kept.n != n:
            raise BadInput(
                "dl-864",
                asked=f"the rows of {n} training examples that the checkpoints saw",
                found=f"`kept` over {self._kept.n}",
                do="give `kept` one column per training example of the question",
            )
        return self._kept

    @property
    def training_loss(self) -> TrainingLoss | None:
        """The loss that the models were trained with, None where nobody said."""
        return None if self.loss is None else as_training_loss(self.loss)

    def __identity__(self) -> dict[str, Any]:
        """The models (structure, classes, tensors), and the rows they saw."""
        tensors = [part for one in self._models for part in (*one.params.values(), *one.buffers.values())]
        counters = [part._version for part in tensors]
        known = self.__dict__.get("_identity")
        if known is None or known[0] != counters:
            found = {"models": canonical(self._models), "kept": canonical(self._kept)}
            if self.loss is not None:
                found["loss"] = canonical(self.training_loss)
            known = counters, found
            object.__setattr__(self, "_identity", known)
        return known[1]


# --- module ------------------------------------------------------------------------------------------------


def _module(given: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """A module of our own, in evaluation mode; a factory may draw, from a generator of its own."""
    if isinstance(given, nn.Module):
        return copied_module(given).eval()
    made = None
    if callable(given):
        with isolated(Stream.root(0)("checkpoints", "module").seed()):
            made = given()
    if not isinstance(made, nn.Module):
        raise BadInput(
            "dl-865",
            asked="the module that the checkpoints belong to",
            found=f"{given!r}, which is and makes no torch.nn.Module",
            do="give the module, or a function without arguments that makes it",
        )
    return made.eval()


# --- against the module ------------------------------------------------------------------------------------


def _listed(sources: Source | Sequence[Source]) -> list[Any]:
    """The sources one by one (dl-865 for what is none)."""
    if isinstance(sources, str | Path | Mapping | nn.Module):
        return [sources]
    if isinstance(sources, Iterable) and not (isinstance(sources, Tensor) and sources.ndim == 0):
        return list(sources)
    raise BadInput(
        "dl-865",
        asked="checkpoints",
        found=f"a {type(sources).__name__}",
        do="give state dicts, modules or files, in a list",
    )


def _check_apart(sources: Sequence[Source]) -> None:
    """Refuse state dicts that share their memory: taken in training without a copy, all are the last one (dl-865)."""
    places: dict[frozenset[int], int] = {}
    for i, source in enumerate(sources):
        held = source.state_dict() if isinstance(source, nn.Module) else source
        tensors = (
            [part for part in held.values() if isinstance(part, Tensor)] if isinstance(held, Mapping) else []
        )
        place = frozenset(part.data_ptr() for part in tensors if part.numel())
        if place and places.setdefault(place, i) != i:
            raise BadInput(
                "dl-865",
                asked=f"{len(sources)} checkpoints",
                found=f"checkpoint {i}, which is checkpoint {places[place]}: the same tensors in memory",
                do="copy what training goes on with: copy.deepcopy(net.state_dict()), or save it to a file",
            )


def _load(module: nn.Module, state: dict[str, Tensor], title: str) -> TorchModel:
    """The tensors as a model, after they were held against the module."""
    chosen = dict(matched(module, state, title))
    for name, (tensor, wanted) in chosen.items():
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise BadInput(
                "dl-862",
                asked=f"{title}: tensor {name}, {wanted.dtype} of shape {tuple(wanted.shape)}",
                found=f"{tensor.dtype} of shape {tuple(tensor.shape)}",
                do="make the module as it was in training (widths, number of classes, dtype)",
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BadInput(
                "dl-863",
                asked=f"{title}: finite numbers",
                found=f"NaN or infinity in tensor {name}",
                do="leave the diverged model out",
            )
    own = dict(module.named_parameters())
    if own and not any(p.requires_grad for p in own.values()):
        raise BadInput(
            "dl-867",
            asked=f"{title}: what was trained of {type(module).__name__}",
            found="no parameter that wants a gradient",
            do="call module.requires_grad_(True), or on the part that was trained",
        )
    params = {name: chosen[name][0].clone() for name, p in own.items() if p.requires_grad}
    still = {name: p for name, p in own.items() if not p.requires_grad} | dict(module.named_buffers())
    buffers = {
        name: chosen[name][0].clone() if name in chosen else tensor.detach().cpu().clone()
        for name, tensor in still.items()
    }
    return TorchModel(module, params, buffers)
