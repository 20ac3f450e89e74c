"""Models that the user trained elsewhere: the door for every training loop that is not ours."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, canonical
from dataloupe.core import Model, Subsets, TorchModel

Source: TypeAlias = Mapping[str, Tensor] | str | Path


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoints:
    """Finished models: the tensors of the user's own training, put into ``module`` (or what it makes).

    ``sources``: one or more state dicts, ``.safetensors`` files, or ``.pt`` / ``.pth`` / ``.bin`` files that hold a state
    dict and nothing else (read with ``weights_only=True``: no code of theirs runs). ``kept``: booleans
    ``[k, n]``, the training rows that each of the k models saw, where you know them. Everything is read and
    checked here, against the module: names, shapes, dtypes, NaN. Tensors of another device come to the CPU. There is
    no ``train``.

    What is explained is what was trained: parameters of the module that want no gradient are held still, and a source may leave them
    out; the module's own are taken. So ``peft``'s adapters are sources as they were saved, for the module that ``get_peft_model`` makes.

    Raises ``BadInput`` dl-860 (a file), dl-861 (names), dl-862 (shapes, dtypes), dl-863 (NaN), dl-864
    (``kept``), dl-865 (module or sources), dl-866 (what is in it).

    >>> states = [nn.Linear(3, 2).state_dict() for _ in range(2)]
    >>> source = Checkpoints(nn.Linear(3, 2), states, kept=np.array([[True, False], [False, True]]))
    >>> source.models()[0].predict(torch.ones(5, 3)).shape, source.subsets(2).count
    (torch.Size([5, 2]), 2)
    """

    module: nn.Module | Callable[[], nn.Module]
    sources: Source | Sequence[Source] = dataclasses.field(repr=False)
    kept: Any = dataclasses.field(default=None, repr=False)
    _models: list[TorchModel] = dataclasses.field(init=False, repr=False)
    _kept: Subsets | None = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read and check everything."""
        given = self.sources
        sources = [given] if isinstance(given, str | Path | Mapping) else list(given)
        if not sources:
            raise BadInput(
                "dl-865",
                asked="checkpoints",
                found="an empty list",
                do="give at least one state dict or file",
            )
        kept = None if self.kept is None else np.asarray(self.kept)
        if kept is not None and (kept.ndim != 2 or len(kept) != len(sources) or kept.dtype != bool):
            raise BadInput(
                "dl-864",
                asked=f"the rows that each of {len(sources)} checkpoints saw",
                found=f"{kept.dtype} of shape {kept.shape}",
                do="give a boolean matrix [k, n], true where model k saw row n",
            )
        _check_apart(sources)
        module = _module(self.module)
        models = [_load(module, _state(source, i), _title(source, i)) for i, source in enumerate(sources)]
        object.__setattr__(self, "_models", models)
        object.__setattr__(self, "_kept", None if kept is None else Subsets.listed(kept))

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

    def __identity__(self) -> dict[str, Any]:
        """The models (structure, classes, tensors), and the rows they saw."""
        known = self.__dict__.get("_identity")
        if known is None:
            known = {"models": canonical(self._models), "kept": canonical(self._kept)}
            object.__setattr__(self, "_identity", known)
        return known


# --- module ------------------------------------------------------------------------------------------------


def _module(given: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """A module of our own, in evaluation mode; a factory may draw, from a generator of its own."""
    if isinstance(given, nn.Module):
        return copy.deepcopy(given).eval()
    made = None
    if callable(given):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(Stream.root(0)("checkpoints", "module").seed())
            made = given()
    if not isinstance(made, nn.Module):
        raise BadInput(
            "dl-865",
            asked="the module that the checkpoints belong to",
            found=f"{given!r}, which is and makes no torch.nn.Module",
            do="give the module, or a function without arguments that makes it",
        )
    return made.eval()


# --- reading -----------------------------------------------------------------------------------------------


def _title(source: Source, i: int) -> str:
    return f"checkpoint {i}" if isinstance(source, Mapping) else f"checkpoint {i} ({source})"


def _state(source: Source, i: int) -> dict[str, Tensor]:
    """Names and tensors of a source."""
    title = _title(source, i)
    found = source if isinstance(source, Mapping) else _read(Path(source), title)
    tensors = isinstance(found, Mapping) and all(isinstance(part, Tensor) for part in found.values())
    if not tensors:
        raise BadInput(
            "dl-866",
            asked=f"{title}: a state dict, names to tensors",
            found=_contents(found),
            do=f'hand its state dict over: torch.load(path, weights_only=True)["{_inside(found)}"]',
        )
    return {name: part.detach().cpu() for name, part in found.items()}


def _check_apart(sources: Sequence[Source]) -> None:
    """Refuse state dicts that share their memory: taken in training without a copy, all are the last one (dl-865)."""
    places: dict[frozenset[int], int] = {}
    for i, source in enumerate(sources):
        tensors = (
            [part for part in source.values() if isinstance(part, Tensor)]
            if isinstance(source, Mapping)
            else []
        )
        place = frozenset(part.data_ptr() for part in tensors if part.numel())
        if place and places.setdefault(place, i) != i:
            raise BadInput(
                "dl-865",
                asked=f"{len(sources)} checkpoints",
                found=f"checkpoint {i}, which is checkpoint {places[place]}: the same tensors in memory",
                do="copy what training goes on with: copy.deepcopy(net.state_dict()), or save it to a file",
            )


def _inside(found: Any) -> str:
    """Under which name of a training checkpoint the state dict lies, if one can be told."""
    for name, part in found.items() if isinstance(found, Mapping) else ():
        if isinstance(part, Mapping) and part and all(isinstance(one, Tensor) for one in part.values()):
            return str(name)
    return "model"


def _contents(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    return "also " + ", ".join(
        f"{name}: {type(part).__name__}" for name, part in found.items() if not isinstance(part, Tensor)
    )


def _read(path: Path, title: str) -> Any:
    if path.suffix not in {".safetensors", ".pt", ".pth", ".bin"}:
        raise BadInput(
            "dl-866",
            asked=title,
            found=f"a file of kind {path.suffix or 'unknown'}",
            do="give .safetensors, or .pt / .pth / .bin with a state dict",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader raises, the file cannot be read
        raise BadInput(
            "dl-860",
            asked=title,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no whole file'}",
            do="check that the file is there and whole; a .pt file must hold tensors only (no pickled classes)",
        ) from error


# --- against the module ------------------------------------------------------------------------------------


def _load(module: nn.Module, state: dict[str, Tensor], title: str) -> TorchModel:
    """The tensors as a model, after they were held against the module."""
    chosen = dict(_matched(module, state, title))
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


def _matched(
    module: nn.Module, state: dict[str, Tensor], title: str
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """(name, (tensor found, tensor of the module)); of tied tensors any name will do, but all must agree."""
    names: dict[int, list[str]] = {}
    wanted = module.state_dict(keep_vars=True)
    state = _adapters(module, wanted, state)
    for name, tensor in wanted.items():
        names.setdefault(id(tensor), []).append(name)
    still = {name for name, p in module.named_parameters() if not p.requires_grad}
    missing = [tied[0] for tied in names.values() if not any(name in state or name in still for name in tied)]
    unknown = [name for name in state if name not in wanted]
    if missing or unknown:
        raise BadInput(
            "dl-861",
            asked=f"{title}: the tensors of {type(module).__name__}",
            found=f"missing: {_some(missing)}; unknown: {_some(unknown)}",
            do=_advice(wanted, state),
        )
    for tied in names.values():
        found = [name for name in tied if name in state]
        if not found:
            continue
        if any(not torch.equal(state[found[0]], state[other]) for other in found[1:]):
            raise BadInput(
                "dl-861",
                asked=f"{title}: one tensor under the tied names {', '.join(tied)}",
                found="different numbers under them",
                do="make the module as it was in training: tied there, or not",
            )
        yield tied[0], (state[found[0]], wanted[tied[0]])


def _adapters(module: nn.Module, wanted: Mapping[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the module's names, where the library peft saved them without the adapter's."""
    adapters = getattr(module, "peft_config", {})
    names = {_as_saved(name, adapter): name for adapter in adapters for name in wanted}
    return {name if name in wanted else names.get(name, name): tensor for name, tensor in state.items()}


def _as_saved(name: str, adapter: str) -> str:
    """A tensor's name as peft saves it."""
    for long, short in (
        (f".modules_to_save.{adapter}.", "."),
        (f"lora_magnitude_vector.{adapter}.weight", "lora_magnitude_vector"),
        (f".{adapter}.", "."),
    ):
        name = name.replace(long, short)
    return name.removesuffix(f".{adapter}")


def _some(names: list[str]) -> str:
    return (", ".join(names[:4]) or "none") + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _advice(wanted: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    for prefix in ("module.", "_orig_mod.", "model."):
        if {name.removeprefix(prefix) for name in state} == set(wanted):
            return f'strip the prefix: {{name.removeprefix("{prefix}"): t for name, t in state.items()}}'
    return "make the module as it was in training, and hand over its state dict whole"
