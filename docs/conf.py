"""Sphinx: furo, Markdown through myst, the API from docstrings."""

import re
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


BULLETS = ("- ", "* ")
ATTRIBUTE = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")


def plain_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written for people; reStructuredText is told what they mean.

    A list needs no blank line above it, lines `name: what it is` of a class are a list, a line goes on from the
    one before it however it is indented, and |x| is no substitution.
    """
    out: list[str] = []
    column, in_list = 0, False  # where the text of the line before begins, and whether it belongs to a list
    for line in lines:
        text = line.strip().replace("|", r"\|")
        before = out[-1].lstrip() if out else ""
        indent = len(line) - len(line.lstrip())
        if what == "class" and indent == 0 and ATTRIBUTE.match(text):
            text = f"- {text}"
        starts_list = text.startswith(BULLETS)
        if starts_list and before and not before.startswith(BULLETS) and indent <= column:
            out.append("")
        goes_on = (
            before and not starts_list and not before.startswith((":", "..")) and not text.startswith(":")
        )
        in_list = starts_list or bool(in_list and goes_on)
        if goes_on and (in_list or indent > column):
            indent = column
        out.append(" " * indent + text if text else "")
        column = indent + 2 * starts_list
    lines[:] = out


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", plain_text)
