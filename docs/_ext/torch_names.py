"""The directives ``torch-names`` and ``torch-totals``: other libraries' names beside lucid's.

.. code-block:: rst

    .. torch-names:: torch.nn.functional

A table of the names that lucid has, with what differs; below it, folded, what it does not have, by
group. ``torch-totals`` counts both for all modules, and says why each group is left out.
PyTorch's, torchvision's and timm's names are those of ``torch_names.json``, which
``python -m tests.docs.read_torch`` writes; lucid's are read from the running modules.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from left_out import GROUPS, REST, Group, group_of
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).with_name("torch_names.json")

#: A module -> where lucid has what is in it.
HOMES = {
    "torch": "lucid",
    "torch.Tensor": "lucid.Tensor",
    "torch.linalg": "lucid.linalg",
    "torch.fft": "lucid.fft",
    "torch.special": "lucid.special",
    "torch.nn": "lucid.nn",
    "torch.nn.functional": "lucid.nn.functional",
    "torch.nn.init": "lucid.nn.init",
    "torch.nn.utils": "lucid.nn.utils",
    "torch.nn.utils.parametrizations": "lucid.nn.utils.parametrizations",
    "torch.nn.utils.rnn": "lucid.nn.utils.rnn",
    "torch.autograd": "lucid.autograd",
    "torch.optim": "lucid.optim",
    "torch.optim.lr_scheduler": "lucid.optim.lr_scheduler",
    "torch.optim.swa_utils": "lucid.optim.swa_utils",
    "torch.utils.data": "lucid.data",
    "torchvision.transforms.v2": "lucid.data.transforms",
    "torchvision.datasets": "lucid.data.datasets",
    "timm": "lucid.models",
}

#: Where lucid has what PyTorch has in two places: the second one.
ELSEWHERE = {"torch": "lucid.nn.functional"}

#: What the signatures do not say: a name -> what is different.
NOTES = {
    "torch.compile": "for inference: returns a faster model of fixed weights",
    "torch.save": "writes `.npz` and `.safetensors`",
    "torch.load": "reads `.npz`, `.safetensors` and PyTorch's `.pt` and `.pth`; runs no code",
    "torch.mean": "integers are taken as float32",
    "torch.tensor": "NumPy's dtypes",
    "torch.optim.Optimizer": "a parameter given twice is refused",
    "torchvision.transforms.v2.RandAugment": "what is uncovered is grey, not black",
}

#: Arguments that lucid nowhere has: where results are put, and how PyTorch computes.
NOWHERE = {
    "capturable", "device", "differentiable", "foreach", "fused", "generator", "grad_variables",
    "inplace", "layout", "max_value", "memory_format", "min_value", "non_blocking", "only_inputs",
    "orig_func", "out", "pin_memory", "reduce", "size_average",
}  # fmt: skip


class Names(NamedTuple):
    """What lucid has of a module, a name -> lucid's full name, and what it has not."""

    has: dict[str, str]
    missing: list[str]


@functools.cache
def load() -> dict[str, dict[str, str]]:
    """Return the names of each module, with their arguments."""
    stored: dict[str, dict[str, str]] = json.loads(FILE.read_text("utf-8"))
    return stored


def compare(module: str) -> Names:
    """Return what lucid has of a module's names."""
    result = Names({}, [])
    homes = [HOMES[module], *([ELSEWHERE[module]] if module in ELSEWHERE else [])]
    for name in load()[module]:
        ours = next((f"{home}.{name}" for home in homes if is_there(home, name)), None)
        if ours is None:
            result.missing.append(name)
        else:
            result.has[name] = ours
    return result


def is_there(home: str, name: str) -> bool:
    """Return whether lucid has something of that name that is no module."""
    try:
        return not inspect.ismodule(pkgutil.resolve_name(f"{home}.{name}"))
    except (AttributeError, ImportError):
        return False


def left_out(module: str) -> dict[Group, list[str]]:
    """Return the names that lucid does not have, by group."""
    groups: dict[Group, list[str]] = {group: [] for group in (*GROUPS, REST)}
    for name in compare(module).missing:
        groups[group_of(module, name)].append(name)
    return {group: names for group, names in groups.items() if names}


