"""No module of product code imports itself, directly or through others; imports inside functions count."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(link.name for link in (ROOT / "src" / "mlzsl").iterdir())


def module_files() -> dict[str, Path]:
    """Every module of product code by its dotted name; a package stands for its `__init__`."""
    files = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(("mlzsl", *parts)).removesuffix(".__init__")] = path
    return files


def imported_names(path: Path, module: str) -> Iterator[str]:
    """The dotted names that a file's import statements mention, those for type checkers only left out."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in runtime_nodes(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree except the bodies of `if TYPE_CHECKING:`."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children: list[ast.AST] = list(tree.orelse)
    else:
        yield tree
        children = list(ast.iter_child_nodes(tree))
    for child in children:
        yield from runtime_nodes(child)


def import_graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Which modules each module imports: `from package import name` is an edge to package.name if that is a module."""
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        names = set(imported_names(path, module))
        targets = {name if name in files else name.rpartition(".")[0] for name in names}
        graph[module] = (targets & files.keys()) - {module}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def test_a_cycle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert cycles(graph) == [["a", "b", "c"]]


def test_no_module_imports_itself_through_others() -> None:
    files = module_files()
    assert len(files) > 100
    found = cycles(import_graph(files))
    assert not found, "import cycles:\n" + "\n".join("  " + " <-> ".join(cycle) for cycle in found)


def test_submodules_do_not_import_the_init_of_their_own_package() -> None:
    files = module_files()
    packages = {module for module, path in files.items() if path.name == "__init__.py"}
    found = [
        f"{module} imports {target}"
        for module, targets in sorted(import_graph(files).items())
        for target in sorted(targets & packages)
        if module.startswith(f"{target}.")
    ]
    assert not found, "\n".join(found)
