"""Programs in C and C++ around bundles of real models: linked, loaded, several at once, several instances of each."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import edgec
from edgec.compiler.bundle import Bundle
from edgec.compiler.ports import random_inputs

from .models import bundle

HERE = Path(__file__).parent
FIRST, SECOND = "mlperf_kws_dscnn", "mnist_cntk_8"
INSTANCES = 3  # as in instances.c
WARNINGS = ["-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]

MEMORY = {"memcpy", "memmove", "memset"}
MATH = {
    name + suffix
    for name in "acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh erf exp exp2 expm1 floor fma fmod log log10 "
    "log1p log2 nearbyint pow rint round roundeven sin sinh sqrt tan tanh tgamma trunc".split()
    for suffix in ("", "f")
}
SYSTEM = {"getauxval"}  # which instruction sets this CPU has, on Arm


@pytest.fixture(scope="module")
def pair() -> tuple[Bundle, Bundle]:
    return bundle(FIRST), bundle(SECOND)


@pytest.fixture(scope="module")
def data(pair: tuple[Bundle, Bundle], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """For each model a file with inputs and right answers of every instance."""
    folder = tmp_path_factory.mktemp("data")
    for each in pair:
        with edgec.load(each.folder) as model, (folder / each.name).open("wb") as file:
            for seed in range(INSTANCES):
                feed = random_inputs(model.inputs, seed)
                for values in (feed, model.run(feed)):
                    file.write(b"".join(array.tobytes() for array in values.values()))
    return [folder / each.name for each in pair]


def includes(pair: Sequence[Bundle]) -> list[str]:
    return [*(f"-I{each.folder}" for each in pair), f"-DFIRST={FIRST}_desc", f"-DSECOND={SECOND}_desc"]


def run(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def program(pair: tuple[Bundle, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instances")
    libraries = [*(each.static_library for each in pair), pair[0].folder / "libedgec.a"]
    ends = ["-lm", "-ldl", "-pthread", "-o", "instances"]
    run(["cc", "-std=c11", *WARNINGS, *includes(pair), HERE / "instances.c", *libraries, *ends], folder)
    return folder / "instances"


def test_two_models_in_several_instances_on_as_many_threads(program: Path, data: list[Path]) -> None:
    run([program, *data], program.parent)


def test_shared_libraries_are_opened_from_c(program: Path, data: list[Path], pair: tuple[Bundle, Bundle]) -> None:
    run([program, *data, *(each.shared_library for each in pair)], program.parent)


def test_a_program_in_cpp(data: list[Path], pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    libraries = [pair[0].static_library, pair[0].folder / "libedgec.a", "-lm", "-ldl", "-pthread"]
    run(["c++", "-std=c++17", *WARNINGS, *includes(pair), HERE / "wrapper.cpp", *libraries, "-o", "wrapper"], tmp_path)
    assert run([tmp_path / "wrapper", data[0], pair[0].shared_library], tmp_path) == "right\n"


def test_cmake_finds_two_bundles(data: list[Path], pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    where = [f"-D{each.name}_DIR={each.folder}" for each in pair]
    run(["cmake", "-S", HERE, "-B", tmp_path, f"-DFIRST={FIRST}", f"-DSECOND={SECOND}", *where], tmp_path)
    run(["cmake", "--build", tmp_path], tmp_path)
    run([tmp_path / "instances", *data], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_sanitizers_find_nothing(
    compiler: str, sanitizers: str, data: list[Path], pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    """Program, runtime and tables are instrumented; kernels and weights come from the bundles."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    folder = pair[0].folder
    sources = [HERE / "instances.c", *(folder / "src" / f"{unit}.c" for unit in ("core", "cpu", "loader"))]
    sources += [each.folder / "src" / f"{each.name}_model.c" for each in pair]
    flags = ["-std=c11", "-g", "-O1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", *includes(pair)]
    libraries = [*(each.static_library for each in pair), "-lm", "-ldl", "-pthread"]
    run([compiler, *flags, *sources, *libraries, "-o", "instances"], tmp_path)
    fixed = ["setarch", "-R"] if sanitizers == "thread" and shutil.which("setarch") else []
    run([*fixed, tmp_path / "instances", *data], tmp_path)
    run([*fixed, tmp_path / "instances", *data, *(each.shared_library for each in pair)], tmp_path)


# ---- What the libraries need and define


@pytest.mark.parametrize("target", ["host", pytest.param("arm", marks=pytest.mark.arm)])
@pytest.mark.parametrize("name", [FIRST, SECOND, pytest.param("yolox_nano_416", marks=pytest.mark.long)])
def test_symbols(name: str, target: str) -> None:
    compiled = bundle(name, target)
    needed, defined = symbols(compiled.static_library)
    assert needed <= MEMORY | MATH | SYSTEM
    assert all(re.match(rf"ec_|{name}_", symbol) for symbol in defined)
    assert not [symbol for symbol in defined | needed if "tvm" in symbol.lower()]


def symbols(library: Path) -> tuple[set[str], set[str]]:
    """What no object of an archive defines, and all that they define for others; weak symbols are refused."""
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    needed, defined = set(), set()
    for line in run(["nm", "-g", library], library.parent).splitlines():
        kind, _, symbol = line[17:].partition(" ")
        assert kind not in ("W", "w", "V", "v"), f"{symbol} is weak"
        if symbol:
            (needed if kind == "U" else defined).add(symbol)
    return needed - defined, defined
