"""A bundle as a library of another build system: one row each, with the texts it wants and where the rest lies.

Forms: Arduino's library specification (precompiled libraries), PlatformIO's library.json, Zephyr's modules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EdgecError, nearest
from ..files import check_other
from ..target import Target, find_target
from .firmware import bare
from .manifest import Bundle
from .place import staged


@dataclass(frozen=True)
class Subject:
    """What the texts speak of: a bundle and the core that it is for."""

    bundle: Bundle
    target: Target

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def version(self) -> str:
        return str(self.bundle.manifest["edgec"])

    @property
    def summary(self) -> str:
        return f"The model {self.name}, compiled by edgec for {self.target.name}"


@dataclass(frozen=True)
class Ecosystem:
    """`headers`: folder of headers; `library`: folder of the archive; `texts`: further files by path."""

    name: str
    summary: str
    headers: str
    library: Callable[[Subject], str]
    texts: Callable[[Subject], Mapping[str, str]]


def package(bundle: Bundle, ecosystem: str, out: str | Path) -> list[str]:
    """Write the bundle to the folder `out` as a library of the ecosystem; the paths of its files.

    Errors: an unknown ecosystem, a bundle for a system with shared libraries, a folder that cannot be written.
    """
    if ecosystem not in ECOSYSTEMS:
        raise EdgecError(f"no ecosystem {ecosystem!r}{nearest(ecosystem, ECOSYSTEMS)}")
    row, subject = ECOSYSTEMS[ecosystem], Subject(bundle, find_target(str(bundle.manifest["target"])))
    if not bare(bundle):
        raise EdgecError(
            f"{bundle.folder}: is for {subject.target.name}, which has an operating system; {ecosystem} takes bundles "
            "for microcontrollers: compile with --target cortex-m4, say"
        )
    check_other(out, bundle.folder)
    with staged(Path(out)) as folder:
        headers, library = folder / row.headers, folder / row.library(subject)
        shutil.copytree(bundle.folder / "edgec", headers / "edgec")
        shutil.copyfile(bundle.header, headers / bundle.header.name)
        library.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.static_library, library / bundle.static_library.name)
        for path, text in row.texts(subject).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        files.append(f"{subject.name}.json")
        (folder / files[-1]).write_text(json.dumps({**bundle.manifest, "files": files}, indent=1) + "\n")
    return files


def _arduino_folder(subject: Subject) -> str:
    """Where arduino-cli looks for archives: by the core, and by the flags for floats where there are such."""
    flags = dict(flag[1:].split("=", 1) for flag in subject.target.cflags if "=" in flag)
    kind = "-".join(flags[key] for key in ("mfpu", "mfloat-abi") if key in flags)
    return f"src/{subject.target.cpu.mcpu}" + (f"/{kind}" if kind else "")


def _arduino(subject: Subject) -> dict[str, str]:
    name, big = subject.name, subject.name.upper()
    properties = {
        "name": name,
        "version": subject.version,
        "author": "edgec",
        "maintainer": "edgec",
        "sentence": subject.summary,
        "paragraph": "Working memory is an array of the sketch; see the example.",
        "category": "Data Processing",
        "url": "",
        "architectures": "*",
        "includes": f"{name}.h",
        "precompiled": "full",
        "ldflags": f"-l{name}",
    }
    sketch = f"""// Runs the model {name} once a second on zeros: put what the sensor says in their place.
#include <{name}.h>

EC_ALIGNAS({big}_ARENA_ALIGN) static uint8_t arena[{big}_ARENA_BYTES];
static ec_model model;

void setup() {{
  Serial.begin(115200);
  const ec_status status = ec_open(&model, &{name}_desc, arena, sizeof arena);
  if (status < 0)
    Serial.println(ec_strerror(status));
}}

void loop() {{
  const ec_tensor input = ec_input(&model, 0); // before every run: the model may use its memory
  if (input.data != NULL)
    memset(input.data, 0, input.io->bytes);
  const unsigned long start = micros();
  const ec_status status = ec_run(&model);
  Serial.print(ec_strerror(status));
  Serial.print(", microseconds: ");
  Serial.println(micros() - start);
  delay(1000);
}}
"""
    return {
        "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
        f"examples/{name}_run/{name}_run.ino": sketch,
    }


def _platformio(subject: Subject) -> dict[str, str]:
    manifest = {
        "name": subject.name,
        "version": subject.version,
        "description": subject.summary,
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{subject.name}.h",
        "build": {"includeDir": "include", "libArchive": False, "extraScript": "link.py"},
    }
    script = f"""# Links the model: it is compiled already.
from os.path import abspath

Import("env")  # noqa: F821
DefaultEnvironment().Append(LIBPATH=[abspath("lib")], LIBS=["{subject.name}"])  # noqa: F821
"""
    return {"library.json": json.dumps(manifest, indent=2) + "\n", "link.py": script}


def _zephyr(subject: Subject) -> dict[str, str]:
    name, option = subject.name, f"EDGEC_{subject.name.upper()}"
    return {
        "zephyr/module.yml": f"name: {name}\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n",
        "zephyr/Kconfig": f'config {option}\n\tbool "{subject.summary}"\n\tdefault y\n',
        "zephyr/CMakeLists.txt": f"""if(CONFIG_{option})
  zephyr_include_directories(${{CMAKE_CURRENT_LIST_DIR}}/../include)
  zephyr_link_libraries(${{CMAKE_CURRENT_LIST_DIR}}/../lib/lib{name}.a)
endif()
""",
    }


ECOSYSTEMS = {
    row.name: row
    for row in (
        Ecosystem("arduino", "a folder for Arduino's libraries/", "src", _arduino_folder, _arduino),
        Ecosystem("platformio", "a folder for PlatformIO's lib/", "include", lambda _: "lib", _platformio),
        Ecosystem("zephyr", "a module for ZEPHYR_EXTRA_MODULES", "include", lambda _: "lib", _zephyr),
    )
}
