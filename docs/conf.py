"""Sphinx: furo, Markdown through myst, the API from docstrings."""

from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "remem"
author = "The remem authors"
copyright = "2026, The remem authors"
version = release = installed("remem")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "code"

autodoc_typehints = "none"  # the signature and the docstring say it already
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"remem {release}"


def plain_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written for people: a list needs no blank line above it, and |x| is no substitution."""
    out: list[str] = []
    for line in lines:
        starts_list = line.lstrip().startswith("- ")
        if starts_list and out and out[-1].strip() and not out[-1].lstrip().startswith("- "):
            out.append("")
        out.append(line.replace("|", r"\|"))
    lines[:] = out


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", plain_text)
