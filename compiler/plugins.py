"""Third-party passes, rules, guards, kernels and targets, found through the entry-point group `edgec.plugins`.

An entry point names a module, or a function without arguments. Loading it registers what the plugin brings, with the
calls that edgec uses itself: `graph_pass`, `guard`, `helper`, `kernel`, and from here `rules_file` and `target_file`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import EdgecError
from .target import Target, read_target, target_files

GROUP = "edgec.plugins"
RULES: dict[str, list[Path]] = {}
TARGETS: dict[str, Path] = {}
_loaded: set[tuple[str, str]] = set()


def rules_file(path: str | Path, into: str = "canonicalize") -> None:
    """Add a file of rules to a pass; they come after the pass's own, in order of registration."""
    if not Path(path).is_file():
        raise EdgecError(f"{path}: no such file of rules; is it among the package's data?")
    files = RULES.setdefault(into, [])
    if Path(path) not in files:
        files.append(Path(path))


def target_file(path: str | Path) -> None:
    """Add a target description; its file name is what users type."""
    name = Path(path).stem
    there = {**target_files(), **TARGETS}.get(name)
    if there is not None and there != Path(path):
        raise EdgecError(f"target {name!r} is there already: {there}")
    TARGETS[name] = Path(path)


def all_targets() -> dict[str, Path]:
    """Descriptions by name, the plugins' included."""
    load_plugins()
    return {**target_files(), **TARGETS}


def load_plugins() -> list[str]:
    """Load every installed plugin, each once, by name; returns the names. A failing one is an `EdgecError`."""
    points = sorted(entry_points(group=GROUP), key=lambda p: p.name)
    for point in points:
        key = (point.name, point.value)
        if key not in _loaded:
            _loaded.add(key)
            _load(point)
    return [point.name for point in points]


def _load(point: EntryPoint) -> None:
    package = point.dist.name if point.dist is not None else "unknown package"
    try:
        loaded = point.load()
        if callable(loaded):
            loaded()
        for path in TARGETS.values():
            _read(path)
    except Exception as error:
        _loaded.discard((point.name, point.value))
        raise EdgecError(f"plugin {point.name!r} of {package} ({point.value}) cannot be loaded: {error}") from error


def _read(path: Path) -> Target:
    return read_target(path.read_text(encoding="utf-8"), str(path))
