"""Whose code it is: the user's own, which is followed, or an installed package's, which is named."""

import functools
import importlib.metadata
import re
import sys
import sysconfig
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

HOUSE = "dataloupe"
_HOUSE = Path(__file__).resolve().parents[1]
_LIBRARIES = [Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib")]
_UNVERSIONED = frozenset(
    {
        HOUSE,
        "torch",
        "numpy",
    }  # NUMERICS, the record of a lab's environment, and NumPy's promise stand for them
    | set(sys.stdlib_module_names)
    | {"IPython", "ipykernel", "jaxtyping", "beartype", "matplotlib", "pytest", "rich", "tqdm", "wandb"}
)
"""Packages whose version does not count: it is on record elsewhere, or decides no number."""


@functools.lru_cache(maxsize=4096)
def is_own_file(name: str) -> bool:
    """Whether a source file is the user's: not of Python, not of an installed package, not of dataloupe.

    >>> is_own_file("/home/me/fashion.py"), is_own_file("/x/lib/python3.12/site-packages/timm/layers.py")
    (True, False)
    """
    if name.startswith("<"):  # a prompt or a notebook's cell; <frozen ...> is Python's
        return not name.startswith("<frozen")
    path = Path(name)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    resolved = path.resolve()
    return not any(resolved.is_relative_to(place) for place in [_HOUSE, *_LIBRARIES])


def is_own_code(code: CodeType, module: str | None) -> bool:
    """Whether a code object is the user's; one made by ``exec`` goes by the module that it says."""
    if code.co_filename == "<string>":
        return is_own_module(module)
    return is_own_file(code.co_filename)


def is_own_module(name: str | None) -> bool:
    """Whether a module is the user's, by its name; what runs as the program is, and so is one that is gone."""
    top = (name or "__main__").split(".")[0]
    if top == "__main__":
        return True
    if top in sys.builtin_module_names or top in ("builtins", HOUSE):
        return False
    module = sys.modules.get(name or top) or sys.modules.get(top)
    if module is None:
        return top not in sys.stdlib_module_names
    file = getattr(module, "__file__", None)
    if file is None:
        places = list(getattr(module, "__path__", []))  # a package without __init__.py
        return is_own_file(str(Path(places[0]) / "_")) if places else top not in sys.stdlib_module_names
    return is_own_file(file)


def is_own(thing: Any) -> bool:
    """Whether a function, class or module is the user's."""
    if isinstance(thing, FunctionType):
        return is_own_code(thing.__code__, thing.__module__)
    if isinstance(thing, ModuleType):
        return is_own_module(thing.__name__)
    module = getattr(thing, "__module__", None)
    if not isinstance(module, str) or (isinstance(thing, type) and _is_compiled(thing, module)):
        return False
    return is_own_module(module)


def _is_compiled(kind: type, module: str) -> bool:
    """Whether a class of a module that is not there was made by a compiler: it has members that Python code has not."""
    if module.split(".")[0] in sys.modules:
        return False
    members = {name: part for name, part in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    compiled = (BuiltinFunctionType, GetSetDescriptorType, MethodDescriptorType, WrapperDescriptorType)
    return any(isinstance(part, compiled) for part in members.values())


def is_house(cls: type) -> bool:
    """Whether a class is one of dataloupe's."""
    return (cls.__module__ or "").split(".")[0] == HOUSE


def installed_name(thing: Any) -> str:
    """The name of what an installed package gives, with the package's version where that counts.

    >>> installed_name(re.compile), installed_name(re)
    ('re.compile', 're')
    """
    if isinstance(thing, ModuleType):
        module, name = thing.__name__, thing.__name__
    elif isinstance(thing, FunctionType):  # functools.wraps gives it the module and name of what it wraps
        module = str(thing.__globals__.get("__name__", ""))
        name = f"{module}.{thing.__code__.co_qualname}"
    else:
        module = getattr(thing, "__module__", None) or getattr(type(thing), "__module__", None) or "builtins"
        called = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or repr(thing)
        name = f"{module}.{called}"
    return f"{without_addresses(name)} {_version(module.split('.')[0])}".rstrip()


def without_addresses(text: str) -> str:
    """A text without the places in memory that Python puts into it."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


@functools.lru_cache(maxsize=1024)
def _version(package: str) -> str:
    if package in _UNVERSIONED or not package:  # code made at run time has no module
        return ""
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # of another name than its package, or part of Python
        return ""
