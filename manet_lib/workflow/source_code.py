"""Which code a result was made by: a digest of every module of this package that a step or a notebook runs.

Comments, docstrings and layout do not count. Nor do the modules of ``PLUMBING``, which carry values and files
about but compute nothing: with them, a new parameter or a clearer message would make every result look outdated.
"""

import ast
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PLUMBING = tuple(f"manet_lib.{name}" for name in ("notebook", "params", "paths", "training.launch", "workflow"))
"""Modules, and packages with all that is in them, that do not count as code behind a result."""
_STARTED = time.time()


def _file_of(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of this package that some code imports, wherever it does."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == PACKAGE.name and _file_of(name) is not None:
                yield name


def imported_by(sources: Iterable[str]) -> list[str]:
    """The modules of this package that the cells of a notebook import.

    Raises:
        SyntaxError: a cell is no Python, not even IPython's.
    """
    from IPython.core.inputtransformer2 import TransformerManager  # not for every process that trains

    cells = (TransformerManager().transform_cell(source) for source in sources)
    return sorted({module for cell in cells for module in imported(ast.parse(cell))})


def edited_since_start(modules: Iterable[str]) -> list[str]:
    """Modules that this process has loaded and whose files have been written since: it still runs the old code.

    A file from the future says nothing: another machine's clock was ahead.
    """
    files = {module: _file_of(module) for module in modules if module in sys.modules}
    return sorted(
        module for module, file in files.items() if file and _STARTED < file.stat().st_mtime <= time.time()
    )


class _Bare(ast.NodeTransformer):
    """Removes docstrings and other text that stands as a statement."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    file = _file_of(module)
    assert file is not None, f"{module} is no module of this package"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = tuple(imported(tree))
    return hashlib.sha256(ast.unparse(_Bare().visit(tree)).encode()).hexdigest()[:16], imports


def code_of(*modules: str, leaving_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Digests of some modules and of all that they import from this package, directly or not.

    Args:
        modules: full names, such as ``manet_lib.training.classification``.
        leaving_out: modules that are not looked into, besides ``PLUMBING``.

    Returns:
        16 hex digits for each module, by name, sorted.
    """
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in found and module not in leaving_out and not _is_plumbing(module):
            found[module], more = _read(module)
            todo += more
    return dict(sorted(found.items()))


def _is_plumbing(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PLUMBING)
