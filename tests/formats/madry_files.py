"""Small files in the layout of the original datamodels."""

import json

import numpy as np
import torch


def store(folder, masks, margins, done=None, *, spec=None, **others):
    """What initialize_store and the workers leave behind; a row that is not done stays as it was made, 0."""
    folder.mkdir(parents=True, exist_ok=True)
    done = np.ones(len(masks), dtype=bool) if done is None else done
    arrays = {"masks": masks, "margins": margins, **others}
    schema = {key: {"shape": list(a.shape[1:]), "dtype": _name(a.dtype)} for key, a in arrays.items()}
    (folder / "spec.json").write_text(json.dumps(spec or {"num_models": len(masks), "schema": schema}))
    for key, array in arrays.items():
        held = np.lib.format.open_memmap(
            folder / f"{key}.npy", mode="w+", dtype=array.dtype, shape=array.shape
        )
        held[done] = array[done]
        held.flush()
    np.save(folder / "_completed.npy", done)
    return folder


def fit(masks, margins):
    """What compute_datamodels saves: least squares on standardised masks, without their mean and deviation."""
    mean, deviation = masks.mean(0), masks.std(0)
    x = (masks - mean) / (deviation + 1e-32)
    level = margins.mean(0)
    weight = np.linalg.lstsq(x, margins - level, rcond=None)[0]
    return {"weight": weight, "bias": level, "lam": np.full(len(level), 0.01)}


def save(path, arrays):
    torch.save({name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items()}, path)
    return path


def _name(dtype):
    return "bool_" if dtype.kind == "b" else dtype.name
