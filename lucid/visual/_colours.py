"""The colours of diagrams: those of light pages, and those of dark ones."""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """What a box is filled with, and its line, which its small text has too."""

    fill: str
    line: str
    dark_fill: str
    dark_line: str


#: Of each kind of box. Texts are as clear as WCAG 2.1 asks at level AA.
COLOURS = {
    "block": Colour("#e6fffa", "#2c7a7b", "#203c3e", "#4fd1c5"),
    "conv": Colour("#ffe8e8", "#c53030", "#422c30", "#fc8181"),
    "norm": Colour("#e6fffa", "#2c7a7b", "#203c3e", "#4fd1c5"),
    "activation": Colour("#faf5ff", "#6b46c1", "#353047", "#b794f4"),
    "pool": Colour("#fefcbf", "#975a16", "#3f3b25", "#ecc94b"),
    "linear": Colour("#ebf8ff", "#2b6cb0", "#243646", "#63b3ed"),
    "attention": Colour("#fff5f7", "#b83280", "#412d3a", "#f687b3"),
    "embedding": Colour("#f0fff4", "#276749", "#253d33", "#68d391"),
    "dropout": Colour("#f7fafc", "#4a5568", "#30353d", "#a0aec0"),
    "other": Colour("#f8fafc", "#475569", "#2e333b", "#94a3b8"),
    "op": Colour("#ffffff", "#1a202c", "#3d4146", "#e2e8f0"),
    "inout": Colour("#fff3cd", "#8a6200", "#3f3b25", "#ecc94b"),
    "port": Colour("#e2e8f0", "#475569", "#2e333b", "#94a3b8"),
}
#: Of all else, on a light page and on a dark one.
OTHERS = {
    "page": ("#ffffff", "#14171c"),
    "ink": ("#1a202c", "#e2e8f0"),
    "faint": ("#4a5568", "#a0aec0"),
    "line": ("#cbd5e0", "#4a5568"),
    "params": ("#2b6cb0", "#63b3ed"),
    "macs": ("#c05621", "#f6ad55"),
}


def variables() -> str:
    """Return CSS that gives an image its colours by name, light or dark as the reader's system."""
    pairs = [*OTHERS.items(), *((kind, (c.line, c.dark_line)) for kind, c in COLOURS.items())]
    pairs += [(f"{kind}-fill", (c.fill, c.dark_fill)) for kind, c in COLOURS.items()]
    light, dark = (" ".join(f"--{name}: {two[i]};" for name, two in pairs) for i in (0, 1))
    return (
        f"svg.lucid {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ svg.lucid {{ {dark} }} }}\n"
    )
