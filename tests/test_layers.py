"""The rule of the house: imports go down only, and heavy packages stay in their rooms.

The checker reads syntax trees and include lines, imports nothing, and is itself tested on planted violations.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "bainite_fast"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"_core", "_version", "errors", "geometry", "_disk", "_memory", "_optional"}),
    frozenset({"kernels", "_reference"}),
    frozenset({"io", "models", "metrics"}),
    frozenset({"ebsd"}),
    frozenset({"synthetic", "segmentation", "training", "correlate", "measure", "explain"}),
    frozenset({"evaluation", "report", "bench", "line"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}
GROUND = FLOORS[0] | FLOORS[1]
"""The two lowest floors are single modules that build on one another; between them only the direction counts."""

TORCH_ROOMS = frozenset({"models", "segmentation", "training", "explain", "evaluation", "bench"})
ROOMS_OF: dict[str, frozenset[str]] = {
    "torch": TORCH_ROOMS,
    "safetensors": TORCH_ROOMS,
    "zarr": frozenset({"io", "ebsd"}),
    "zarrs": frozenset({"io"}),
    "tifffile": frozenset({"io"}),
    "h5py": frozenset({"ebsd"}),
    "typer": frozenset({"cli"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "jinja2": frozenset({"report"}),
}
NEVER_ON_IMPORT = frozenset({"matplotlib"})
TORCHSCRIPT_MODULE = "models/runtime.py"


def room_of(path: Path, package: Path) -> str:
    """Return the module or subpackage of the top level that a file belongs to; "" for the package's own __init__."""
    first = path.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(tree: ast.AST, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of every import, those inside functions and by a literal name included.

    A type checker's imports of other packages do not count, since they never run; those of this package do.
    """
    unrun = {id(node) for branch in ast.walk(tree) if is_typing_only(branch) for node in ast.walk(branch)}
    for node in ast.walk(tree):
        own = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith(PACKAGE))
        if id(node) in unrun and not own:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `module` ends with the file's own name, so one dot drops exactly that.
            base = ".".join(module[: len(module) - node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__", "require"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def is_typing_only(node: ast.AST) -> bool:
    """Return whether this is an ``if TYPE_CHECKING:`` block."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def on_import(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the import statements that run when the module is imported: not those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not is_typing_only(node) and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from on_import(node)


def check_inner(room: str, target: str) -> str | None:
    """Say what is wrong with `room` importing the dotted name `target` of this package, or None."""
    parts = target.split(".")[1:]
    other = parts[0] if parts else ""
    if other not in FLOOR_OF:
        return f"imports {target!r} from the package's own __init__; import it from its module"
    if other == room:
        return None
    here, there = FLOOR_OF[room], FLOOR_OF[other]
    if there > here:
        return f"imports {other} (floor {there}) from {room} (floor {here}): imports go down only"
    if there == here and not (room in GROUND and other in GROUND):
        return f"imports {other}, a sibling of {room} on floor {here}: siblings never import each other"
    return None


def check_outer(room: str, name: str) -> str | None:
    """Say what is wrong with `room` importing another package, or None."""
    allowed = ROOMS_OF.get(name.partition(".")[0])
    if allowed is None or room in allowed:
        return None
    return f"imports {name.partition('.')[0]}, which only {', '.join(sorted(allowed))} may"


def check_python(package: Path) -> list[str]:
    """Return every violation in the Python package at `package`, as ``file:line: what``."""
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        room, inside = room_of(path, package), path.relative_to(package)
        if room and room not in FLOOR_OF:
            found.append(f"{inside}:1: {room} has no floor; give it one in tests/test_layers.py")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        module = (PACKAGE, *inside.with_suffix("").parts)
        for line, name in imported(tree, module):
            if name.partition(".")[0] == PACKAGE:
                # The package's own __init__ is the shop window: it may show every floor.
                problem = check_inner(room, name) if room else None
            else:
                problem = check_outer(room, name)
            if problem:
                found.append(f"{inside}:{line}: {problem}")
        for node in on_import(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [
                f"{inside}:{node.lineno}: imports {name} when it is itself imported; import it where it is used"
                for name in names
                if name.partition(".")[0] in NEVER_ON_IMPORT
            ]
        if inside.as_posix() != TORCHSCRIPT_MODULE:
            found += [
                f"{inside}:{node.lineno}: uses torch.jit, which only {TORCHSCRIPT_MODULE} may"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.jit"
            ]
    return found


def check_cpp(folder: Path) -> list[str]:
    """Return every violation among the include lines below `folder`, as ``file:line: what``."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".cpp", ".hpp", ".h", ".cu", ".cuh"}:
            continue
        inside = path.relative_to(folder)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            header = match[1] if match else ""
            if re.match(r"(torch|ATen|c10)/", header):
                found.append(f"{inside}:{number}: includes {header}; nothing in cpp may include torch")
            if re.match(r"pybind11/|(python[\d.]*/)?Python\.h$", header) and inside.parts[0] != "bindings":
                found.append(f"{inside}:{number}: includes {header}, which only cpp/bindings may")
    return found


def test_python_keeps_to_its_floors() -> None:
    assert check_python(ROOT / "python" / PACKAGE) == []


def test_cpp_keeps_to_its_floors() -> None:
    assert check_cpp(ROOT / "cpp") == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("kernels.py", "from .io import open_mosaic", "imports go down only"),
        ("geometry.py", "from . import kernels", "imports go down only"),
        ("io/mosaic.py", "def f():\n    from ..segmentation.run_plan import Plan", "imports go down only"),
        ("io/mosaic.py", "import bainite_fast.cli.app", "imports go down only"),
        ("io/__init__.py", "from ..models import load", "siblings never import"),
        ("segmentation/engine.py", "from ..synthetic import make", "siblings never import"),
        ("metrics.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .io import Mosaic", "siblings"),
        ("segmentation/plan.py", "from .. import load", "own __init__"),
        ("segmentation/plan.py", "from bainite_fast import segment_mosaic", "own __init__"),
        ("io/mosaic.py", "import torch", "imports torch"),
        ("cli/_doctor.py", "from importlib import import_module\ntorch = import_module('torch')", "imports torch"),
        ("segmentation/stream.py", "from zarr.codecs import BytesCodec", "imports zarr"),
        ("models/package.py", "import tifffile as t", "imports tifffile"),
        ("segmentation/api.py", "def f():\n    import rich.progress", "imports rich"),
        ("measure/tables.py", "import typer", "imports typer"),
        ("report/page.py", "import matplotlib.pyplot as plt", "when it is itself imported"),
        (
            "measure/plot.py",
            "try:\n    from matplotlib import pyplot\nexcept ImportError:\n    pass",
            "itself imported",
        ),
        ("models/load.py", "import torch\nmodel = torch.jit.load('x.pt')", "torch.jit"),
        ("attic.py", "", "has no floor"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    found = check_python(tmp_path)
    assert len(found) == 1
    assert complaint in found[0]
    assert found[0].startswith(f"{file}:")


def test_what_is_allowed_is_not_found(tmp_path: Path) -> None:
    sources = {
        "__init__.py": "from .segmentation import segment\nfrom . import cli",
        "kernels.py": "from . import _core\nfrom .errors import InputError",
        "io/mosaic.py": "import zarr\nfrom ..geometry import Region\nfrom .. import kernels\nfrom .labels import x",
        "io/labels.py": "from . import mosaic",
        "segmentation/result.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zarr",
        "report/page.py": "def draw():\n    import matplotlib.pyplot as plt\n    import jinja2",
        "segmentation/engine.py": "import torch\nfrom ..models.runtime import compile\nfrom .plan import Plan",
        "models/runtime.py": "import torch\ntrace = torch.jit.trace",
        "cli/app.py": "import typer\nfrom ..segmentation.api import segment",
        "__main__.py": "from .cli import main",
    }
    for file, source in sources.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(source, encoding="utf-8")
    assert check_python(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("cpu/tiling.cpp", "#include <pybind11/numpy.h>", "only cpp/bindings"),
        ("include/bainite/view.hpp", '#  include "Python.h"', "only cpp/bindings"),
        ("bindings/module.cpp", "#include <torch/extension.h>", "nothing in cpp"),
        ("cuda/tiling.cu", "#include <ATen/ATen.h>", "nothing in cpp"),
    ],
)
def test_a_planted_include_is_found(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"#pragma once\n{line}\n", encoding="utf-8")
    found = check_cpp(tmp_path)
    assert len(found) == 1
    assert complaint in found[0]
    assert f"{file}:2" in found[0]


def test_bindings_may_include_pybind11(tmp_path: Path) -> None:
    (tmp_path / "bindings").mkdir()
    (tmp_path / "bindings/module.cpp").write_text("#include <pybind11/pybind11.h>\n#include <Python.h>\n")
    assert check_cpp(tmp_path) == []
