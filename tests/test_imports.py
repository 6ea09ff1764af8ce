"""The import order of the package, and who may name what, read from its source.

`cli > explore > observe | energy > simulation > components > schedule > designs | codecs > workload >
values > leaves`; `topology` stands on the leaves alone and is used from `components` upwards.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dpred_sim"

LEAVES = ("errors", "units", "registry", "locate", "cache")
ORDER = (
    LEAVES,
    ("values",),
    ("workload",),
    ("designs", "codecs"),
    ("schedule",),
    ("components",),
    ("simulation",),
    ("observe", "energy"),
    ("explore",),
    ("cli",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
MAY_USE_SIMPY = ("components", "simulation")
DEFAULT_CODEC = "raw"


def mistakes(package: Path) -> list[str]:
    """Everything in the source tree that breaks a rule, one line each."""
    trees = {path: ast.parse(path.read_text(), str(path)) for path in sorted(package.rglob("*.py"))}
    named = {
        part: registered(tree for path, tree in trees.items() if part_of(package, path) == part)
        for part in ("designs", "codecs")
    }
    named["codecs"].pop(DEFAULT_CODEC, None)
    found = []
    for path, tree in trees.items():
        part = part_of(package, path)
        where = path.relative_to(package.parent)
        if part == "data" or path == package / "__init__.py":
            continue
        for line, target in imports(package, path, tree):
            found += [f"{where}:{line}: {text}" for text in import_mistakes(part, target)]
        for group, names in named.items():
            if part != group:
                found += [
                    f"{where}:{line}: {text}"
                    for line, text in naming_mistakes(package, path, tree, group, names)
                ]
    return found


def part_of(package: Path, path: Path) -> str:
    """The leaf or folder of the package that a file belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(package: Path, path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    own = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def import_mistakes(part: str, target: str) -> Iterator[str]:
    top, *rest = target.split(".")
    if top == "simpy" and part not in MAY_USE_SIMPY:
        yield f"{part} imports simpy"
    if top != "dpred_sim":
        return
    other = rest[0] if rest else ""
    if part == other:
        return
    if part not in LEVEL and part != "topology":
        yield f"{part} has no place in the import order"
    elif other not in LEVEL and other != "topology":
        if LEVEL.get(part, 0) < LEVEL["cli"]:
            yield f"{part} imports {target}, which has no place in the import order"
    elif not allowed(part, other):
        yield f"{part} imports {other}, which does not stand below it"


def allowed(part: str, other: str) -> bool:
    if part == "topology":
        return other in LEAVES
    if other == "topology":
        return LEVEL[part] >= LEVEL["components"]
    return LEVEL[other] < LEVEL[part] or (part in LEAVES and other in LEAVES)


def registered(trees: Iterator[ast.AST]) -> dict[str, str]:
    """Names entered with `@register("name")`, each with the class that carries it."""
    found = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and called(mark) == "register":
                found[ast.literal_eval(mark.args[0])] = node.name  # type: ignore[attr-defined]
    return found


def naming_mistakes(
    package: Path, path: Path, tree: ast.AST, group: str, names: dict[str, str]
) -> Iterator[tuple[int, str]]:
    """Places where a file outside `group` knows one of its members."""
    within_text = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in names and id(node) not in within_text:
            yield node.lineno, f"names {node.value!r}, one of the {group}"
    for line, target in imports(package, path, tree):
        if target.startswith(f"dpred_sim.{group}.") and target.rpartition(".")[2] in names.values():
            yield line, f"imports {target}, one of the {group}"


def test_the_package_keeps_the_order() -> None:
    assert mistakes(PACKAGE) == []


def test_the_check_sees_the_whole_package() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert len(files) > 10
    trees = [ast.parse(path.read_text()) for path in (PACKAGE / "workload" / "importers").glob("*.py")]
    assert "script" in registered(iter(trees))
    seen = {target for path in files for _, target in imports(PACKAGE, path, ast.parse(path.read_text()))}
    assert "dpred_sim.errors.InputError" in seen


GOOD = {
    "__init__.py": "from dpred_sim.cli import main\n",
    "errors.py": "",
    "registry.py": "from dpred_sim.errors import InputError\n",
    "values/tensor.py": "import numpy\nfrom dpred_sim.errors import InputError\n",
    "codecs/base.py": "from ..values.tensor import Tensor\nregister = print\n",
    "codecs/plain.py": "@register('raw')\nclass Raw: ...\n",
    "codecs/fancy.py": "from .base import register\n@register('fancy')\nclass Fancy: ...\n",
    "designs/fast.py": "@base.register('fast')\nclass Fast: ...\n",
    "topology/load.py": "from dpred_sim import errors\n",
    "schedule/passes.py": "from dpred_sim.codecs.base import Codec\nDEFAULT = 'raw'\n",
    "components/tile.py": "import simpy\nfrom dpred_sim.topology.load import load\n",
    "simulation/run.py": "import simpy.core\nfrom dpred_sim.components import tile\nNAME = 'fast_ddr4'\n",
    "observe/live.py": "def f():\n    from dpred_sim.simulation.run import run\n    return f'fast {run}'\n",
    "cli/main.py": "import dpred_sim\nfrom dpred_sim.observe import live\n",
    "data/workloads/net.py": "import dpred_sim as dp\nNAME = 'fast'\n",
}


def tree(folder: Path, changes: dict[str, str]) -> Path:
    package = folder / "dpred_sim"
    for name, text in (GOOD | changes).items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_a_tree_in_order_has_no_mistakes(tmp_path: Path) -> None:
    assert mistakes(tree(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("name", "text", "line", "told"),
    [
        ("values/tensor.py", "import dpred_sim.workload.layer\n", 1, "values imports workload"),
        ("values/tensor.py", "def f():\n    from ..workload import layer\n", 2, "values imports workload"),
        ("errors.py", "from dpred_sim.values import tensor\n", 1, "errors imports values"),
        ("codecs/fancy.py", "from dpred_sim.designs import fast\n", 1, "codecs imports designs"),
        ("designs/fast.py", "from ..codecs.base import Codec\n", 1, "designs imports codecs"),
        ("observe/live.py", "import dpred_sim.energy.tables\n", 1, "observe imports energy"),
        ("topology/load.py", "from dpred_sim.components import tile\n", 1, "topology imports components"),
        ("topology/load.py", "from dpred_sim.values import tensor\n", 1, "topology imports values"),
        ("schedule/passes.py", "from dpred_sim.topology import load\n", 1, "schedule imports topology"),
        ("schedule/passes.py", "importlib.import_module('dpred_sim.cli.main')\n", 1, "schedule imports cli"),
        (
            "schedule/passes.py",
            "if TYPE_CHECKING:\n    from dpred_sim.simulation.run import run\n",
            2,
            "simulation",
        ),
        ("simulation/run.py", "import dpred_sim as dp\n", 1, "no place in the import order"),
        ("simulation/run.py", "from dpred_sim import simulate\n", 1, "no place in the import order"),
        ("tools/extra.py", "import dpred_sim.errors\n", 1, "tools has no place"),
        ("observe/live.py", "import simpy\n", 1, "observe imports simpy"),
        ("observe/live.py", "def f():\n    from simpy import Environment\n", 2, "observe imports simpy"),
        ("explore/sweep.py", "x = {'design': 'fast'}\n", 1, "names 'fast', one of the designs"),
        ("explore/sweep.py", "if x == 'fancy':\n    pass\n", 1, "names 'fancy', one of the codecs"),
        (
            "explore/sweep.py",
            "from dpred_sim.designs.fast import Fast\n",
            1,
            "imports dpred_sim.designs.fast.Fast",
        ),
    ],
)
def test_each_rule_is_told_with_its_place(tmp_path: Path, name: str, text: str, line: int, told: str) -> None:
    found = mistakes(tree(tmp_path, {name: text}))
    assert len(found) == 1
    assert found[0].startswith(f"dpred_sim/{name}:{line}: ")
    assert told in found[0]
