"""Names in generated C: identifiers, strings and comments that any model's names can become."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import EdgecError

# C and C++ keywords, and headers that `#include <...>` would find beside the model's own.
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool class delete
explicit export false friend mutable namespace new operator private protected public template this throw true try
typename using virtual main edgec
assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic
stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
"""
_TAKEN = frozenset(_WORDS.split())


def identifier(text: str) -> str:
    """A C identifier close to `text`, in lower case where it is a model's file name."""
    word = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_") or "model"
    if word[0].isdigit():
        word = f"m{word}"
    return f"{word}_model" if word.lower() in _TAKEN else word


def check_name(name: str) -> str:
    """The model's name where it can be one in C; the error names one that can."""
    if not isinstance(name, str):
        raise EdgecError(f"name: {name!r}; expected text that can be a name in C")
    if identifier(name) != name:
        raise EdgecError(f"model name {name!r} cannot be used in C; use --name {identifier(name)}")
    return name


def unique(names: Iterable[str]) -> list[str]:
    """Upper-case identifiers for inputs or outputs, one each."""
    out: list[str] = []
    for name in names:
        word = base = re.sub(r"[^0-9A-Z]+", "_", name.upper()).strip("_") or "UNNAMED"
        count = 1
        while word in out:
            count += 1
            word = f"{base}_{count}"
        out.append(word)
    return out


def shortened(names: Iterable[str], limit: int = 60) -> list[str]:
    """The names, each at most `limit` characters long (the middle gives way) and different from all before it."""
    out: list[str] = []
    seen: set[str] = set()
    for name in names:
        short, count = middle_out(name, limit), 1
        while short in seen:
            count += 1
            end = f"_{count}"
            short = middle_out(name, limit - len(end)) + end
        seen.add(short)
        out.append(short)
    return out


def middle_out(text: str, limit: int) -> str:
    """Text of at most `limit` characters: its start and end around `...`, the end longer, where names differ."""
    if len(text) <= limit:
        return text
    start = (limit - 3) // 3
    return f"{text[:start]}...{text[len(text) - (limit - 3 - start) :]}"


def string(text: str) -> str:
    """A C string literal; anything but plain ASCII as octal escapes."""
    plain = {
        ord(c) for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-+.,:;/()[]{}<>=@#$%&*!|~^'`"
    }
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def comment(text: str) -> str:
    """Text that may stand inside a C comment."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)
    return shown.replace("*/", "* /").replace("/*", "/ *")
