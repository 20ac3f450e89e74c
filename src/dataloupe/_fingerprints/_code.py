"""What functions, classes, modules and what wraps them hold, as a walk tells it."""

import dataclasses
import enum
import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
from torch import nn

from dataloupe._fingerprints import _origin
from dataloupe._fingerprints._source import Chain, Import, code_digest, reads
from dataloupe._fingerprints._walk import AbstractWalk

_SLOTS = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
_OF_MODULES = frozenset(
    [
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
        "__warningregistry__",
        "_",
        "__",
        "___",
        "In",
        "Out",
        "_ih",
        "_oh",
        "_dh",
        "_i",
        "_ii",
        "_iii",
        "exit",
        "quit",
        "get_ipython",
    ]
)
"""Names that Python, IPython and the place of a file put into modules."""
_OF_CLASSES = frozenset(
    [
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__classcell__",
        "__conditional_annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__final__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__non_callable_proto_members__",
        "__orig_bases__",
        "__parameters__",
        "__protocol_attrs__",
        "__qualname__",
        "__slotnames__",
        "__slots__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
        "_backward_cls",
        "_is_protocol",
        "_is_runtime_protocol",
    ]
)
"""Names that Python, copying and torch put into classes."""
_BY_NAME = frozenset({"globals", "eval", "exec"})
"""What reads names that stand in texts."""
_SHORT = 20
_SHORTEST = 2
"""A folder of so few parts (such as /tmp) is no place of its own."""
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def node(walk: AbstractWalk, thing: Any) -> Any:
    """What a function, class or module of the user's own says and reads."""
    if isinstance(thing, FunctionType):
        return _function(walk, thing)
    return _class(walk, thing) if isinstance(thing, type) else _whole_module(walk, thing)


def folder_of(thing: Any) -> str:
    """The folder of the file that a function, class or module stands in; empty where that is no place of its own."""
    if isinstance(thing, FunctionType):
        module = thing.__globals__
    else:
        module = vars(thing if isinstance(thing, ModuleType) else sys.modules.get(thing.__module__, sys))
    file = module.get("__file__")
    place = Path(file).absolute().parent if isinstance(file, str) else Path()
    return place.as_posix() if len(place.parts) > _SHORTEST else ""


def wrapper(walk: AbstractWalk, thing: Any) -> Any:
    """What wraps functions: bound methods, partials, descriptors, caches; None for any other object."""
    if isinstance(thing, MethodType):
        return {"method": walk.value(thing.__func__), "self": walk.value(thing.__self__)}
    if isinstance(thing, functools.partial | functools.partialmethod):
        args, words = walk.value(thing.args), walk.value(dict(thing.keywords))
        return {"partial": walk.value(thing.func), "args": args, "kw": words}
    if isinstance(thing, staticmethod | classmethod):
        return {type(thing).__name__: walk.value(thing.__func__)}
    if isinstance(thing, property):
        parts = {"get": thing.fget, "set": thing.fset, "delete": thing.fdel}
        return {name: walk.value(part) for name, part in parts.items() if part is not None}
    if isinstance(thing, functools.cached_property):
        return {"cached": walk.value(thing.func)}
    if isinstance(thing, functools._lru_cache_wrapper):
        return {"cache of": walk.value(thing.__wrapped__)}
    if isinstance(thing, np.ufunc):
        known = getattr(np, thing.__name__, None) is thing
        return f"numpy.{thing.__name__}" if known else walk.unfollowed(thing)
    if isinstance(thing, _SLOTS):
        owner = getattr(thing, "__self__", None)
        if owner is None or isinstance(owner, ModuleType | type):
            return _origin.installed_name(thing)
        return {"method": thing.__name__, "self": walk.value(owner)}
    return None


