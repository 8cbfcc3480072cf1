"""One self-contained html page of text, tables and figures, and the plain-text table printed beside it."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.7rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #d8dee4 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #eaeef2 }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #57606a }
img { max-width: 100% } p { max-width: 46rem } .wide { overflow-x: auto }
</style></head><body><h1>{{ title }}</h1>
{% for part in parts %}
{% if part.heading %}<h2>{{ part.heading }}</h2>{% endif %}
{% for line in part.text %}<p>{{ line }}</p>{% endfor %}
{% if part.rows %}<div class="wide"><table>
<tr>{% for name in part.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in part.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endif %}
{% if part.image %}<img alt="{{ part.heading }}" src="data:image/png;base64,{{ part.image }}">{% endif %}
{% endfor %}</body></html>
""",
    autoescape=True,
)


class Report:
    """Sections in the order they are added; `write` puts them into one file that needs nothing beside it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[dict[str, object]] = []

    def add(
        self,
        heading: str,
        *text: str,
        rows: Sequence[Mapping[str, object]] = (),
        figure: Figure | None = None,
    ) -> Report:
        """Append a section: paragraphs, then a table (one mapping a row), then a figure."""
        columns = table_columns(rows)
        cells = [[format_cell(row.get(name)) for name in columns] for row in rows]
        image = "" if figure is None else base64.b64encode(_png(figure)).decode()
        self._parts.append(
            {"heading": heading, "text": text, "columns": columns, "rows": cells, "image": image}
        )
        return self

    def extend(self, other: Report) -> Report:
        """Append all sections of `other`, under a line with its title."""
        self._parts.append({"heading": other.title, "text": (), "columns": [], "rows": [], "image": ""})
        self._parts.extend(other._parts)
        return self

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page (atomically) and return its path."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(_PAGE.render(title=self.title, parts=self._parts), encoding="utf-8")
        partial.replace(target)
        return target


def table_columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Column names in order of first appearance over all rows."""
    return list(dict.fromkeys(name for row in rows for name in row))


def format_cell(value: object) -> str:
    """Numbers as people read them: 3 significant digits below 10, none after the point above 100."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3f}"


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
    """The same table for a terminal: aligned, first column to the left, the others to the right."""
    if not rows:
        return ""
    columns = table_columns(rows)
    cells = [columns, *([format_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()
