"""What a piece of code says, without comments and line numbers, and which names it reads.

Two digests of a function are at hand. Its *bytecode* is what runs, but changes with Python's version. The *syntax tree*
of its source does not, and knows no comments, but the file may have been edited since it was imported. So the tree counts
where the file, compiled again, gives the bytecode that runs, and the bytecode where it does not (typed at a prompt, made
by ``exec``, edited since).
"""

import ast
import dis
import hashlib
import linecache
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

Chain = tuple[str, ...]
"""The attributes that are read of a global name, one after the other: of ``F.relu`` the chain is ("relu",)."""

_SKIPPED = {"EXTENDED_ARG", "PUSH_NULL", "CACHE", "NOP"}
_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}
_CONSTANT = {"LOAD_CONST", "LOAD_SMALL_INT"}
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


class Import(NamedTuple):
    """``from <dots><module> import <names>`` inside a function; no names for ``import module``."""

    module: str
    names: tuple[str, ...]
    level: int


class Reads(NamedTuple):
    """What a code object looks up outside of itself: global names with the attributes read of them, imports, and attributes of anything."""

    names: dict[str, set[Chain]]
    imports: list[Import]
    attributes: frozenset[str]


class _Compiled(NamedTuple):
    """A function of a file: the digest of its bytecode, and the syntax it was compiled from."""

    bytecode: str
    nodes: list[ast.AST]
    place: int


class _File(NamedTuple):
    text: str
    functions: dict[str, list[_Compiled]]


_DIGESTS: dict[int, tuple[ref[CodeType], str]] = {}
"""By the object itself: code that compares equal can stand under another decorator, in another file."""
_READS: WeakKeyDictionary[CodeType, Reads] = WeakKeyDictionary()
_FILES: dict[str, _File] = {}


def code_digest(code: CodeType, module: dict[str, Any]) -> str:
    """The digest of a code object: of its syntax where the file still says what runs, else of its bytecode."""
    kept, known = _DIGESTS.get(id(code), (None, ""))
    if kept is None or kept() is not code:
        key, known = id(code), _digest(code, module)
        _DIGESTS[key] = ref(code, lambda _: _DIGESTS.pop(key, None)), known
    return known


def _digest(code: CodeType, module: dict[str, Any]) -> str:
    running = bytecode_digest(code)
    for one in _functions(code.co_filename, module).get(code.co_qualname, ()):
        if one.bytecode == running:
            said = "".join(part for node in one.nodes for part in _dumped(node))
            return _short(said + str(one.place) if len(one.nodes) > 1 else said)
    return f"{running} in Python {sys.version_info[0]}.{sys.version_info[1]}"


def bytecode_digest(code: CodeType) -> str:
    """The digest of what runs: instructions, names and constants, those of inner functions too."""
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    constants = [_constant(value) for value in code.co_consts]
    said = f"{names}{counts}{constants}{code.co_code.hex()}{code.co_exceptiontable.hex()}"
    return _short(said)


def reads(code: CodeType) -> Reads:
    """The global names that a code object and those inside it read, and what they import."""
    known = _READS.get(code)
    if known is None:
        names: dict[str, set[Chain]] = defaultdict(set)
        imports: list[Import] = []
        for part in _inner(code):
            _read(part, names, imports)
        steps = [step for part in _inner(code) for step in dis.get_instructions(part)]
        read = {str(step.argval) for step in steps if step.opname in _ATTRIBUTE}
        texts = {step.argval for step in steps if step.opname in _CONSTANT and isinstance(step.argval, str)}
        attributes = frozenset(read | texts)  # getattr(data, "texts") names it in a text
        known = _READS[code] = Reads(dict(sorted(names.items())), imports, attributes)
    return known


def _read(code: CodeType, names: dict[str, set[Chain]], imports: list[Import]) -> None:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _SKIPPED]
    for i, step in enumerate(steps):
        if step.opname in _GLOBAL:
            chain = []
            for later in steps[i + 1 :]:
                if later.opname not in _ATTRIBUTE:
                    break
                chain.append(str(later.argval))
            names[str(step.argval)].add(tuple(chain))
        elif step.opname == "IMPORT_NAME":
            level, wanted = (before.argval for before in steps[i - 2 : i] if before.opname in _CONSTANT)
            imports.append(Import(str(step.argval), tuple(wanted or ()), int(level or 0)))


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _inner(part)


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return bytecode_digest(value)
    if isinstance(value, tuple):
        return str([_constant(part) for part in value])
    if isinstance(value, frozenset):
        return str(sorted(_constant(part) for part in value))
    return f"{type(value).__name__} {value!r}"


# --- files -------------------------------------------------------------------------------------------------


def _functions(name: str, module: dict[str, Any]) -> dict[str, list[_Compiled]]:
    """The functions of a file as it reads now, by qualified name."""
    linecache.checkcache(name)
    text = "".join(linecache.getlines(name, module))
    known = _FILES.get(name)
    if known is None or known.text != text:
        known = _FILES[name] = _File(text, _compiled(text, name))
    return known.functions


def _compiled(text: str, name: str) -> dict[str, list[_Compiled]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            whole = compile(text, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # a cell with a magic: its functions are known by their bytecode
        return {}
    nodes: dict[tuple[str, int], list[ast.AST]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes[node.name, min([node.lineno, *(d.lineno for d in node.decorator_list)])].append(node)
        elif isinstance(node, ast.Lambda):
            nodes["<lambda>", node.lineno].append(node)
    counts: dict[tuple[str, int], int] = defaultdict(int)
    found: dict[str, list[_Compiled]] = defaultdict(list)
    for code in _inner(whole):
        place = code.co_name, code.co_firstlineno
        if place in nodes:
            found[code.co_qualname].append(_Compiled(bytecode_digest(code), nodes[place], counts[place]))
            counts[place] += 1
    return dict(found)


def _dumped(node: Any) -> Iterator[str]:
    """A syntax tree as text: the same in every version of Python, without docstrings and places."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "kind", "type_comment") or value is None or value == []:
                continue
            yield f" {name}="
            if name == "body" and isinstance(node, _SCOPES):
                value = value[1:] if _is_docstring(value[0]) else value
            yield from _dumped(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for part in node:
            yield from _dumped(part)
            yield ","
        yield "]"
    else:
        yield _constant(node)


def _is_docstring(node: ast.AST) -> bool:
    said = node.value if isinstance(node, ast.Expr) else None
    return isinstance(said, ast.Constant) and isinstance(said.value, str)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
