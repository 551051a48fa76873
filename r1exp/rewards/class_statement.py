"""Tells from source code, without importing it, whether a name is defined by a class statement.

`kind: package.module:name` names a reward function or a reward class. A function is imported in worker
processes only, because its module may be slow to import, import torch, or fail. A class is needed when
the configuration is checked.
"""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder

from r1exp.settings import nearest

_DYNAMIC = ("__getattr__", "globals()", "sys.modules", "import *")  # a module with these may have other names
_MOST_IMPORTS = 10  # `from module import name` statements that are followed, one after the other


def has_class_statement(path: str) -> bool:
    """Return whether `package.module:name` is a class with base classes.

    Follows `from other_module import name`. A name that is made in another way (assigned, star-imported,
    in a module without source) counts as no class.

    Raises:
        ValueError: the source of a module on the way is not valid Python.
    """
    module, _, name = path.partition(":")
    for _ in range(_MOST_IMPORTS):
        found = _statement(module, name)
        if isinstance(found, ast.ClassDef):
            return bool(found.bases)
        if not isinstance(found, ast.ImportFrom):
            return False
        name = next(alias.name for alias in found.names if name in (alias.asname, alias.name))
        module = _imported_module(found, module)
    return False


def refuse_misspelt_name(path: str) -> None:
    """Raise ValueError where the module's source shows that a class does not exist, or that a name is misspelt.

    A module without source, or one that may define names in other ways, is not judged.
    """
    module, _, name = path.partition(":")
    source = _source(module)
    if source is None or any(sign in source for sign in _DYNAMIC):
        return
    names = {found for node in ast.walk(ast.parse(source)) for found in _bound(node)}
    close = nearest(name, sorted(names))
    if name in names or not (close or name[:1].isupper()):
        return
    hint = f"did you mean {module}:{close[0]}?" if close else "define it there, or correct the name"
    raise ValueError(f"{path}: the module {module!r} has no {name!r}; {hint}")


def _bound(node: ast.AST) -> list[str]:
    """Return the names that one node of a syntax tree binds."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return _names(node) if isinstance(node, ast.stmt) else []


def _statement(module: str, name: str) -> ast.stmt | None:
    """Return the last top-level statement of the module that gives `name` its value, or None."""
    source = _source(module)
    if source is None:
        return None
    try:
        tree = ast.parse(source, filename=getattr(_spec(module), "origin", None) or module)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the module {module!r} is not valid Python: {error}; repair it") from error
    return next((node for node in reversed(list(_top_level(tree.body))) if name in _names(node)), None)


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported, also inside `if` and `try`."""
    for node in body:
        yield node
        for part in ("body", "handlers", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                yield from _top_level(getattr(node, part, []))


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _imported_module(node: ast.ImportFrom, module: str) -> str:
    """Return the full name of the module that `from ... import ...` in `module` reads."""
    if node.level == 0:
        return node.module or ""
    spec = _spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    package = module.split(".") if is_package else module.split(".")[:-1]
    parents = package[: len(package) - (node.level - 1)]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _source(module: str) -> str | None:
    spec = _spec(module)
    get_source = getattr(spec.loader, "get_source", None) if spec is not None else None
    return None if get_source is None else get_source(module)


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module is, without importing its parent packages as `find_spec` does."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:  # a module such as `__main__`, which has no spec
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec
