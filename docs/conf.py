"""Sphinx configuration of the site that `scripts/docs` builds.

The theme contains all its files, so the site needs no network.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version as installed
from typing import Any

import sphinx.application
from airflow.providers.common.compat.sdk import BaseOperator
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import stringify_signature

project = "airflow-provider-hca"
author = "The airflow-provider-hca developers"
version = release = installed(project)
html_title = f"{project} {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"  # single backticks in docstrings: a link to a class of this package, otherwise code
add_module_names = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80
python_display_short_literal_types = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"  # literal blocks in docstrings are not programs
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = "$ "

_OURS = re.compile(r"\.?((?:DSS|Invalid|Upload|Download|Staging)\w+)(\.\w+)?")
# Classes for DAGs, and methods of the hook.
_LINKED = re.compile(
    r"airflow_provider_hca\.(?:(?:operators|sensors|triggers|hooks)\.dss\.(?:DSSHook\.)?\w+|client\.client\.DSSClient)$"
)


def _find_by_name(
    app: sphinx.application.Sphinx,
    env: BuildEnvironment,
    node: pending_xref,
    contnode: nodes.TextElement,
) -> nodes.reference | None:
    """Link a class of this package that a docstring names without its module."""
    match = _OURS.fullmatch(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or match is None:
        return None
    domain = env.domains.python_domain
    names = [name for name in domain.objects if name.endswith(f".{match[0].lstrip('.')}")]
    if len(names) != 1:
        return None
    entry = domain.objects[names[0]]
    reference = nodes.reference("", "", contnode, internal=True)
    reference["refuri"] = app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}"
    return reference


def _shown_signature(
    app: sphinx.application.Sphinx,  # noqa: ARG001 - Sphinx's signature
    what: str,
    name: str,  # noqa: ARG001 - Sphinx's signature
    documented: Any,
    options: Any,  # noqa: ARG001 - Sphinx's signature
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Show the parameters of an operator or sensor and of its base classes, without those that Airflow defines."""
    if what == "class" and inspect.isclass(documented) and issubclass(documented, BaseOperator):
        signature = stringify_signature(inspect.Signature(_parameters(documented)), show_annotation=False)
    return signature, returns


def _parameters(cls: type) -> list[inspect.Parameter]:
    """Return the parameters that the classes of this package accept, those without a default first."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("airflow_provider_hca.") and "__init__" in vars(base):
            inherited = inspect.signature(vars(base)["__init__"]).parameters
            found |= {name: parameter for name, parameter in inherited.items() if name not in found}
    own = [parameter for parameter in found.values() if parameter.kind is parameter.KEYWORD_ONLY]
    known = [parameter for parameter in own if parameter.name != "multiple_outputs"]
    return sorted(known, key=lambda parameter: parameter.default is not parameter.empty)


def _link_names(app: sphinx.application.Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link the name of a class of this package, or of a method of the hook, wherever a page has it as code."""
    objects = app.env.domains.python_domain.objects
    entries = {name: entry for name, entry in objects.items() if entry.objtype in {"class", "method"}}
    targets = {name.rpartition(".")[2]: entry for name, entry in entries.items() if _LINKED.match(name)}
    for literal in list(doctree.findall(nodes.literal)):
        entry = targets.get(literal.astext())
        if entry is None or entry.docname == docname or isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        uri = f"{app.builder.get_relative_uri(docname, entry.docname)}#{entry.node_id}"
        link = nodes.reference("", "", literal.deepcopy(), internal=True, refuri=uri)
        literal.replace_self(link)


def setup(app: sphinx.application.Sphinx) -> dict[str, Any]:
    """Register the functions of this file."""
    app.connect("missing-reference", _find_by_name)
    app.connect("autodoc-process-signature", _shown_signature)
    app.connect("doctree-resolved", _link_names)
    return {"parallel_read_safe": True}
