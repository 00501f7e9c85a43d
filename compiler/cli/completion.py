"""`edgec completion`: completion scripts for bash, zsh and fish, made from the parsers themselves."""

from __future__ import annotations

import argparse
from importlib import import_module

EXAMPLES = """examples:
  source <(edgec completion bash)
  edgec completion zsh > ~/.zfunc/_edgec
  edgec completion fish > ~/.config/fish/completions/edgec.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="bash|zsh|fish")


def run(args: argparse.Namespace) -> int:
    from .targets import all_summaries

    targets = [name for name, _ in all_summaries()]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](_options(), targets), end="")
    return 0


def _options() -> dict[str, dict[str, str]]:
    """Command -> option -> help."""
    from . import COMMANDS, parser

    out: dict[str, dict[str, str]] = {}
    for name in COMMANDS:
        try:
            actions = parser(name, import_module(f".{name}", __package__))._actions
        except ImportError:
            continue
        shown = [a for a in actions if a.help != argparse.SUPPRESS]
        out[name] = {flag: a.help or "" for a in shown for flag in a.option_strings if flag.startswith("--")}
    return out


def _bash(options: dict[str, dict[str, str]], targets: list[str]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(flags)}" ;;' for name, flags in options.items())
    return f"""_edgec() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
  if [[ $before == --target ]]; then
    COMPREPLY=($(compgen -W "{" ".join(targets)}" -- "$word")); return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "{" ".join(options)}" -- "$word"))
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _edgec edgec
"""


def _zsh(options: dict[str, dict[str, str]], targets: list[str]) -> str:
    return f"#compdef edgec\nautoload -U +X bashcompinit && bashcompinit\n{_bash(options, targets)}"


def _fish(options: dict[str, dict[str, str]], targets: list[str]) -> str:
    from . import COMMANDS

    lines = [
        f"complete -c edgec -n __fish_use_subcommand -f -a {name} -d '{_quote(COMMANDS[name].help)}'"
        for name in options
    ]
    for name, flags in options.items():
        for flag, text in flags.items():
            values = f" -xa '{' '.join(targets)}'" if flag == "--target" else ""
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            lines.append(f"complete -c edgec {seen} -l {flag[2:]} -d '{_quote(text)}'{values}")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
