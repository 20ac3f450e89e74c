"""Names and tensors out of whatever a training left: state dicts, modules, files, shards, folders. No code of theirs runs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dataloupe._errors import BadInput

Source: TypeAlias = Mapping[str, Tensor] | nn.Module | str | Path

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
KINDS = (".safetensors", *PICKLES)
INDEX = ".index.json"
"""How the name of a file ends that tells in which shard every tensor lies."""
WHOLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
)
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""Files in which Hugging Face's libraries save a model, and adapters; the first that is there is read."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def title_of(source: Source, i: int) -> str:
    """A source in words."""
    return f"checkpoint {i} ({source})" if isinstance(source, str | Path) else f"checkpoint {i}"


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All that a module computes with: its state dict, and buffers that it does not save."""
    return {**dict(module.named_buffers()), **module.state_dict()}


def read_state(source: Source, title: str, *, adapters: bool = False) -> dict[str, Tensor]:
    """Names and tensors of a source, on the CPU. ``adapters``: of a folder that holds both, those of adapters.

    Raises ``BadInput`` dl-860 (a file that cannot be read), dl-866 (contents or a kind that are no state dict).
    """
    contents: Any = source
    if isinstance(source, nn.Module):
        contents = tensors_of(source)
    elif isinstance(source, str | Path):
        contents = _read(Path(source).expanduser(), title, adapters=adapters)
    elif not isinstance(source, Mapping):
        raise BadInput(
            "dl-866",
            asked=f"{title}: a state dict, a module, or a file",
            found=f"a {type(source).__name__}",
            do="hand over module.state_dict(), or the path of a file that holds it",
        )
    if not isinstance(contents, Mapping) or not all(isinstance(part, Tensor) for part in contents.values()):
        raise _no_state_dict(contents, title)
    if not contents or not all(isinstance(name, str) for name in contents):
        raise BadInput(
            "dl-866",
            asked=f"{title}: a state dict, names to tensors",
            found="no tensor at all" if not contents else "names that are no text",
            do="hand over module.state_dict() as it is",
        )
    try:
        return {name: part.detach().cpu() for name, part in contents.items()}
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # a tensor without numbers, or of a device that is gone
        raise BadInput(
            "dl-866",
            asked=f"{title}: tensors with numbers in them",
            found=_first_line(error),
            do="save the state dict where its tensors are whole and on the CPU",
        ) from error


# --- files --------------------------------------------------------------------------------------------------


def _read(path: Path, title: str, *, adapters: bool) -> Any:
    if path.is_dir():
        return _read_folder(path, title, adapters=adapters)
    if not path.exists():
        raise _unreadable(title, "no such file or folder", "check the path")
    if path.name.endswith(INDEX):
        return _read_shards(path, title)
    if path.suffix not in KINDS:
        raise BadInput(
            "dl-866",
            asked=title,
            found=f"a file of kind {path.suffix or 'unknown'}",
            do=f"give {', '.join(KINDS)}, an {INDEX.lstrip('.')} of shards, or a folder of save_pretrained",
        )
    return _read_file(path, title)


def _read_file(path: Path, title: str) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader raises, the file cannot be read
        if type(error).__name__ == "UnpicklingError":
            raise _pickled(path, title, error) from error
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise _unreadable(title, why, "check that the file is whole; it must hold tensors only") from error
    if path.suffix == ".ckpt" and isinstance(contents, Mapping) and "state_dict" in contents:
        return contents["state_dict"]  # as Lightning saves it
    return contents


def _pickled(path: Path, title: str, error: Exception) -> BadInput:
    """A pickle of more than tensors, which is not run; or no pickle at all."""
    text = _COLOURS.sub("", str(error))
    named = re.search(r"GLOBAL ([\w.]+)", text)
    found = f"a pickle of {named[1]}" if named else _first_line(error)
    inside = '["state_dict"]' if path.suffix == ".ckpt" else ".state_dict()"
    return _unreadable(
        title,
        f"{found}; it must hold tensors only, since reading more would run its code",
        "in training, write torch.save(m.state_dict(), path); of a file that you trust: "
        f"torch.save(torch.load(path, weights_only=False){inside}, new_path)",
    )


