"""The directive ``public-names``: every public name of a module, with its docstring.

.. code-block:: rst

    .. public-names:: lucid.nn
        :skip: functional init

The names are read from the running module, so that none can be missing: first a table of them,
then each with its documentation. ``:sections:`` groups the names by the file that defines them,
under the titles below. ``:elsewhere:`` lists names that are documented on another page, so that the
table links there; ``:skip:`` leaves names out.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from names import public_names
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: The last part of the defining module -> the title of its section.
TITLES = {
    "_tensor": "Tensor",
    "_create": "Creation",
    "_arithmetic": "Arithmetic",
    "_powers": "Powers and roots",
    "_exponential": "Exponentials and logarithms",
    "_trigonometric": "Angles and hyperbolic functions",
    "_special": "Special functions",
    "_rounding": "Rounding and signs",
    "_comparison": "Comparisons, logic and bits",
    "_choice": "Choices",
    "_dtype": "Conversion",
    "_dtypes": "Data types",
    "_attributes": "What a tensor is",
    "_reduce": "Reduction",
    "_search": "Sorting, searching and counting",
    "_scan": "Scans, differences and integrals",
    "_statistics": "Statistics",
    "_shape": "Shapes",
    "_join": "Joining and splitting",
    "_diagonal": "Diagonals",
    "_index": "Triangles",
    "_gather": "Reading at indices",
    "_scatter": "Writing at indices",
    "_matmul": "Products",
    "_linalg": "Linear algebra",
    "_activation": "Activations",
    "_grad_mode": "Recording of gradients",
    "_random": "Randomness",
    "_save_load": "Files",
    "_dispatch": "Backends",
    "_device": "Devices",
    "_compiled": "Compiled inference",
    "_quantize": "Integers of 8 bits",
    "_summary": "Summaries",
    "_module": "Base class",
    "_parameter": "Parameters",
    "_sequential": "Containers",
    "_container": "Containers",
    "_linear": "Linear layers and shapes",
    "_conv": "Convolution",
    "_conv_transpose": "Transposed convolution",
    "_pool": "Pooling",
    "_padding": "Padding",
    "_fold": "Windows as columns, channels as pixels",
    "_grid": "Sampling at given places",
    "_batch_norm": "Batch normalisation",
    "_norm": "Other normalisations",
    "_layer_norm": "Other normalisations",
    "_attention": "Attention",
    "_transformer": "Transformers",
    "_recurrent": "Recurrent layers",
    "_embedding": "Embedding",
    "_dropout": "Dropout",
    "_loss": "Losses",
    "_margin_loss": "Losses of margins",
    "_resize": "Resizing",
    "_distance": "Norms and distances",
    "_load_images": "Images in their parts",
    "_source": "Pictures one after the other",
    "_item": "A picture of a source",
    "_dataset": "Datasets",
    "_cached": "Datasets",
    "_loader": "Batches",
    "_collate": "Samples put together",
    "_sampler": "Orders",
    "_split": "Parts",
    "_readable": "Pictures that cannot be read",
    "_classes": "Names of classes",
    "_presets": "Whole transforms",
    "_geometry": "Sizes, cuts, mirrors and turns",
    "_colour": "Colours",
    "_auto_augment": "Operations from a list",
    "_erasing": "Erasing",
    "_mix": "Mixed batches",
    "_values": "Numbers",
    "_compose": "Several transforms",
    "_base": "A transform of your own",
}
ORDER = {title: index for index, title in enumerate(TITLES.values())}


class PublicNames(SphinxDirective):
    """See the module."""

    required_arguments = 1
    option_spec: ClassVar = {
        "sections": directives.flag,
        "skip": directives.unchanged,
        "elsewhere": directives.unchanged,
        "only": directives.unchanged,
        "no-index": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Return the table and the entries."""
        module_name = self.arguments[0]
        self.env.note_reread()  # the docstrings are in other files than the page
        names = public_names(module_name)
        skip = self.options.get("skip", "").split()
        if unknown := [name for name in skip if name not in names]:
            raise self.error(f"public-names: {module_name} has no {', '.join(unknown)}")
        names = {name: value for name, value in names.items() if name not in skip}
        if "only" in self.options:
            names = {name: names[name] for name in self.options["only"].split()}
        lines = ["" if "no-index" in self.options else f".. py:module:: {module_name}", ""]
        if "sections" in self.options:
            sections: dict[str, dict[str, Any]] = {}
            for name, value in names.items():
                module = inspect.unwrap(value).__module__  # functions are exported wrapped
                home = module.rpartition(".")[2]
                if home not in TITLES:
                    raise self.error(f"public-names: no section title for {module}")
                sections.setdefault(TITLES[home], {})[name] = value
            for title in sorted(sections, key=ORDER.__getitem__):
                lines += [title, "-" * len(title), "", *self.entries(module_name, sections[title])]
        else:
            lines += self.entries(module_name, names)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)

    def entries(self, module_name: str, names: dict[str, Any]) -> list[str]:
        """Return the reStructuredText of a table and an entry for each name."""
        table = [
            ".. list-table::",
            "    :class: public-names",
            "    :widths: auto",
            "",
        ]
        bodies = []
        elsewhere = self.options.get("elsewhere", "").split()
        for name, value in names.items():
            full = f"{module_name}.{name}"
            is_class = inspect.isclass(value)
            role = "class" if is_class else "func"
            first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
            table += [f"    * - :py:{role}:`~{full}`", f"      - {first}"]
            if name in elsewhere:
                continue
            bodies += [f".. auto{'class' if is_class else 'function'}:: {full}"]
            if "no-index" in self.options:
                bodies += ["    :no-index:"]
            if is_class:
                bodies += ["    :members:", "    :show-inheritance:"]
            bodies += [""]
        return [*table, "", *bodies]


def name_aliases(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, signature: str, returns: str
) -> tuple[str | None, str | None]:
    """Write a type's alias by its name, where Sphinx puts its own object for it into a union."""
    alias = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
    return signature and alias.sub(r"\1", signature), returns and alias.sub(r"\1", returns)


def skip_metadata(
    app: Sphinx, kind: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what Python and scikit-learn add: fields of tuples, methods of estimators."""
    field = (inspect.getdoc(value) or "").startswith("Alias for field number")
    return True if field or re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("autodoc-skip-member", skip_metadata)
    return {"parallel_read_safe": True}
