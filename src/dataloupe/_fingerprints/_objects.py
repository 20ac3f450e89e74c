"""Objects as plain JSON that says what decides their answers: data by content, code by what it says and reads."""

import dataclasses
import enum
import hashlib
import json
import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._fingerprints import _code, _origin
from dataloupe._fingerprints._arrays import content_digest
from dataloupe._fingerprints._attributes import added_to_house, attributes, cached_names
from dataloupe._fingerprints._inert import is_inert, is_type_hint
from dataloupe._fingerprints._walk import AbstractWalk

_PLAIN = (bool, int, str, type(None))
_CONTAINERS = (dict, list, tuple)
_LONG = 400
"""Values of the user's code whose JSON is longer are told by a digest."""


def canonical(thing: Any) -> Any:
    """`thing` as JSON that says what decides its answers: the readable form behind :func:`identity`.

    Data are told by their content, settings by their fields, what installed packages give by its name and version.
    Functions, classes and objects of the user's own are followed: what they say (comments left out), and all that they
    read in the user's files: globals, helpers, closures, defaults, bases, imported modules. All that stands under
    ``code``. An object that knows its state better offers ``__identity__() -> Any``; if that names ``code`` itself,
    its class is not followed.

    Raises ``BadInput`` dl-102 (an object that cannot be followed, without a ``version`` to stand for it).
    """
    walk = Walk()
    try:
        found = walk.value(thing)
        code = walk.finish()
    except RecursionError as error:
        raise BadInput(
            "dl-102",
            asked=f"the identity of a {type(thing).__qualname__}",
            found="objects within objects, deeper than Python follows",
            do="give it `__identity__(self)` that returns what decides its answers",
        ) from error
    if not code:
        return found
    return {**found, "code": code} if isinstance(found, dict) and "code" not in found else [found, code]


def attributes_read(thing: Any) -> set[str]:
    """The names of all attributes that the user's code behind `thing` reads, of whatever object."""
    walk = Walk()
    walk.value(thing)
    walk.finish()
    return walk.attributes


def module_structure(module: nn.Module) -> dict[str, Any]:
    """A network without its numbers: its text, and the classes, attributes and hooks of all parts."""
    walk = Walk()
    found = walk.structure(module)
    code = walk.finish()
    return {**found, "code": code} if code else found


def module_settings(module: nn.Module) -> dict[str, Any]:
    """The plain attributes (numbers, words, short lists of them) of every part of a network."""
    held = {path: _code.plain_attributes(part) for path, part in module.named_modules()}
    return {path: attributes for path, attributes in held.items() if attributes}


