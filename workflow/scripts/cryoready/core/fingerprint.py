"""What a rule script and the modules behind it mean, as a hash, so that Snakemake can compare it.

Snakemake itself looks at the script alone: a comment there would cost a training, a changed module
would not. A rule that lists ``fingerprint(script)`` among its parameters runs again when what it
computes may have changed. Comments, docstrings, formatting and file times do not count; names,
constants, operators and the order of statements do. Not followed: modules named only in a string
(`importlib`), and data files, which have to be inputs of the rule.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


def fingerprint(script: Path, without: Iterable[str] = ()) -> str:
    """Hash of ``script`` and of every module beside it that it imports, directly or not.

    The folder of the script is where imports are looked up, as Snakemake does; what is not found
    there (installed libraries) does not count, nor do the modules named in ``without``.

    Returns
    -------
    16 hexadecimal digits.
    """
    files, left_out = {script.stem: script}, set(without)
    meanings: dict[str, str] = {}
    while unread := files.keys() - meanings.keys():
        for name in unread:
            path = files[name]
            meanings[name], imported = _read(path, name, path.read_bytes())
            for module in imported:
                found = _find(script.parent, module)
                files.update({key: path for key, path in found.items() if key not in left_out})
    lines = "\n".join(f"{name} {meaning}" for name, meaning in sorted(meanings.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@cache
def _find(folder: Path, module: str) -> dict[str, Path]:
    """Files below ``folder`` that run when a dotted name is imported; {} for installed ones."""
    found = {}
    place, dotted = folder, ""
    for part in module.split("."):
        place, dotted = place / part, f"{dotted}.{part}".lstrip(".")
        for path in (place / "__init__.py", place.with_name(f"{part}.py")):
            if path.is_file():
                found[dotted] = path
                break
        if not place.is_dir():
            break
    return found


@cache  # the text is in the key: an edit during the process is seen
def _read(path: Path, name: str, source: bytes) -> tuple[str, frozenset[str]]:
    """Hash of one module's syntax tree, and the dotted names that it imports."""
    tree = ast.parse(source, filename=str(path))
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    imported = (module for node in _statements(tree) for module in _imports(node, package))
    parts: list[str] = []
    _write(tree, parts)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest(), frozenset(imported)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below ``node``, in functions and branches too."""
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        for inner in getattr(node, field, ()):
            yield inner
            yield from _statements(inner)


def _imports(node: ast.AST, package: str) -> list[str]:
    """Dotted names in an import statement of a module of ``package``; [] for other statements."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        base = [*above, node.module] if node.module else above
        return [".".join([*base, alias.name]) for alias in node.names]  # a module, or a name in one
    return []


def _write(value: object, parts: list[str]) -> None:
    """Append ``value``, a node or a field of one, in prefix notation.

    Own code because `ast.dump` and `ast.unparse` differ between Python versions. Empty fields are
    left out, so that one which a later Python adds (``type_params``) changes nothing.
    """
    if isinstance(value, ast.AST):
        parts.append(f"({type(value).__name__}")
        for field in value._fields:
            inner = getattr(value, field, None)
            keep = inner is not None and inner != [] and field not in ("ctx", "kind")
            if keep or (isinstance(value, ast.Constant) and field == "value"):
                parts.append(f".{field}")
                _write(inner, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for inner in value:
            if not _is_inert(inner):
                _write(inner, parts)
        parts.append("]")
    else:
        parts.append(repr(value))


def _is_inert(node: object) -> bool:
    """Whether a statement computes nothing: `pass`, a string on its own, the version's number."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id="__version__")]):
            return True
    return False
