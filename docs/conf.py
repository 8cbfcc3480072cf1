"""Sphinx: furo, Markdown through myst, the API from docstrings."""

from importlib.metadata import version as installed

project = "remem"
author = "The remem authors"
copyright = "2026, The remem authors"
version = release = installed("remem")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_typehints = "none"  # the signature and the docstring say it already
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"remem {release}"
nitpicky = False
