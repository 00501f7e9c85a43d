"""A model in other people's builds: CMake that compiles it, firmware examples, and libraries of three ecosystems."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgec
from edgec.compiler.bundle import Bundle
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.bundle.packages import ECOSYSTEMS, package
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
CROSS = "arm-none-eabi-gcc"
pytestmark = pytest.mark.skipif(shutil.which(CROSS) is None, reason=f"needs {CROSS}")
ARDUINO = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
struct Port { void begin(long); void print(const char *); void println(const char *); void println(unsigned long); };
extern Port Serial;
void delay(unsigned long);
unsigned long micros(void);
void setup();
void loop();
"""
COMMAND = f"{sys.executable} -m edgec"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return edgec.compile(DIGITS, target="cortex-m4", out=tmp_path_factory.mktemp("m4") / "digits")


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_cmake_compiles_a_model_and_again_when_it_changes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    wrapper = tmp_path / "edgec"
    wrapper.write_text(f'#!/bin/sh\nexec {COMMAND} "$@"\n')
    wrapper.chmod(0o755)
    folder = subprocess.run([wrapper, "--cmake-dir"], capture_output=True, text=True, check=True).stdout.strip()
    options = f"-Dedgec_DIR={folder} -DEDGEC_COMPILER={wrapper} -DTARGET=host -DCMAKE_BUILD_TYPE=Release"
    shell(f"cmake -S examples/raspberry-pi -B build {options}", tmp_path)
    assert "compiling digits for host" in shell("cmake --build build", tmp_path)
    assert shell("build/read_digits", tmp_path).endswith("19 of 20 right\n")
    assert "compiling" not in shell("cmake --build build", tmp_path)
    os.utime(tmp_path / "examples" / "digits" / "digits.onnx")
    assert "compiling" in shell("cmake --build build", tmp_path)


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m7", "cortex-m55"])
def test_the_firmware_example_reads_digits(cpu: str, tmp_path: Path) -> None:
    text = shell(f"make -C {ROOT}/examples/firmware-m4 run CPU={cpu} BUILD={tmp_path} EDGEC='{COMMAND}'", tmp_path)
    assert "image 0 is a 8\n" in text and "19 of 20 right" in text


def test_an_arduino_library_builds_with_its_sketch(bundle: Bundle, tmp_path: Path) -> None:
    files = package(bundle, "arduino", tmp_path / "digits")
    assert "src/cortex-m4/fpv4-sp-d16-hard/libdigits.a" in files
    lines = (tmp_path / "digits" / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert {"name", "version", "author", "maintainer", "sentence", "url", "architectures"} <= set(fields)
    assert fields["precompiled"] == "full" and fields["ldflags"] == "-ldigits" and fields["includes"] == "digits.h"
    (tmp_path / "string.h").write_text('#include <stddef.h>\nextern "C" void *memset(void *, int, size_t);\n')
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    flags = "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -ffreestanding -fno-exceptions"
    sketch = "digits/examples/digits_run/digits_run.ino"
    shell(f"{CROSS} {flags} -x c++ -I. -Idigits/src -include Arduino.h -c {sketch} -o sketch.o", tmp_path)
    library = f"-Ldigits/src/cortex-m4/fpv4-sp-d16-hard {fields['ldflags']}"
    shell(f"{CROSS} {flags} -nostdlib -r sketch.o {library} -o all.o", tmp_path)
    needed = set(re.findall(r" U (\w+)", shell("arm-none-eabi-nm -C all.o", tmp_path)))
    assert needed <= {
        "Port",
        "Serial",
        "delay",
        "micros",
        "memcpy",
        "memset",
        "__aeabi_unwind_cpp_pr0",
        "__aeabi_unwind_cpp_pr1",
    }


def test_a_platformio_library_links_its_archive(bundle: Bundle, tmp_path: Path) -> None:
    package(bundle, "platformio", tmp_path)
    table = json.loads((tmp_path / "library.json").read_text())
    assert table["name"] == "digits" and table["version"] == edgec.__version__
    assert (tmp_path / table["build"]["includeDir"] / table["headers"]).exists()
    added: dict[str, list[str]] = {}

    class Environment:
        def Append(self, **values: list[str]) -> None:
            added.update(values)

    names = {"Import": lambda _: None, "DefaultEnvironment": Environment}
    before = Path.cwd()
    os.chdir(tmp_path)  # where PlatformIO runs a library's script
    try:
        exec((tmp_path / table["build"]["extraScript"]).read_text(), names)
    finally:
        os.chdir(before)
    assert (Path(added["LIBPATH"][0]) / f"lib{added['LIBS'][0]}.a").exists()


def test_a_zephyr_module_gives_headers_and_library(bundle: Bundle, tmp_path: Path) -> None:
    package(bundle, "zephyr", tmp_path / "module")
    assert "cmake: zephyr" in (tmp_path / "module/zephyr/module.yml").read_text()
    assert "config EDGEC_DIGITS" in (tmp_path / "module/zephyr/Kconfig").read_text()
    (tmp_path / "build.cmake").write_text(
        "foreach(kind include_directories link_libraries)\n"
        '  function(zephyr_${kind} path)\n    if(NOT EXISTS "${path}")\n      message(FATAL_ERROR "no ${path}")\n'
        '    endif()\n    message(STATUS "found ${path}")\n  endfunction()\nendforeach()\n'
        "include(module/zephyr/CMakeLists.txt)\n"
    )
    text = shell("cmake -DCONFIG_EDGEC_DIGITS=y -P build.cmake", tmp_path)
    assert "include" in text and "libdigits.a" in text
    assert "found" not in shell("cmake -P build.cmake", tmp_path)


@pytest.mark.parametrize("kind", ECOSYSTEMS)
def test_headers_of_a_package_compile(bundle: Bundle, kind: str, tmp_path: Path) -> None:
    package(bundle, kind, tmp_path / "out")
    package(bundle, kind, tmp_path / "out")  # the old one is replaced
    include = tmp_path / "out" / ECOSYSTEMS[kind].headers
    (tmp_path / "a.c").write_text('#include "digits.h"\n')
    shell(f"{CROSS} -mcpu=cortex-m4 -mthumb -ffreestanding -I{include} -c a.c", tmp_path)


def test_a_package_never_takes_the_place_of_its_bundle(bundle: Bundle, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(bundle.folder, own)
    before = sorted(own.rglob("*"))
    with pytest.raises(EdgecError, match="own: cannot write: the result would take the place of what is read"):
        package(read_bundle(own), "zephyr", own)
    assert sorted(own.rglob("*")) == before


def test_what_cannot_be_packaged(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EdgecError, match="did you mean 'arduino'"):
        package(bundle, "ardunio", tmp_path / "a")
    hosted = edgec.compile(DIGITS, target="host", out=tmp_path / "host")
    assert main(["package", str(hosted.folder), "--as", "zephyr", "-o", str(tmp_path / "z")]) == 1
    assert "which has an operating system; zephyr takes bundles for microcontrollers" in capsys.readouterr().err
    assert not (tmp_path / "z").exists()