def _read_shards(index: Path, title: str) -> dict[str, Tensor]:
    """The tensors of all shards that an index names; they lie beside it."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(places.values()))
        outside = [name for name in files if Path(name).name != name or Path(name).suffix not in KINDS]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(
            title, f"{index.name}, which is no index of shards ({error})", "save it again"
        ) from error
    missing = [name for name in files if name not in outside and not (index.parent / name).is_file()]
    if outside or missing:
        what = "without" if missing else "with files outside its folder, or of another kind:"
        raise _unreadable(
            title,
            f"{index.name} {what} {', '.join((missing or outside)[:4])}",
            f"put all {len(files)} shards beside {index.name}",
        )
    shards = {name: _read_file(index.parent / name, title) for name in files}
    lost = [name for name, file in places.items() if name not in shards[file]]
    if lost:
        found = f"{places[lost[0]]} without the tensor {lost[0]}, which {index.name} says is there"
        raise _unreadable(title, found, "fetch or save all shards again, of one training")
    return {name: shards[file][name] for name, file in places.items()}


def _read_folder(folder: Path, title: str, *, adapters: bool) -> Any:
    """The model in a folder of ``save_pretrained`` or of a trainer (``checkpoint-500/``)."""
    families = (ADAPTERS, WHOLE) if adapters else (WHOLE, ADAPTERS)
    for name in (name for family in families for name in family):
        for file in (folder / name, folder / f"{name}{INDEX}"):
            if file.is_file():
                return _read(file, title, adapters=adapters)
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    raise BadInput(
        "dl-866",
        asked=f"{title}: a model saved in a folder",
        found=f"none of {', '.join((*WHOLE[:2], *ADAPTERS[:1]))}; there are: {shown or 'no files'}",
        do=_folder_advice(folder, names),
    )


def _folder_advice(folder: Path, names: list[str]) -> str:
    files = [name for name in names if name.endswith((*KINDS, INDEX))]
    inner = [name for name in names if name.startswith(("checkpoint-", "epoch", "step"))]
    if files:
        return f"name the file: {folder / files[0]}"
    if ".metadata" in names:
        return "make one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt"
    if any(name.startswith("global_step") for name in names):
        return "make one file of it by DeepSpeed's zero_to_fp32.py, which lies in the folder"
    if inner:
        return f"name one of them: {folder / inner[-1].rstrip('/')}"
    return "name the folder or file that save_pretrained, a trainer or torch.save wrote"


# --- what it holds ------------------------------------------------------------------------------------------


def _no_state_dict(contents: Any, title: str) -> BadInput:
    arrays = isinstance(contents, Mapping) and all(
        isinstance(part, np.ndarray | Tensor) for part in contents.values()
    )
    inside = f'hand its state dict over: torch.load(path, weights_only=True)["{_inside(contents)}"]'
    return BadInput(
        "dl-866",
        asked=f"{title}: a state dict, names to tensors",
        found=_contents(contents),
        do="make tensors of the arrays: {name: torch.from_numpy(a) for name, a in state.items()}"
        if arrays
        else inside,
    )


def _inside(contents: Any) -> str:
    """Under which name of a training checkpoint the state dict lies, if one can be told."""
    for name, part in contents.items() if isinstance(contents, Mapping) else ():
        if isinstance(part, Mapping) and part and all(isinstance(one, Tensor) for one in part.values()):
            return str(name)
    return "model"


def _contents(contents: Any) -> str:
    if not isinstance(contents, Mapping):
        return f"a {type(contents).__name__}"
    others = [
        f"{name}: {type(part).__name__}" for name, part in contents.items() if not isinstance(part, Tensor)
    ]
    return "also " + ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")


def _unreadable(title: str, found: str, do: str) -> BadInput:
    """dl-860."""
    return BadInput("dl-860", asked=title, found=found, do=do)


def _first_line(error: Exception) -> str:
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[0][:300] if lines else "no whole file"
