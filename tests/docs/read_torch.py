"""The names of PyTorch, torchvision and timm, with their arguments, for the page that compares.

    python -m tests.docs.read_torch    # writes docs/_ext/torch_names.json anew

What is installed is read; of what is not, the file's names are kept.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "docs" / "_ext" / "torch_names.json"

MODULES = (
    "torch", "torch.Tensor", "torch.linalg", "torch.fft", "torch.special", "torch.nn",
    "torch.nn.functional", "torch.nn.init", "torch.nn.utils", "torch.nn.utils.parametrizations",
    "torch.nn.utils.rnn", "torch.autograd", "torch.optim", "torch.optim.lr_scheduler",
    "torch.optim.swa_utils", "torch.utils.data", "torchvision.transforms.v2",
    "torchvision.datasets", "timm",
)  # fmt: skip


def version(package: str) -> str:
    """Return a package's version, without what was compiled in."""
    return str(importlib.import_module(package).__version__).split("+")[0]


def read(module: str) -> dict[str, str]:
    """Return the public names of a module that is installed, and their arguments."""
    if module == "timm":
        from tests.timm_import import import_timm

        home = import_timm()
    elif module == "torch.Tensor":
        home = importlib.import_module("torch").Tensor
    else:
        home = importlib.import_module(module)
    return {name: arguments(value) for name, value in sorted(public(module, home))}


def public(module: str, home: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a module lists, or what has a docstring: PyTorch's ``torch`` does not list all."""
    listed = getattr(home, "__all__", ())
    for name in listed if listed and module != "torch" else dir(home):
        value = getattr(home, name, None)
        doc = getattr(value, "__doc__", None)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if module == "torch" and name in listed:
            yield name, value
            continue
        if not isinstance(doc, str):
            continue
        home_of_value = getattr(value, "__module__", None) or module
        if module == "torch.Tensor" or (callable(value) and _is_meant(module, name, home_of_value)):
            yield name, value


def _is_meant(module: str, name: str, home: str) -> bool:
    """Return whether a name is for users of a module, and no type or helper that it imports."""
    if module == "timm":
        return True
    if module == "torch" and re.search(
        "^(sym_|fake_|quantize|import_|parse_|Sym)|(_copy|Storage|Tensor|Type|Error)$", name
    ):
        return False
    if name == "Tensor" or (module == "torch.nn.functional" and name[0].isupper()):
        return False
    return home.startswith(module.split(".")[0])


def arguments(value: Any) -> str:
    """Return ``input, dim=None, *, keepdim=False``, or nothing where that is not known."""
    if not callable(value):
        return ""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return of_docstring(inspect.getdoc(value) or "")
    texts = []
    star = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            texts.append(f"*{parameter.name}")
            star = True
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            texts.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            texts.append("*")
            star = True
        default = parameter.default
        if default is parameter.empty:
            texts.append(parameter.name)
        elif default is None or isinstance(default, (bool, int, float, str, tuple)):
            texts.append(f"{parameter.name}={default!r}")
        else:
            texts.append(f"{parameter.name}=...")
    if texts[:1] == ["self"]:
        del texts[0]
    return ", ".join(texts)


def of_docstring(text: str) -> str:
    """Return the arguments that the first line of a docstring names, if they are Python."""
    found = re.match(r"(?:\.\. method:: )?\w+\((.*?)\)\s*(?:->.*)?$", text.split("\n")[0])
    given = found[1].replace("\\", "") if found else ""
    try:
        compile(f"def f({given}): pass", "", "exec")
    except SyntaxError:
        return ""
    return given


def installed(module: str) -> bool:
    """Return whether the package of a module is there."""
    return importlib.util.find_spec(module.split(".")[0]) is not None


def main() -> None:
    """Write the file."""
    names: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    versions = names.pop("versions", {})
    for module in MODULES:
        if installed(module):
            names[module] = read(module)
            versions[module.split(".")[0]] = version(module.split(".")[0])
    ordered = {"versions": versions, **{module: names[module] for module in MODULES}}
    FILE.write_text(json.dumps(ordered, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