def differences(module: str, name: str, ours: str) -> list[str]:
    """Return what is different about a name that lucid has, each as a phrase."""
    phrases = [NOTES[f"{module}.{name}"]] if f"{module}.{name}" in NOTES else []
    given = load()[module][name]
    value = pkgutil.resolve_name(ours)
    if not given or not callable(value):
        return phrases
    function = ast.parse(f"def f({given}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    theirs = defaults(function.args)
    own = dict(inspect.signature(value).parameters)
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in own.values()):
        return phrases
    places = [argument.arg for argument in function.args.args]
    own_places = [name for name in own if own[name].kind is not own[name].KEYWORD_ONLY]
    if module == "torch.Tensor":
        own_places = own_places[1:]  # the tensor itself
    elif not inspect.isclass(value) and places and own_places:
        theirs.pop(places.pop(0))  # what it is about, by place
        own_places = own_places[1:]
    renamed = {
        theirs_name: own_name
        for theirs_name, own_name in zip(places, own_places)
        if theirs_name not in own and own_name not in theirs and theirs[theirs_name] is None
    }
    phrases += [f"`{before}` is `{now}`" for before, now in renamed.items()]
    skip = NOWHERE | set(renamed)
    absent = [n for n in theirs if n not in own and n not in skip and not n.startswith("_")]
    if absent:
        phrases.append("without " + ", ".join(f"`{name}`" for name in absent))
    for name, default in theirs.items():
        if name not in own or default in (None, "None", "..."):
            continue
        mine = own[name].default
        if mine is own[name].empty:
            phrases.append(f"`{name}` must be given")
        elif _plain(mine) and not _same(mine, default):
            phrases.append(f"`{name}={mine!r}`, not `{default}`")
    keywords = [
        f"`{name}`"
        for name in own
        if own[name].kind is own[name].KEYWORD_ONLY and name in places and name != "dtype"
    ]
    if keywords:
        phrases.append(", ".join(keywords) + " by name only")
    return phrases


def defaults(arguments: ast.arguments) -> dict[str, str | None]:
    """Return the arguments' names, and their defaults as they are written."""
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    values: list[ast.expr | None] = [None] * (len(names) - len(arguments.defaults))
    values += arguments.defaults
    names += [argument.arg for argument in arguments.kwonlyargs]
    values += arguments.kw_defaults
    return {name: value and ast.unparse(value) for name, value in zip(names, values)}


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple))


def _same(value: Any, written: str) -> bool:
    try:
        return bool(value == ast.literal_eval(written))
    except ValueError:  # a name, such as torch.strided
        return True


class TorchNames(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a sentence, the table, and what is missing."""
        module = self.arguments[0]
        if module not in HOMES:
            raise self.error(f"torch-names: expected one of {', '.join(HOMES)}, got {module}")
        self.env.note_reread()
        self.env.note_dependency(str(FILE))
        result = compare(module)
        total = len(result.has) + len(result.missing)
        lines = [f"lucid has {len(result.has)} of {total} names, in ``{HOMES[module]}``.", ""]
        if result.has:
            lines += table([module.split(".")[0], "lucid", "what differs"], rows(module, result))
        found = self.parse_text_to_nodes("\n".join(lines))
        if not result.missing:
            return found
        summary = f"{len(result.missing)} names that lucid does not have"
        paragraphs = [
            f"**{group.title}:** " + ", ".join(f"``{name}``" for name in names)
            for group, names in left_out(module).items()
        ]
        return [
            *found,
            nodes.raw("", f"<details class='missing'><summary>{summary}</summary>", format="html"),
            *self.parse_text_to_nodes("\n\n".join(paragraphs)),
            nodes.raw("", "</details>", format="html"),
        ]


class TorchTotals(SphinxDirective):
    """See the module."""

    def run(self) -> list[nodes.Node]:
        """Return a table of the modules, and one of the groups that are left out."""
        self.env.note_reread()
        self.env.note_dependency(str(FILE))
        modules = []
        counts = dict.fromkeys((*GROUPS, REST), 0)
        for module in HOMES:
            groups = left_out(module)
            for group, names in groups.items():
                counts[group] += len(names)
            has, rest = len(compare(module).has), len(groups.pop(REST, ()))
            left = sum(map(len, groups.values()))
            modules.append([f"``{module}``", str(has), str(left), str(rest)])
        why = [
            [group.title, group.reason.replace("`", "``"), str(count)]
            for group, count in counts.items()
            if count
        ]
        lines = [
            *table(["module", "lucid has", "left out", REST.title.lower()], modules, "figures"),
            "",
            *table(["left out", "why", "names"], why, "reasons"),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def rows(module: str, result: Names) -> list[list[str]]:
    """Return the cells for what lucid has: the name, lucid's, and what differs."""
    found = []
    for name, ours in result.has.items():
        text = "; ".join(differences(module, name, ours)).replace("`", "``")
        label = ours.removeprefix(f"{HOMES[module]}.").removeprefix("lucid.")
        found.append([f"``{name}``", f":py:obj:`{label} <{ours}>`", text])
    return found


def table(header: list[str], body: list[list[str]], kind: str = "torch-names") -> list[str]:
    """Return the lines of a table in reStructuredText, which has the class ``kind``."""
    lines = [".. list-table::", f"    :class: {kind}", "    :widths: auto"]
    lines += ["    :header-rows: 1", ""]
    for first, *others in [header, *body]:
        lines += [f"    * - {first}", *(f"      - {cell}" for cell in others)]
    return lines


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("torch-names", TorchNames)
    app.add_directive("torch-totals", TorchTotals)
    return {"parallel_read_safe": True}
