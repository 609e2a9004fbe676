# SPDX-License-Identifier: Apache-2.0
"""The house stays true to its plan: ops, functions, tests, examples and documents name each other."""

from __future__ import annotations

import doctest
import graphlib
import importlib
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import vastmax
from support import ROOT, TESTS, contracts
from support.imports import import_graph

if TYPE_CHECKING:
    pass

OPS_DEF = ROOT / "cpp" / "ops.def"

source_tree = pytest.mark.skipif(not OPS_DEF.exists(), reason="tests without the source tree")


DOCUMENTS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("cpp/**/*.md")}
)


def ops() -> list[tuple[str, str]]:
    """(shape, name) of each line of the list."""
    if not OPS_DEF.exists():
        return []
    return re.findall(r"^VM_OP\((\w+),\s*(\w+),", OPS_DEF.read_text(), re.MULTILINE)


def functions() -> dict[str, Any]:
    public = {name: getattr(vastmax, name) for name in vastmax.__all__}
    for module in (vastmax.special, vastmax.tf, vastmax.dask, vastmax.mpi):
        home = module.__name__.removeprefix("vastmax.")
        public |= {f"{home}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in public.items() if inspect.isfunction(value)}


@source_tree
@pytest.mark.parametrize(("shape", "op"), ops(), ids=[op for _, op in ops()])
def test_op_has_formula_function_and_test(shape: str, op: str) -> None:
    assert (ROOT / "cpp" / "ops" / f"{op}.hpp").exists(), "no formula"
    assert hasattr(vastmax, op) or hasattr(vastmax.special, op), "no public function"
    mentions = [
        p.name for p in TESTS.rglob("test_*.py") if p != Path(__file__) and re.search(rf"\b{op}\b", p.read_text())
    ]
    assert mentions, "no test names it"
    assert any(op in key for key in contracts.MAX_ULP), "no contract"


# What one backend has no need of: NumPy converts and multiplies on the CPU, whose core picks logits, cuts rows, merges
# divergences, sorts and makes a softmax of noisy logits in two passes; the GPU reads any strides as they are.
ONLY_CUDA = {"convert", "cuts", "group_ids", "gumbel", "norm_divergence", "norm_pick", "product"}
ONLY_CPU = {"columns", "stage", "stream_copy", "table"}


@source_tree
def test_a_kernel_has_the_same_name_on_both_backends() -> None:
    cpu = {path.stem for path in (ROOT / "cpp" / "kernels").glob("*.cpp")}
    cuda = {path.stem for path in (ROOT / "cuda" / "kernels").glob("*.cu")}
    assert cpu - ONLY_CPU == cuda - ONLY_CUDA


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert vastmax.__file__ is not None
    graph = import_graph(Path(vastmax.__file__).parent)
    assert {"vastmax.softmax", "vastmax._ops.normalizers"} <= graph["vastmax"] | graph["vastmax.softmax"]
    graphlib.TopologicalSorter(graph).prepare()  # names the modules of a circle


def test_a_circle_through_a_function_and_types_is_found(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .a import f\n")
    (package / "a.py").write_text("def f():\n    from .inner import b\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "b.py").write_text("if TYPE_CHECKING:\n    from ..c import T\n")
    (package / "c.py").write_text("import package.a\n")
    with pytest.raises(graphlib.CycleError) as caught:
        graphlib.TopologicalSorter(import_graph(package)).prepare()
    assert set(caught.value.args[1]) == {"package.a", "package.inner.b", "package.c"}


@source_tree
def test_the_list_is_not_empty() -> None:
    names = [op for _, op in ops()]
    assert len(names) >= 10
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", list(functions()))
def test_every_public_function_has_a_docstring_with_an_example(name: str) -> None:
    text = inspect.getdoc(functions()[name]) or ""
    assert text, "no docstring"
    assert ">>> " in text, "no example"
    first = text.split("\n")[0]
    assert first.endswith("."), f"the first line is a sentence: {first!r}"


# The sections of numpydoc that we use, in its order; the second list may be missing.
SECTIONS = ["Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples"]
OPTIONAL = ["See Also", "References"]


@pytest.mark.parametrize("name", [name for name in functions() if "get_" not in name])
def test_docstrings_have_the_sections_of_numpydoc(name: str) -> None:
    text = inspect.getdoc(functions()[name]) or ""
    found = re.findall(r"^(\w[\w ]*)\n-{3,}$", text, re.MULTILINE)
    assert [section for section in SECTIONS if section in found] == found
    if name.rpartition(".")[2] in contracts.MAX_ULP:
        assert [section for section in found if section not in OPTIONAL] == [s for s in SECTIONS if s not in OPTIONAL]
        assert "See Also" in found or "." in name
        assert all(words in text for words in ("Accuracy: ", "Special values: ", "TypeError", "ValueError"))


# How many texts a parameter of several functions may have: one for each of its meanings.
MEANINGS = {
    "temperature": 3,  # of rows; of draws, where it may be 0; one number of sampled losses
    "dtype": 1,
    "seed": 5,  # of draws from logits, samplers, sampled losses, TensorFlow's samplers, and without effect
    "step": 2,  # of draws; of training
    "row_offset": 1,
    "ignore_index": 2,  # of logits in an array; of linear layers
    "reduction": 4,  # of elements, rows, linear layers, Dask
    "label_smoothing": 2,
    "z_loss": 2,
}


def parameters(text: str) -> Iterator[tuple[str, str]]:
    """The names of the parameters that a docstring describes, each with its text."""
    section = re.search(r"^Parameters\n-{3,}\n(.*?)(?=^\w[\w ]*\n-{3,}$|\Z)", text, re.MULTILINE | re.DOTALL)
    for names, described in re.findall(
        r"^(\w[\w, ]*)((?: : .*)?\n(?:(?: .*)?\n)*)", section[1] if section else "", re.MULTILINE
    ):
        for name in names.split(", "):
            yield name, " ".join(described.split())


@pytest.mark.parametrize("shared", MEANINGS)
def test_shared_parameters_have_equal_text(shared: str) -> None:
    texts: dict[str, list[str]] = {}
    for name, function in functions().items():
        for parameter, text in parameters(inspect.getdoc(function) or ""):
            if parameter == shared and "As given to" not in text:
                texts.setdefault(text, []).append(name)
    assert len(texts) == MEANINGS[shared], texts


MODULES = [
    "vastmax",
    *(
        f"vastmax.{m}"
        for m in (
            "softmax",
            "logsumexp",
            "softplus",
            "binary_cross_entropy",
            "cross_entropy",
            "row_statistics",
            "special",
            "streaming",
            "linear",
            "samplers",
            "sampling",
            "tf",
            "_runtime.config",
            "info",
            "errors",
        )
    ),
]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("threads")
def test_examples_run(name: str) -> None:
    # The functions hide modules of the same name in the package's namespace.
    module = importlib.import_module(name)
    with np.printoptions(), vastmax.config():
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@source_tree
@pytest.mark.parametrize("document", [p for p in DOCUMENTS if ">>> " in p.read_text()], ids=lambda p: p.name)
@pytest.mark.usefixtures("threads")
def test_examples_of_documents_run(document: Path) -> None:
    result = doctest.testfile(str(document), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_the_installed_package_is_what_runs() -> None:
    """An import from the source tree would hide a broken install."""
    home = Path(inspect.getfile(vastmax)).resolve()
    assert home.parent.name == "vastmax"
    assert vastmax.__version__


EXAMPLE = "softsign"  # the op that docs/development/adding_an_op.md adds
PLACES = ("cpp/", "cuda/", "python/", "tests/", "docs/", "bench/", "cmake/", ".ci/", "examples/")


@source_tree
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_in_documents_exist(document: Path) -> None:
    text = document.read_text()
    quoted = re.findall(r"`([^`\n]+)`", text)
    linked = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = []
    for path in quoted:
        # Patterns and placeholders stand for several files; commands are for the shell.
        if EXAMPLE in path:
            continue
        if (
            path.startswith(PLACES)
            and not re.search(r"[*<>{}\s…X]", path)
            and not (ROOT / path.split("::")[0]).exists()
        ):
            missing.append(path)
    for path in linked:
        if "://" not in path and not (document.parent / path).exists():
            missing.append(path)
    assert not missing


@source_tree
@pytest.mark.skipif(shutil.which("c++") is None, reason="without a C++ compiler")
def test_the_example_op_compiles(tmp_path: Path) -> None:
    """The formula and the line of ops.def that docs/development/adding_an_op.md shows, in the kernel it names."""
    formula, listed = re.findall(
        r"```cpp\n(.*?)```", (ROOT / "docs/development/adding_an_op.md").read_text(), re.DOTALL
    )
    shutil.copytree(ROOT / "cpp", tmp_path / "cpp")
    (tmp_path / f"cpp/ops/{EXAMPLE}.hpp").write_text(formula)
    include, op = listed.splitlines()
    ops = tmp_path / "cpp/ops.def"
    ops.write_text(ops.read_text().replace("#else\n", f"{include}\n#else\n").replace("#endif\n", f"{op}\n#endif\n"))
    kernel = tmp_path / "cpp/kernels/elementwise.cpp"
    options = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DVM_ISA=scalar", "-I."]
    run = subprocess.run(
        ["c++", *options, "-Icpp/include", str(kernel)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@source_tree
def test_contracts_of_the_readme() -> None:
    """The table of bounds in the README states what the tests hold."""
    stated = {}
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        numbers = [re.match(r"\d+", cell) for cell in cells[1:4]]
        if len(cells) == 4 and all(numbers[:2]):
            for op in re.findall(r"`(\w+)`", cells[0]):
                stated[op] = dict(zip(("f32", "f64", "f16"), [int(n[0]) if n else None for n in numbers], strict=True))
    assert {"softmax", "log_softmax", "logsumexp", "softplus", "sigmoid"} <= set(stated)
    for op, bounds in stated.items():
        for dtype, bound in bounds.items():
            assert bound is None or contracts.MAX_ULP[op][dtype] == bound, (op, dtype)


@source_tree
def test_contracts_of_the_accuracy_page() -> None:
    page = (ROOT / "docs/explanation/accuracy.md").read_text()
    stated = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", page, re.MULTILINE)[1:])
    kinds = ("f32", "f64", "f16")
    assert stated == {op: " | ".join(str(b.get(k, "-")) for k in kinds) for op, b in contracts.MAX_ULP.items()}


def test_contracts_of_docstrings() -> None:
    """Docstrings that state a bound state that of the contract."""
    stated = {}
    for name, function in functions().items():
        text = " ".join((inspect.getdoc(function) or "").split())
        bound = r"Accuracy: at most (\d+) ULP(?: \(float64: (\d+)\)| in float32, (\d+) in float64)?"
        if name in contracts.MAX_ULP and (found := re.search(bound, text)):
            single, of_float64, double = found.groups()
            stated[name] = {"f32": int(single), "f64": int(of_float64 or double or single)}
    assert {"softmax", "log_softmax", "logsumexp", "softplus", "cross_entropy", "entropy"} <= set(stated)
    for name, bounds in stated.items():
        assert {dtype: contracts.MAX_ULP[name][dtype] for dtype in bounds} == bounds, name


SOURCES = ("bench", "cmake", "cpp", "cuda", "python", "tests")
SUFFIXES = (".cpp", ".cu", ".h", ".hpp", ".py", ".sh", ".cmake", ".def")


@source_tree
@pytest.mark.parametrize(
    "path",
    sorted({p for tree in SOURCES for p in (ROOT / tree).rglob("*") if p.suffix in SUFFIXES}),
    ids=lambda p: p.name,
)
def test_licence_line(path: Path) -> None:
    lines = path.read_text().split("\n", 2)
    assert "SPDX-License-Identifier: Apache-2.0" in lines[lines[0].startswith("#!")]
