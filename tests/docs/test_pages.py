"""Every code block of README and docs/ runs, in the page's order.

README is read in a fresh copy of the checkout, which it installs; the other pages in a folder that holds examples/,
with edgec installed.

    sh            is run by bash; python by a fresh interpreter
    c, cpp        is compiled for syntax against the runtime's headers and those of bundles in build/
    eir           is parsed and verified; rules, toml and json are parsed
    text          behind sh or python: the output that it must have; "..." in it stands for any text, and what has
                  none is written anew by `make bless`
    output        the same, as one machine gave it: numbers and names of kernels may be others

A block whose first line is a comment with a file name is written to that file first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from .pages import Block, alike, blocks, replace, shown

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


class Reader:
    """Somebody who follows a page from top to bottom."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.folder = folder / "project"
        self.environment = _environment(folder)
        if page == ROOT / "README.md":
            shutil.copytree(ROOT, self.folder, symlinks=True, ignore=_PRODUCTS)
        else:
            shutil.copytree(ROOT / "examples", self.folder / "examples")
            self.environment["PYTHONPATH"] = str(ROOT)

    def follow(self, block: Block) -> str:
        """The output of a block that runs, "" of others; raises AssertionError where it fails."""
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        match block.language:
            case "sh":
                return self.run(["bash", "-euo", "pipefail", "-c", block.text])
            case "python" if not block.file:
                return self.run(["python", "-c", block.text])
            case "c":
                self.run(["cc", "-std=c11", *_CHECK, *self.includes(), "-x", "c", "-"], block.text)
            case "cpp":
                self.run(["c++", "-std=c++17", *_CHECK, *self.includes(), "-x", "c++", "-"], block.text)
            case "eir":
                _verify(block.text)
            case "rules":
                _rules(block.text)
            case "toml":
                tomllib.loads(block.text)
            case "json":
                json.loads(block.text)
        return ""

    def run(self, command: list[str], source: str = "") -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, input=source, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def includes(self) -> list[str]:
        """The runtime's headers, and those of what the page has compiled."""
        folders = [ROOT / "runtime" / "include", *sorted({p.parent for p in self.folder.glob("build/*/*.h")})]
        return [f"-I{folder}" for folder in folders]


_PRODUCTS = shutil.ignore_patterns("build", "dist", ".venv", ".git", "__pycache__", ".*_cache")
_CHECK = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"]


def _environment(folder: Path) -> dict[str, str]:
    """PATH begins with a new virtual environment that has this one's packages, and an `edgec` that runs the tree."""
    venv.create(folder / "venv", symlinks=True)
    programs = folder / "venv" / "bin"
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text("".join(f"{p}\n" for p in sys.path if p.endswith("site-packages")))
    for name, module in (("edgec", "edgec"), ("pip", "pip")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs}/python" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    wanted = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "EDGEC", "VIRTUAL_ENV"))}
    return {
        **wanted,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which means: none
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }


def _rules(text: str) -> None:
    from edgec.compiler.rules.language import parse_rules

    parse_rules(text)


def _verify(text: str) -> None:
    from edgec.compiler.text_parse import parse
    from edgec.compiler.verify import verify

    verify(parse(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_runs(page: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    reader, output, runs = Reader(page, tmp_path), "", False
    outdated: list[tuple[Block, str]] = []
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "output" and runs:
            assert alike(block.text, output), f"{where}: expected, but for numbers,\n{block.text}\ngot\n{output}"
            runs = False
        elif block.language == "text" and runs:
            if pytestconfig.getoption("--bless") and not shown(block.text, output) and "..." not in block.text:
                outdated.append((block, output))
            else:
                assert shown(block.text, output), f"{where}: expected\n{block.text}\ngot\n{output}"
            runs = False
        elif block.language not in ("text", "output", "mermaid"):
            try:
                output = reader.follow(block)
            except Exception as error:
                raise AssertionError(f"{where}: {error}") from error
            runs = block.language in ("sh", "python") and not (block.language == "python" and block.file)
    for block, output in reversed(outdated):
        replace(page, block, output)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:

    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target} does not exist"


def test_a_shown_output_may_leave_out_text_and_lines() -> None:
    assert shown("a ... c\n", "a b c\n")
    assert shown("first\n...\nlast\n", "first\n1\n2\nlast\n")
    assert shown("first\n...\nlast\n", "first\nlast\n")
    assert not shown("first\n", "first\nsecond\n")


def test_an_output_of_one_machine_stands_for_those_of_others() -> None:
    page = "step  kernel     us\nconv  conv_tile  0.53\n...\n1 step, 2,080 bytes (2.0 KiB): .../build\n"
    there = "step  kernel         us\nconv  conv_winograd  12e-3\nadd  generic  1.5\n8 step, 99 bytes: /tmp/build\n"
    assert alike(page, there)
    assert not alike(page, there.replace("conv ", "pool "))
    assert not alike("19 of 20 right\n", "19 of 20 wrong\n")


def test_a_fence_must_name_a_language_that_runs(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("```\nfree text\n```\n")
    with pytest.raises(ValueError, match=r"page.md:1: block ''; known: sh, python"):
        blocks(tmp_path / "page.md")
    (tmp_path / "page.md").write_text("```sh\necho\n")
    with pytest.raises(ValueError, match=r"page.md:1: the block has no end"):
        blocks(tmp_path / "page.md")
