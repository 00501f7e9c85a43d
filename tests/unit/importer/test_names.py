"""Names of any length and kind, in C and in tables."""

from __future__ import annotations

from edgec.compiler.bundle.names import middle_out, shortened


def test_middle_gives_way() -> None:
    assert middle_out("short", 60) == "short"
    text = middle_out("a" * 100 + "z" * 100, 60)
    assert len(text) == 60 and text.startswith("aaa") and text.endswith("zzz") and "..." in text


def test_shortened_names_stay_different() -> None:
    long = [f"{'prefix/' * 20}{k}{'/suffix' * 20}" for k in range(12)]
    names = shortened([*long, "conv", "conv", "x" * 60])
    assert len(set(names)) == len(names) and max(map(len, names)) == 60
    assert names[12:14] == ["conv", "conv_2"]
