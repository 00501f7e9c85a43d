"""The command line: one row per subcommand, imported when it is used; what errors look like; exit codes.

A subcommand is a module with `add_arguments(parser)` and `run(args) -> int`, and optionally `EXAMPLES` for its help.
Exit codes: 0 done, 1 the user's mistake (or `verify` found a difference), 2 a defect of ours.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..errors import EdgecError, IRError, nearest


class Command(NamedTuple):
    """A row: what the user types, one line of help."""

    name: str
    help: str


COMMANDS = {
    row.name: row
    for row in (
        Command("compile", "turn an ONNX model into a library, a header and a report"),
        Command("quantize", "put a model into 8 bits: ONNX in, ONNX with QuantizeLinear and DequantizeLinear out"),
        Command("compress", "find what keeps a model within a budget of time, flash, RAM and accuracy"),
        Command("run", "run a compiled model on arrays from a file"),
        Command("verify", "compare a compiled model with ONNX Runtime"),
        Command("bench", "time a compiled model, in C"),
        Command("package", "turn a bundle into a library of Arduino, PlatformIO or Zephyr"),
        Command("inspect", "show what a model or a bundle holds: arithmetic, parameters, memory, steps"),
        Command("opt", "run passes on a model: graph in, graph out"),
        Command("passes", "list passes, their options and rules"),
        Command("targets", "list the boards and CPU levels to compile for"),
        Command("kernels", "explain which kernel an operator gets, and why"),
        Command("operators", "list the ONNX operators that compile, and why others do not"),
        Command("tune", "show and merge databases of measured kernels"),
        Command("bisect", "find the rewrite that breaks a model"),
        Command("completion", "print a shell's completion script"),
    )
}

EXAMPLES = """examples:
  edgec compile model.onnx --target rpi5 -o build/
  edgec verify model.onnx --bundle build/
  edgec bench build/ --layers

`edgec COMMAND --help` says more."""


class Parser(argparse.ArgumentParser):
    """Errors of usage are the user's mistakes: one line, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise EdgecError(f"{message} (see {self.prog} --help)")

    def check_options(self, words: Sequence[str]) -> None:
        """Unknown options are named before what they make of the other words."""
        known = [flag for action in self._actions for flag in action.option_strings]
        for word in words[: words.index("--")] if "--" in words else words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in known:
                self.error(f"no option {flag}{nearest(flag, known).partition('; known')[0]}")
            if re.fullmatch("-[A-Za-z]", word) and word not in known:
                self.error(f"no option {word}")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            wanted = "a whole number" if action.type is int else "a number"
            raise EdgecError(f"{_label(action)} {arg_string}: expected {wanted}") from error

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise EdgecError(f"{_label(action)} {value}: expected {', '.join(map(str, action.choices))}")


def _label(action: argparse.Action) -> str:
    """What an argument is called: by its longest flag, or by what stands for it in the usage."""
    return max(action.option_strings, key=len, default=str(action.metavar or action.dest))


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `edgec`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        signal.signal(signal.SIGTERM, _terminated)
    verbose = "-v" in words or "--verbose" in words
    try:
        return _run(words)
    except EdgecError as error:
        if verbose:
            if isinstance(error, IRError) and error.context:
                print(error.context, file=sys.stderr)
            traceback.print_exc()
        print(f"edgec: error: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("edgec: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        _drop_output()
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _MACHINE:
            print(f"edgec: error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
            _drop_output()
            return 1
        traceback.print_exc()
        print(f"edgec: internal error: {_one_line(_with_notes(error))}", file=sys.stderr)
        print(
            "edgec: this is a defect of edgec: please report the trace above with the command and the model",
            file=sys.stderr,
        )
        return 2


# The machine is at its limits: nothing in edgec or in its input is wrong.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}


def _drop_output() -> None:
    """What is still to be written has no place to go."""
    with suppress(OSError, ValueError):  # an output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminated(number: int, frame: object) -> NoReturn:
    """Ends as Ctrl-C does, so that temporary folders are removed."""
    raise SystemExit(128 + number)


def _run(words: list[str]) -> int:
    first = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    if first == len(words):
        _top().parse_args(words)
        _top().print_help()
        return 0
    name = words.pop(first)
    if name == "help":
        return _run([*words[first:], "--help"])
    if name not in COMMANDS:
        raise EdgecError(f"no command {name!r}{nearest(name, COMMANDS)}")
    module = import_module(f".{name}", __name__)
    options = parser(name, module)
    options.check_options(words)
    args = options.parse_args(words)
    status: int = module.run(args)
    sys.stdout.flush()
    return status


def parser(name: str, module: Any) -> Parser:
    """The parser of one subcommand."""
    out = Parser(
        prog=f"edgec {name}",
        description=COMMANDS[name].help,
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    out.add_argument("-v", "--verbose", action="store_true", help="show the trace of an error")
    module.add_arguments(out)
    return out


def _top() -> argparse.ArgumentParser:
    import edgec

    rows = "\n".join(f"  {row.name:<12}{row.help}" for row in COMMANDS.values())
    out = Parser(
        prog="edgec",
        usage="edgec COMMAND [options]",
        description=f"Compiles a trained ONNX model into a native library.\n\ncommands:\n{rows}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    out.add_argument("--version", action="version", version=f"edgec {edgec.__version__}")
    cmake = Path(__file__).resolve().parents[2] / "runtime" / "cmake"
    out.add_argument("--cmake-dir", action="version", version=str(cmake), help="print the folder for -Dedgec_DIR=")
    out.add_argument("-v", "--verbose", action="store_true", help="show the trace of an error")
    return out


def _with_notes(error: BaseException) -> str:
    """The error and what was added on its way up: the pass or kernel at work."""
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def _one_line(text: str) -> str:
    return " ".join(text.split())
