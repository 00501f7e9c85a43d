"""What pages refer to is there: files of the tree, headings of other pages, and every page from the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import blocks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
PLACE = re.compile(r"`((?:compiler|passes|targets|runtime|tests|docs|examples|benchmarks)/[\w./*-]*)`")
LINK = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")


def missing(page: Path) -> list[str]:
    """What a page names and the tree lacks: no file that the page has its reader write, and no NAME in capitals."""
    written = {Path(block.file).name for block in blocks(page)}
    named = [p for p in PLACE.findall(page.read_text()) if Path(p).name not in written and not Path(p).name.isupper()]
    return [place for place in named if not any(ROOT.glob(place.rstrip("/")))]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    assert missing(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_headings_that_a_page_links_to_are_there(page: Path) -> None:
    for other, anchor in LINK.findall(page.read_text()):
        if "://" not in other:
            assert anchor in anchors(page.parent / other if other else page), f"{other}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    names = [str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md") if p.name != "README.md"]
    assert [name for name in names if f"]({name})" not in index] == []


def test_a_file_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    there = "`targets/tir.py`, `targets/kernels/arm/*_rows.py`, `passes/`, `tests/eir/NAME/`"
    page.write_text(f"{there}; `compiler/no_such.py`, `tests/no_such/*.py`\n")
    assert missing(page) == ["compiler/no_such.py", "tests/no_such/*.py"]
