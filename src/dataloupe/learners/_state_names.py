"""Names of a state dict held against a module's: adapters, tied tensors, wrappers' prefixes."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dataloupe._errors import BadInput

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What ``torch.compile``, FSDP and checkpoint wrappers put among names, at any depth."""


def matched(
    module: nn.Module, state: dict[str, Tensor], title: str
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """(name, (tensor found, tensor of the module)); of tied tensors any name will do, but all must agree.

    Buffers that the module does not save may be there. Raises ``BadInput`` dl-861.
    """
    names: dict[int, list[str]] = {}
    wanted = module.state_dict(keep_vars=True)
    unsaved = {name: buffer for name, buffer in module.named_buffers() if name not in wanted}
    state = _adapters(module, wanted, state)
    for name, tensor in wanted.items():
        names.setdefault(id(tensor), []).append(name)
    still = {name for name, p in module.named_parameters() if not p.requires_grad}
    missing = [tied[0] for tied in names.values() if not any(name in state or name in still for name in tied)]
    unknown = [name for name in state if name not in wanted and name not in unsaved]
    if missing or unknown:
        needed = [set(tied) for tied in names.values() if not any(name in still for name in tied)]
        raise BadInput(
            "dl-861",
            asked=f"{title}: the tensors of {type(module).__name__}",
            found=f"missing: {_some(missing)}; unknown: {_some(unknown)}",
            do=advice(needed, set(wanted) | set(unsaved), list(state), title),
        )
    for tied in names.values():
        here = [name for name in tied if name in state]
        if not here:
            continue
        if any(not torch.equal(state[here[0]], state[other]) for other in here[1:]):
            raise BadInput(
                "dl-861",
                asked=f"{title}: one tensor under the tied names {', '.join(tied)}",
                found="different numbers under them",
                do="make the module as it was in training: tied there, or not",
            )
        yield tied[0], (state[here[0]], wanted[tied[0]])
    for name, buffer in unsaved.items():
        if name in state:
            yield name, (state[name], buffer)


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


# --- how other names become the module's --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Renaming:
    """``infixes`` leave names wherever they stand, then ``prefix`` leaves their beginning, or ``added`` comes before it."""

    infixes: tuple[str, ...] = ()
    prefix: str = ""
    added: str = ""

    def __call__(self, name: str) -> str | None:
        """The new name; None for a name that the prefix leaves out."""
        for infix in self.infixes:
            name = name.replace(infix, "")
        return self.added + name.removeprefix(self.prefix) if name.startswith(self.prefix) else None

    def line(self, names: list[str]) -> str:
        """The dict comprehension that does it to ``state``."""
        new = "name" + "".join(f'.replace("{infix}", "")' for infix in self.infixes)
        new += f'.removeprefix("{self.prefix}")' if self.prefix else ""
        new = f'"{self.added}" + {new}' if self.added else new
        left_out = any(self(name) is None for name in names)
        inner = "name" + "".join(f'.replace("{infix}", "")' for infix in self.infixes)
        return f"{{{new}: t for name, t in state.items()" + (
            f' if {inner}.startswith("{self.prefix}")}}' if left_out else "}"
        )


def renamings(needed: list[set[str]], allowed: set[str], names: list[str]) -> list[Renaming]:
    """Every way to the module's names that leaves nothing missing and nothing unknown, the fewest words first.

    ``needed``: of each set one name must be there; ``allowed``: no other name may be.
    """
    infixes = tuple(word for word in WRAPPERS if any(name.rfind(word) > 0 for name in names))
    bare = Renaming(infixes)
    cleaned = [bare(name) or "" for name in names]
    first = sorted(min(needed, key=lambda tied: sorted(tied)[0])) if needed else []
    prefixes = {name[: -len(end)] for end in first for name in cleaned if name.endswith(end)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    starts = (
        {"".join(f"{word}." for word in first[0].split(".")[:depth]) for depth in (1, 2, 3)}
        if first
        else set()
    )
    tried = [Renaming(infixes, prefix) for prefix in sorted(prefixes, key=lambda p: (len(p), p))]
    tried += [Renaming(infixes, added=start) for start in sorted(starts, key=len)]
    return [one for one in tried if _is_complete(one, needed, allowed, names)]


def _is_complete(one: Renaming, needed: list[set[str]], allowed: set[str], names: list[str]) -> bool:
    renamed = [new for name in names if (new := one(name)) is not None]
    found = set(renamed)
    return len(found) == len(renamed) and found <= allowed and all(tied & found for tied in needed)


def advice(needed: list[set[str]], allowed: set[str], names: list[str], title: str) -> str:
    """What to write, where it can be told."""
    ways = renamings(needed, allowed, names)
    _, bracket, path = title.partition(" (")
    read = f"state = dataloupe.Checkpoints.read({path.removesuffix(')')!r}); " if bracket else ""
    if len(ways) > 1:
        every = " or ".join(repr(one.prefix or one.added) for one in ways)
        return f"say which model of several it is, {every}: {read}{ways[0].line(names)}"
    if ways:
        words = [*ways[0].infixes, *filter(None, [ways[0].prefix])]
        said = (
            f"strip the prefix {' and '.join(words)}" if words else f"put the prefix {ways[0].added} before"
        )
        return f"{said}: {read}{ways[0].line(names)}"
    return "make the module as it was in training, and hand over its state dict whole"