def around(walk: AbstractWalk, function: FunctionType) -> dict[str, Any]:
    """What an installed package's function holds of the user's: the function that it decorates, or what it was made for."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = {name: _content(cell) for name, cell in cells}
    held |= {"wraps": getattr(function, "__wrapped__", None)}
    own = any(_holds_own(part) for part in held.values())
    return {name: walk.named(name, part) for name, part in held.items() if own and _is_told(part)}


def _holds_own(thing: Any, depth: int = 2) -> bool:
    """Whether a function or class of the user's own is here, or in what a wrapper or small container holds."""
    if isinstance(thing, FunctionType):
        inner = [_content(cell) for cell in thing.__closure__ or ()] + [getattr(thing, "__wrapped__", None)]
        return _origin.is_own(thing) or (depth > 0 and any(_holds_own(part, depth - 1) for part in inner))
    if isinstance(thing, type):
        return _origin.is_own(thing)
    if isinstance(thing, MethodType | functools.partial):
        return _holds_own(thing.func if isinstance(thing, functools.partial) else thing.__func__, depth)
    if isinstance(thing, dict | list | tuple) and depth > 0 and len(thing) < _SHORT:
        return any(
            _holds_own(part, depth - 1) for part in (thing.values() if isinstance(thing, dict) else thing)
        )
    return thing is not None and _origin.is_own(type(thing))


def _is_told(thing: Any) -> bool:
    return isinstance(thing, bool | int | float | str) or _holds_own(thing)


def _content(cell: Any) -> Any:
    """What a cell of a closure holds; None for a name that has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def changed_methods(walk: AbstractWalk, kind: type) -> dict[str, Any]:
    """Functions of the user's own that were put into a class of dataloupe's."""
    every = (
        (name, part) for base in kind.__mro__ if _origin.is_house(base) for name, part in vars(base).items()
    )
    own = {name: part for name, part in every if isinstance(part, FunctionType) and _origin.is_own(part)}
    return {name: walk.see(part) for name, part in own.items() if part.__code__.co_filename != "<string>"}


# --- functions ---------------------------------------------------------------------------------------------


def _function(walk: AbstractWalk, function: FunctionType) -> Any:
    """A function: its text, what it reads, its defaults and closure, what it wraps."""
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    own = {name: part for name, part in vars(function).items() if name != "__wrapped__"}
    found = {
        "reads": _read(walk, function),
        "closure": {name: walk.named(name, _content(cell)) for name, cell in cells},
        "defaults": [walk.value(part) for part in function.__defaults__ or ()],
        "keywords": {name: walk.named(name, part) for name, part in (function.__kwdefaults__ or {}).items()},
        "attributes": {name: walk.named(name, part) for name, part in own.items()},
        "wraps": walk.value(function.__wrapped__) if hasattr(function, "__wrapped__") else None,
    }
    walk.attributes |= reads(code).attributes
    text = code_digest(code, function.__globals__)
    return {"text": text, **{name: part for name, part in found.items() if part}}


def _read(walk: AbstractWalk, function: FunctionType) -> dict[str, Any]:
    """The values of the globals that a function reads, and what it imports."""
    scope, wanted = function.__globals__, reads(function.__code__)
    found: dict[str, Any] = {}
    if _BY_NAME & (wanted.names.keys() - scope.keys()):  # which names it reads, nobody can tell: all of them
        module = sys.modules.get(str(scope.get("__name__")))
        if module is not None and vars(module) is scope:
            found["all"] = walk.see(module)
    for name, chains in wanted.names.items():
        if name in _OF_MODULES or name not in scope:
            continue
        thing = scope[name]
        if isinstance(thing, ModuleType):
            for chain in sorted(chains):
                found |= _through(walk, name, thing, chain)
        else:
            found[name] = walk.named(name, thing)
    for one in wanted.imports:
        found |= _imported(walk, one, scope)
    return found


def _through(walk: AbstractWalk, name: str, module: ModuleType, chain: Chain) -> dict[str, Any]:
    """What is read of a module: its own attributes where they are told, all of it where they are not."""
    thing: Any = module
    for attribute in chain:
        if not isinstance(thing, ModuleType) or attribute not in vars(thing):
            break
        module, thing, name = thing, vars(thing)[attribute], f"{name}.{attribute}"
    if isinstance(thing, ModuleType):
        return {name: walk.see(thing)}
    if _origin.is_own(module):
        return {name: walk.named(name, thing)}
    patched = isinstance(thing, FunctionType | type) and _origin.is_own(thing)
    return {name: walk.see(thing) if patched else _origin.installed_name(module)}


def _imported(walk: AbstractWalk, wanted: Import, scope: dict[str, Any]) -> dict[str, Any]:
    """What an import inside a function brings."""
    name = "." * wanted.level + wanted.module
    try:
        full = importlib.util.resolve_name(name, scope.get("__package__") or "")
        module = sys.modules.get(full) or _import_own(full)
    except (ImportError, ValueError):  # a module that is not there: the function must do without
        return {name: "not there"}
    if module is None:
        return {name: _origin.installed_name(sys.modules.get(full.split(".")[0], sys))}
    if not wanted.names:
        return {name: walk.see(module)}
    found: dict[str, Any] = {}
    for part in wanted.names:
        if part not in vars(module) and _origin.is_own(module):
            found |= _imported(walk, Import(f"{full}.{part}", (), 0), scope)
        else:
            found |= _through(walk, name, module, (part,))
    return found


def _import_own(full: str) -> ModuleType | None:
    """A module of the user's own, imported now as the function will do; None for one of an installed package."""
    spec = importlib.util.find_spec(full)
    if spec is None or (spec.origin and _origin.is_own_file(spec.origin)):
        return importlib.import_module(full)  # where there is none, the import says so
    return None