class Walk(AbstractWalk):
    """One walk through an object and all that its code reaches.

    ``code`` collects what functions and classes of the user's own say, by name; a value that is one of them refers to
    it as ``{"see": name}``. Names hold neither modules nor paths: the same file is the same under any name.
    """

    def __init__(self) -> None:
        self.code: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._waiting: deque[tuple[str, Any]] = deque()
        self._alive: list[Any] = []  # an id is a name only while its object lives
        self._open: list[int] = []
        self._done: dict[int, Any] = {}
        self._unfollowed: list[str] = []
        self.attributes = set()
        self._version: bool = False
        self._folder: str = ""
        self._at: list[str] = []
        self._in_code = False

    # --- what functions and classes say ---

    def see(self, thing: Any) -> Any:
        """A reference to a function, class or module: followed if it is the user's, else by its name."""
        if not _origin.is_own(thing):
            held = _code.around(self, thing) if isinstance(thing, FunctionType) else {}
            name = _origin.installed_name(thing)
            return {"installed": name, **held} if held else name
        if id(thing) not in self._names:
            name = _name_of(thing)
            taken = sum(known == name or known.startswith(f"{name} #") for known in self._names.values())
            self._names[id(thing)] = name = f"{name} #{taken + 1}" if taken else name
            self._alive.append(thing)
            self._waiting.append((name, thing))
        return {"see": self._names[id(thing)]}

    def finish(self) -> dict[str, Any]:
        """Follow all that was referred to; the table of code. Raises dl-102 for what cannot be followed."""
        self._in_code = True
        while self._waiting:
            name, thing = self._waiting.popleft()
            self._at, self._folder = [name], _code.folder_of(thing)
            self.code[name] = _code.node(self, thing)
        if self._unfollowed and not self._version:
            raise BadInput(
                "dl-102",
                asked="what decides an answer, to find it again by",
                found=self._unfollowed[0],
                do='hold plain data instead, or give the object that uses it a `version = "1"` to stand for what cannot '
                "be followed (raise it when that changes), or `__identity__(self)`",
            )
        return self.code

    def named(self, name: str, thing: Any) -> Any:
        """The value of a name in code, for the words of an error."""
        self._at.append(name)
        try:
            return self.value(thing)
        finally:
            self._at.pop()

    # --- values ---

    def value(self, thing: Any) -> Any:
        """Any object as JSON."""
        kind = type(thing)
        if kind in _PLAIN:
            return self._text(thing) if kind is str else thing
        if kind is float:
            return thing if math.isfinite(thing) else repr(thing)
        simple = None if kind in _CONTAINERS else self._simple(thing)
        if simple is not None:
            return simple
        if id(thing) in self._done:
            return self._done[id(thing)]
        if id(thing) in self._open:
            return {"again": len(self._open) - self._open.index(id(thing))}
        self._open.append(id(thing))
        self._alive.append(thing)
        try:
            found = self._compound(thing)
        finally:
            self._open.pop()
        self._done[id(thing)] = found = _folded(found) if self._in_code else found
        return found

    def _simple(self, thing: Any) -> Any:
        """What holds no other objects; None for the rest."""
        if isinstance(thing, np.ndarray | Tensor):
            return self._array(thing)
        if isinstance(thing, np.generic):
            return self.value(thing.item()) if not isinstance(thing.item(), np.generic) else repr(thing)
        if isinstance(thing, enum.Enum) and not _origin.is_own(type(thing)):
            return thing.name
        if isinstance(thing, torch.dtype | torch.device | torch.layout | torch.memory_format):
            return str(thing)
        if isinstance(thing, bytes | bytearray | memoryview):
            return {"bytes": hashlib.sha256(thing).hexdigest()[:32]}
        if isinstance(thing, PurePath):
            return {"path": self._text(thing.as_posix())}
        if isinstance(thing, complex | slice) or thing is Ellipsis or thing is NotImplemented:
            return {"is": repr(thing)}
        if isinstance(thing, torch.Generator):
            return {"generator": content_digest(thing.get_state())}
        if is_type_hint(thing):
            return {"type": _origin.without_addresses(repr(thing))}
        if is_inert(thing):
            return {"inert": type(thing).__qualname__}
        own = _origin.is_own(type(thing))
        if isinstance(thing, bool | int | str) and not own:
            return thing
        if isinstance(thing, float) and not own:
            return float(thing) if math.isfinite(thing) else repr(float(thing))
        return None

    def _compound(self, thing: Any) -> Any:
        kind = type(thing)
        own = _origin.is_own(kind)
        if isinstance(thing, type | FunctionType | ModuleType):
            return self.see(thing)
        if hasattr(kind, "__identity__") or dataclasses.is_dataclass(thing):
            return self._object(thing)
        if isinstance(thing, nn.Module):
            return self._module(thing)
        if isinstance(thing, Mapping | MappingProxyType) and not own:
            return self._mapping(thing)
        if isinstance(thing, tuple | list | range) and not own:
            plain = _plain_list(thing) if self._in_code and len(thing) > _LONG else None
            return plain or [self.value(part) for part in thing]
        if isinstance(thing, set | frozenset) and not own:
            return {"set": sorted((self.value(part) for part in thing), key=_text_of)}
        wrapped = _code.wrapper(self, thing)
        return self._object(thing) if wrapped is None else wrapped

    def _array(self, array: Any) -> Any:
        if isinstance(array, Tensor) and array.is_meta:
            return {"meta": str(array.dtype), "shape": list(array.shape)}
        if isinstance(array, np.ndarray) and array.dtype.hasobject:
            return {"objects": self.value(array.tolist()), "shape": list(array.shape)}
        kind = {"dtype": "bfloat16"} if array.dtype == torch.bfloat16 else {}
        return {"array": content_digest(array), **kind}

    def _text(self, text: str) -> str:
        """A text; where it names the place of the file that holds it, relative to that."""
        if self._folder and text.startswith(self._folder):
            return "." + text[len(self._folder) :]
        return text

    def _mapping(self, thing: Mapping[Any, Any]) -> Any:
        """Names to values; in code the order counts, since it may be gone through in order."""
        plain = _plain_list(list(thing.items())) if self._in_code and len(thing) > _LONG else None
        if plain:
            return plain
        pairs = [(key, self.value(part)) for key, part in thing.items()]
        texts = [str(key) for key, _ in pairs]
        plain_keys = (str, int) if self._in_code else (str, int, float, bool, type(None))
        in_order = not self._in_code or texts == sorted(texts)
        named = all(type(key) in plain_keys for key, _ in pairs) and len(set(texts)) == len(texts)
        if in_order and named:
            return dict(zip(texts, (part for _, part in pairs), strict=True))
        listed = [[self.value(key), part] for key, part in pairs]
        return {"pairs": listed if self._in_code else sorted(listed, key=_text_of)}

    # --- objects ---

    def _object(self, thing: Any) -> Any:
        """An object by its class and state."""
        kind = type(thing)
        own, before = _origin.is_own(kind), self._in_code
        version = getattr(thing, "version", None)
        self._version |= isinstance(version, str) and bool(version)
        if own:
            self._at.append(kind.__qualname__)
        try:
            self._in_code |= own
            state = self._state(thing, own=own)
        finally:
            self._in_code = before
            if own:
                self._at.pop()
        if own and "code" in state and hasattr(kind, "__identity__"):
            return {"kind": kind.__qualname__, **state}  # its class takes care of its code
        named = {
            f"field {name}" if own and name in ("kind", "code") else name: part
            for name, part in state.items()
        }
        if own:
            return {"kind": self.see(kind)["see"], **named}
        if _origin.is_house(kind):
            changed = _code.changed_methods(self, kind)
            return {"kind": kind.__qualname__, **({"changed": changed} if changed else {}), **named}
        return {"kind": _origin.installed_name(kind), **named}

    def _state(self, thing: Any, *, own: bool) -> dict[str, Any]:
        kind = type(thing)
        if hasattr(kind, "__identity__"):
            added = added_to_house(thing) if own else {}
            return {**self._asked(thing), **{name: self.named(name, part) for name, part in added.items()}}
        if dataclasses.is_dataclass(thing):
            fields = dataclasses.fields(thing)
            held = {f.name: getattr(thing, f.name) for f in fields if f.compare or (own and f.init)}
            if own:
                known = {f.name for f in fields}
                held |= {name: part for name, part in attributes(thing).items() if name not in known}
            return {name: self.named(name, part) for name, part in held.items()}
        return self._reduced(thing)

    def _asked(self, thing: Any) -> dict[str, Any]:
        """What an object says of itself; an object that meets itself on the way says nothing the second time."""
        asked = _ASKED.__dict__.setdefault("ids", set())
        if id(thing) in asked:
            return {"again": type(thing).__qualname__}
        asked.add(id(thing))
        before, self._in_code = self._in_code, False
        try:
            said = self.value(thing.__identity__())
        finally:
            asked.discard(id(thing))
            self._in_code = before
        return said if isinstance(said, dict) else {"is": said}

    def _reduced(self, thing: Any) -> dict[str, Any]:
        """The state that an object would be copied by: class, arguments, attributes, items."""
        if _origin.is_house(type(thing)):
            return self.unfollowed(thing)
        try:
            parts = thing.__reduce_ex__(4)
        except Exception as error:  # whatever an object raises that cannot be copied: it cannot be followed
            return self.unfollowed(thing, str(error))
        if isinstance(parts, str):
            return {"name": parts}
        maker, args, state, items, pairs = (*parts, None, None, None)[:5]
        found: dict[str, Any] = {}
        if maker.__name__ not in ("__newobj__", "_reconstructor", "__newobj_ex__"):
            found["by"] = self.value(maker)
        rest = [part for part in args if part is not type(thing) and part is not object]
        if any(part is not None for part in rest):
            found["arguments"] = [self.value(part) for part in rest]
        if state is not None:
            slots = isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict)
            for held in state if slots else (state,):
                if isinstance(held, dict):
                    cached = cached_names(type(thing))
                    kept = {name: part for name, part in held.items() if name not in cached}
                    found |= {str(name): self.named(str(name), part) for name, part in kept.items()}
                elif held is not None:
                    found["state"] = self.value(held)
        for name, given in (("items", items), ("pairs", pairs)):
            listed = list(given or ())
            if listed:
                found[name] = self.value(listed)
        return found

    def unfollowed(self, thing: Any, why: str = "") -> dict[str, Any]:
        """An object that cannot be followed: refused at the end, unless a version stands for it."""
        where = f"`{self._at[-1]}`" if self._at else "it"
        within = f" in {self._at[0]}" if len(self._at) > 1 else ""
        said = f"{where}{within}: a {type(thing).__qualname__}, neither data, nor code, nor an object whose state can be read"
        self._unfollowed.append(said + (f" ({why})" if why else ""))
        return {"unfollowed": type(thing).__qualname__}

    def _module(self, module: nn.Module) -> Any:
        """A module as a value: how it is made, what its parts hold, its numbers."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return {
            "kind": "module",
            **self.structure(module),
            "training": module.training,
            "tensors": {name: self._array(tensor) for name, tensor in tensors.items()},
        }

    def structure(self, module: nn.Module) -> dict[str, Any]:
        """A module without its numbers: its text, and the classes, attributes and hooks of all parts."""
        parts = {}
        for path, part in module.named_modules():
            held = _code.module_attributes(self, part, own=_origin.is_own(type(part)))
            parts[path] = {"kind": self.see(type(part)), **held}
        return {"structure": _origin.without_addresses(repr(module)), "parts": parts}


_ASKED = threading.local()


def _name_of(thing: Any) -> str:
    return "module" if isinstance(thing, ModuleType) else thing.__qualname__.replace("<locals>.", "")


def _plain_list(values: Iterable[Any]) -> dict[str, str] | None:
    """A digest of a long list of plain values; None if there is anything else in it."""
    parts = list(values)
    plain = (bool, int, float, str, type(None))
    flat = (part for pair in parts for part in (pair if type(pair) is tuple else (pair,)))
    if not all(type(part) in plain for part in flat):
        return None
    return {"digest": hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()[:16]}


def _folded(found: Any) -> Any:
    """JSON, or its digest where it is long."""
    text = _text_of(found)
    return found if len(text) <= _LONG else {"digest": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _text_of(found: Any) -> str:
    return json.dumps(found, sort_keys=True)
