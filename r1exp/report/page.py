"""Renders a document as one HTML file that needs no network: styles, script, uPlot and data are inside. Torch-free.

Texts of models and of users can hold anything, also `</script>`. Jinja2 escapes everything that it writes; the data are JSON in which `<`, `>` and
`&` are written as escapes, and the page's script sets texts, never markup.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from r1exp.report.collect import Document
from r1exp.report.numbers import Code, Interval, Number

PAGE = Path(__file__).parent / "page"  # the template, its styles and script, and uPlot with its license


def page_of(document: Document, live: str | None = None) -> str:
    """Return the HTML of a document.

    Args:
        document: What is shown.
        live: Of a page that `r1exp watch` serves: the signature of the files that it was made from, with which the page asks
            whether there is news.
    """
    parts = {name: Markup(text) for name, text in _inlined().items()}
    return _environment().get_template("page.html.j2").render(
        document=document, data=Markup(data_json(document.data)), live=live, **parts
    )  # fmt: skip


def data_json(value: Any) -> str:
    """Return JSON that can stand in a script element: nothing in it ends the element or begins another one."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _inlined() -> dict[str, str]:
    read = {
        "style": "page.css",
        "script": "page.js",
        "uplot_style": "uPlot.min.css",
        "uplot": "uPlot.iife.min.js",
        "uplot_license": "uPlot-LICENSE.txt",
    }
    return {name: (PAGE / file).read_text(encoding="utf-8") for name, file in read.items()}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "number": lambda cell: isinstance(cell, Number),
        "interval": lambda cell: isinstance(cell, Interval),
        "code": lambda cell: isinstance(cell, Code),
    }
    environment.filters["path"] = lambda number: json.dumps(number.path)
    return environment