# --- classes and modules -----------------------------------------------------------------------------------


def _class(walk: AbstractWalk, kind: type) -> Any:
    """A class: its bases, its members as they are now, the fields of a dataclass."""
    generated = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    members: dict[str, Any] = {}
    for name, member in vars(kind).items():
        written_by_python = generated and _is_generated(member)
        if (
            name in _OF_CLASSES
            or written_by_python
            or isinstance(member, MemberDescriptorType | GetSetDescriptorType)
        ):
            continue
        if isinstance(member, enum.Enum):
            members[name] = walk.named(name, member.value)
        elif not (issubclass(kind, enum.Enum) and name.startswith("_") and name.endswith("_")) and not (
            name == "__hash__" and member is None
        ):
            members[name] = walk.named(name, member)
    found = {
        "bases": [walk.see(base) for base in kind.__bases__ if base is not object],
        "fields": _fields(walk, kind),
        "made by": walk.see(type(kind)) if _origin.is_own(type(kind)) else None,
    }
    return {**{name: part for name, part in found.items() if part}, "members": members}


def _is_generated(member: Any) -> bool:
    """Whether a method was written by ``dataclasses`` or ``typing.NamedTuple``."""
    function = getattr(member, "__wrapped__", member)
    return isinstance(function, FunctionType) and function.__code__.co_filename.startswith("<string>")


def _fields(walk: AbstractWalk, kind: type) -> list[Any]:
    """Names and defaults of a dataclass's own fields, in order."""
    found = []
    for name, field in vars(kind).get("__dataclass_fields__", {}).items():
        kept = {"default": field.default, "factory": field.default_factory}
        given = {key: part for key, part in kept.items() if part is not dataclasses.MISSING}
        found.append([name, {key: walk.named(name, part) for key, part in given.items()}])
    return found


def _whole_module(walk: AbstractWalk, module: ModuleType) -> Any:
    """All that a module of the user's own holds, where nobody can tell what of it is used."""
    held = sorted((name, part) for name, part in vars(module).items() if name not in _OF_MODULES)
    return {name: walk.named(name, part) for name, part in held}


def module_attributes(walk: AbstractWalk, part: nn.Module, *, own: bool) -> dict[str, Any]:
    """What one part of a network holds besides tensors and parts; of an installed package's part what is plain or the user's."""
    held = {name: value for name, value in vars(part).items() if name not in _MODULE_ATTRIBUTES}
    told = {name: value for name, value in held.items() if own or _holds_own(value)}
    found = {**({} if own else plain_attributes(part)), **{n: walk.named(n, v) for n, v in told.items()}}
    hooks = {
        name: [walk.value(hook) for hook in value.values()]
        for name, value in vars(part).items()
        if name.endswith("_hooks") and isinstance(value, dict) and value
    }
    return {**found, **({"hooks": hooks} if hooks else {})}


def plain_attributes(part: nn.Module) -> dict[str, Any]:
    """Numbers, words and short lists of them that a part of a network, or its ``config``, holds."""
    held = {name: value for name, value in vars(part).items() if name not in _MODULE_ATTRIBUTES}
    config = held.get("config")
    every = {**held, **(vars(config) if hasattr(config, "__dict__") else {})}
    plain = {name: value for name, value in sorted(every.items()) if _is_plain(name, value)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _is_plain(name: str, value: object) -> bool:
    if name.startswith("_") or name in ("transformers_version", "name_or_path"):
        return False
    if isinstance(value, tuple | list):
        return len(value) < _SHORT and all(isinstance(part, bool | int | float | str) for part in value)
    return isinstance(value, bool | int | float | str)
