"""A bundle: what it holds, that it is reproducible, that programs link it, that a failure leaves the old one."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import Bundle, check_output, elf, identifier, read_bundle, write_bundle
from edgec.compiler.bundle.names import check_name, string, unique
from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import QParams
from edgec.compiler.program import Port, Ref
from tests.support.handmade import program, target

GOLDEN = Path(__file__).parent / "golden"
MAIN = """
#include <stdio.h>
#include <string.h>
#include "tiny.h"
#include "other.h"
EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES], second[OTHER_ARENA_BYTES];
int main(void)
{
    const float x[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    ec_model a, b;
    if (ec_open(&a, &tiny_desc, arena, sizeof arena) || ec_open(&b, &other_desc, second, sizeof second)) return 1;
    memcpy(ec_input(&a, TINY_INPUT_X).data, x, TINY_INPUT_X_BYTES);
    memcpy(ec_input(&b, OTHER_INPUT_X).data, x, OTHER_INPUT_X_BYTES);
    if (ec_run(&a) || ec_run(&b)) return 2;
    const float *p = (const float *)ec_output(&a, 0).data, *q = (const float *)ec_output(&b, 0).data;
    printf("%g %g\\n", (double)p[7], (double)q[7]);
    return 0;
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(program(folder), target(), folder / "out")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_holds_the_files_that_its_manifest_lists(bundle: Bundle) -> None:
    wanted = {"tiny.h", "libtiny.a", "libtiny.so", "tiny.json", "report.html", "tinyConfig.cmake", "libedgec.a"}
    assert wanted | {"edgec/edgec.h", "src/core.c"} <= set(files(bundle.folder))
    assert set(files(bundle.folder)) == set(bundle.manifest["files"])
    assert read_bundle(bundle.folder) == bundle == read_bundle(bundle.folder / "tiny.json")


@pytest.mark.parametrize("name", ["tiny.h", "tiny.json"])
def test_golden(bundle: Bundle, name: str) -> None:
    text = (bundle.folder / name).read_text().replace(str(bundle.code_bytes), "CODE")  # depends on the C compiler
    if os.environ.get("EDGEC_BLESS"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_same_program_gives_the_same_bytes_anywhere(bundle: Bundle, tmp_path: Path) -> None:
    again = write_bundle(program(tmp_path), target(), tmp_path / "a" / "deeper" / "out")
    assert files(again.folder) == files(bundle.folder)


def test_shared_library_exports_one_symbol_and_needs_only_libc(bundle: Bundle) -> None:
    symbols = elf.symbols(bundle.shared_library.read_bytes(), dynamic=True)
    assert [s.name for s in symbols if s.defined] == ["edgec_model"]
    assert {s.name for s in symbols if not s.defined} <= {"tanhf"} | {
        "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__", "__cxa_finalize",
    }  # fmt: skip


def test_two_models_link_into_one_program(bundle: Bundle, tmp_path: Path) -> None:
    other = write_bundle(program(tmp_path, name="other", offset=1.0), target(), tmp_path / "other")
    (tmp_path / "main.c").write_text(MAIN)
    for compiler, language in (("cc", "c11"), ("c++", "c++17")):
        if shutil.which(compiler) is None:
            continue
        kind = ["-x", "c++"] if compiler == "c++" else []
        sources = [*kind, "main.c", "-x", "none", str(bundle.static_library), str(other.static_library)]
        flags = [
            f"-std={language}",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            f"-I{bundle.folder}",
            f"-I{other.folder}",
        ]
        subprocess.run([compiler, *flags, *sources, "-lm", "-o", "main"], cwd=tmp_path, check=True)
        said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert said == "50 51\n" or said.split() == ["50", "51"]


@pytest.mark.parametrize(("language", "main"), [("C", "main.c"), ("CXX", "main.cpp")])
def test_cmake_package(bundle: Bundle, tmp_path: Path, language: str, main: str) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    (tmp_path / main).write_text(
        '#include "tiny.h"\n#include "edgec/bench.h"\n'
        "int main(void) { return ec_clock_ns() == 0 || tiny_desc.n_steps != TINY_STEPS; }\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.18)\nproject(app LANGUAGES {language})\nfind_package(tiny CONFIG REQUIRED)\n"
        f"add_executable(app {main})\ntarget_link_libraries(app PRIVATE tiny::tiny)\n"
    )
    build = tmp_path / "build"
    subprocess.run(
        ["cmake", "-S", tmp_path, "-B", build, f"-Dtiny_DIR={bundle.folder}"], check=True, capture_output=True
    )
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    subprocess.run([build / "app"], check=True)


def test_awkward_names_and_types_become_valid_c(tmp_path: Path) -> None:
    base = program(tmp_path)
    ports = (
        Port('in"put\\??/ */', "u8", (), 1, Ref("arena", 0), QParams((0.1,), (128,))),
        Port("größe", "i64", (0,), 0, Ref("arena", 0)),
        Port("in.put", "bf16", (1, 2), 4, Ref("weights", 0), QParams((0.1, 0.2), (0, 0), 1)),
        *(Port(f"of {name}", name, (3,), 3 * row.bytes, Ref("arena", 0)) for name, row in DTYPES.items()),
    )
    bundle = write_bundle(replace(base, inputs=ports, outputs=ports[-1:]), target(), tmp_path / "out")
    assert "const uint8_t *result = (const uint8_t *)ec_output" in bundle.header.read_text()
    assert [port["dtype"] for port in bundle.manifest["inputs"][3:]] == [r.numpy.name for r in DTYPES.values()]
    (tmp_path / "use.c").write_text('#include "tiny.h"\nint use(void) { return TINY_INPUT_IN_PUT_2; }\n')
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{bundle.folder}"]
    for source in (tmp_path / "use.c", bundle.folder / "src" / "tiny_model.c"):
        subprocess.run(["cc", *flags, source], check=True)


def test_program_without_steps_and_weights(tmp_path: Path) -> None:
    empty = replace(program(tmp_path), steps=(), objects=(), weights=b"", arena_map=())
    assert write_bundle(empty, target(), tmp_path / "out").steps == []


@pytest.mark.arm
def test_bundle_for_another_architecture(tmp_path: Path) -> None:
    arm = target("arm")
    if tools.runs_here(arm.triple) or not any(map(shutil.which, arm.compilers)):
        pytest.skip("no cross compiler")
    bundle = write_bundle(program(tmp_path, arm), arm, tmp_path / "out")
    assert bundle.manifest["triple"].startswith("aarch64")
    machine = bundle.shared_library.read_bytes()[18]
    assert machine == 183  # EM_AARCH64


def test_names() -> None:
    assert [identifier(n) for n in ("yolo-x.v2", "3d", "int", "string", "", "é")] == [
        "yolo_x_v2", "m3d", "int_model", "string_model", "model", "model",
    ]  # fmt: skip
    assert unique(["a.b", "a_b", "", "ä"]) == ["A_B", "A_B_2", "UNNAMED", "UNNAMED_2"]
    assert string('a"?\n') == '"a\\042\\077\\012"'
    with pytest.raises(EdgecError, match="model name '3d' cannot be used in C; use --name m3d"):
        check_name("3d")


def test_renamed_symbols_survive_a_second_renaming(tmp_path: Path) -> None:
    data = program(tmp_path).objects[0][1]
    twice = elf.rename(elf.rename(data, {"scale": "first_name"}), {"first_name": "second", "squash": "s"})
    assert {s.name for s in elf.symbols(twice) if s.defined and s.is_global} == {"second", "s"}


# ---- Where it is put


def test_unwritable_output_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgecError, match=r"cannot write the bundle: .*file is not a folder"):
        check_output(tmp_path / "file" / "out")
    with pytest.raises(EdgecError, match="cannot write the bundle"):
        check_output("/proc/edgec/out")
    check_output(tmp_path / "new" / "deeper")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_failure_leaves_the_old_bundle_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_bundle(program(tmp_path), target(), tmp_path / "out")
    before = files(old.folder)
    monkeypatch.setattr(tools.Toolchain, "link", lambda *_: (_ for _ in ()).throw(EdgecError("no linker today")))
    with pytest.raises(EdgecError, match="no linker today"):
        write_bundle(program(tmp_path, offset=1), target(), old.folder)
    assert files(old.folder) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out", "kernels.c", "kernels.o"}


def test_another_model_replaces_the_old_one_but_not_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_bundle(program(tmp_path), target(), out)
    write_bundle(program(tmp_path, name="other"), target(), out)
    assert read_bundle(out).name == "other" and not (out / "tiny.h").exists()
    (out / "notes.txt").write_text("mine")
    write_bundle(program(tmp_path), target(), out)
    assert read_bundle(out).name == "tiny" and (out / "notes.txt").read_text() == "mine"
    assert not (out / "other.h").exists()


def test_missing_bundles_say_so(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="nowhere: no such bundle; make one with: edgec compile"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(EdgecError, match="holds no bundle"):
        read_bundle(tmp_path)
    for name in ("a", "b"):
        shutil.copy(bundle.folder / "tiny.json", tmp_path / f"{name}.json")
        shutil.copy(bundle.folder / "tiny.h", tmp_path / f"{name}.h")
    with pytest.raises(EdgecError, match=r"holds several bundles; name one of: a\.json, b\.json"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a bundle's manifest"),
        ("[]", "not a bundle's manifest"),
        ('{"schema": 1, "edgec": "0"}', "damaged manifest: no name, abi"),
        (
            '{"schema": 7, "edgec": "9.0"}',
            r"written by edgec 9\.0 \(manifest schema 7\); this edgec reads up to schema 1",
        ),
    ],
)
def test_manifests_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(EdgecError, match=message):
        read_bundle(tmp_path / "m.json")


# ---- Tools


def test_compilers_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = replace(target("arm"), triple="riscv64-unknown-linux-gnu", compilers=("no-such-gcc",))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(
        EdgecError, match=r"no C compiler for target 'arm' \(tried no-such-gcc, ziglang\); .*edgec\[cross\]"
    ):
        tools.toolchain(arm)
    monkeypatch.setattr(tools, "find_spec", lambda name: name)
    assert tools.toolchain(arm).cc[1:] == ("-m", "ziglang", "cc", "-target", arm.zig)
    monkeypatch.setenv("CC", "no-such-cc -m64")
    host = replace(arm, triple=f"{os.uname().machine}-unknown-linux-gnu")
    with pytest.raises(EdgecError, match="CC=no-such-cc -m64: no such compiler"):
        tools.toolchain(host)


def test_a_cross_compiler_without_a_c_library_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = replace(target("arm"), triple="riscv64-unknown-linux-gnu", compilers=("lone-gcc",))
    compiler = tmp_path / "lone-gcc"
    compiler.write_text("#!/bin/sh\necho ${1#-print-file-name=}\n")  # what a compiler says of a file that it lacks
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tools, "find_spec", lambda name: name)
    assert "ziglang" in tools.toolchain(arm).cc
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(EdgecError, match=r"\(tried lone-gcc, which has no C library, ziglang\)"):
        tools.toolchain(arm)
    compiler.write_text('#!/bin/sh\necho "/sysroot/${1#-print-file-name=}"\n')
    assert tools.toolchain(arm).cc == ("lone-gcc",)


def test_a_failing_tool_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("#error broken on purpose\n")
    with pytest.raises(EdgecError, match="failed: .*broken on purpose"):
        tools.toolchain(target()).compile(["bad.c"], tmp_path)
    with pytest.raises(EdgecError, match="cannot run no-such-tool"):
        tools.Toolchain(("no-such-tool",), ()).compile(["bad.c"], tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EdgecError, match=r"file/cache: the cache cannot be written: Not a directory; set EDGEC_CA"):
        write_bundle(program(tmp_path), target(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for name in ("EDGEC_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 98765)  # of whom the system knows no home
    with pytest.raises(EdgecError, match="no home folder is known for the cache; set EDGEC_CACHE"):
        write_bundle(program(tmp_path), target(), tmp_path / "out")
