"""What `opt` and `bisect` share: graphs from files, a target by name, faults shown with the IR around them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import target
from ..eir_file import read_eir
from ..errors import EdgecError, IRError
from ..files import existing
from ..ir import Graph
from .common import add_model_options, binds_of, dims_of, shapes_of


def add_graph_options(parser: argparse.ArgumentParser) -> None:
    """The graph to work on, and the passes to run."""
    parser.add_argument("path", metavar="FILE.eir|MODEL.onnx", help="graph in text form, or ONNX model")
    parser.add_argument(
        "--passes", metavar="SPEC", default="", help="'canonicalize, prune{sparsity=0.5}', or '+mine@fold' to insert"
    )
    parser.add_argument("--target", metavar="T", help="target whose pipeline and numbers the passes use")
    parser.add_argument(
        "--verify",
        type=int,
        default=1,
        choices=range(4),
        metavar="LEVEL",
        help="checks after each pass, 0 to 3 (default 1)",
    )
    add_model_options(parser)


def read_graph(args: argparse.Namespace) -> Graph:
    """The graph that the arguments name."""
    path = Path(args.path)
    if path.suffix == ".eir":
        return read_eir(path)
    from ..importer import import_model

    return import_model(path, shapes=shapes_of(args), dims=dims_of(args), binds=binds_of(args))


def find_target(name: str | None) -> target.Target | None:
    """The target that --target names, if any; with the kernels that passes choose from for it."""
    if name is None:
        return None
    from ..driver import load_kernels

    found = target.find_target(name)
    load_kernels()
    return found


def dump_folder(text: str | None) -> Path | None:
    """The folder that --dump names, if any."""
    if text is not None and not existing(Path(text)).is_dir():
        raise EdgecError(f"--dump {text}: {existing(Path(text))} is not a folder")
    return None if text is None else Path(text)


@contextmanager
def faults_shown() -> Iterator[None]:
    """Print where a pass failed, and the IR around the fault, before the one-line message."""
    try:
        yield
    except EdgecError as error:
        if isinstance(error, IRError) and error.context:
            print(error.context, file=sys.stderr)
        for note in getattr(error, "__notes__", []):
            print(note, file=sys.stderr)
        raise
