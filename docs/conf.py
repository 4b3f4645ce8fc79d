"""How Sphinx builds the site: `tox -e docs`, or `sphinx-build -W docs docs/_build`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import nn_from_scratch

sys.path.insert(0, str(Path(__file__).parent.parent))

logger = logging.getLogger(__name__)

project = "nn_from_scratch"
author = "the authors of nn_from_scratch"
project_copyright = author
version = release = nn_from_scratch.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Single quotes of code in the docstrings are code, as in Markdown.
default_role = "code"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Each attribute in the list of its class, instead of a second time beside it.
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"nn_from_scratch {release}"
html_show_sphinx = False
# No font, script or picture comes from another host: the site works from a folder, without a network.
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}


class CommandHelp(SphinxDirective):
    """Writes a section for each command of the command line: what its `--help` says."""

    def run(self) -> list[nodes.Node]:
        """Give the sections."""
        from nn_from_scratch.cli import COMMANDS, command_help

        found: list[nodes.Node] = []
        for name in COMMANDS:
            section = nodes.section(ids=[f"nn-from-scratch-{name}"])
            section += nodes.title(text=name)
            section += nodes.literal_block(text=command_help(name), language="text")
            found.append(section)
        return found


def escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Let |x| be an absolute value in a docstring, and not a substitution of reStructuredText."""
    for place, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[place] = "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def leave_out_missing(app: Sphinx, page: str, source: list[str]) -> None:
    """Drop the entries of a table of contents that end in `*` and match no page: those that are there are used."""

    def kept(line: re.Match[str]) -> str:
        return line[0] if any(Path(app.srcdir).glob(f"{line[1]}.md")) else ""

    source[0] = re.sub(r"^([a-z/]+\*)\n", kept, source[0], flags=re.MULTILINE)


def check_links(app: Sphinx, error: Exception | None) -> None:
    """Warn of each link of the finished site that leads nowhere; `-W` makes errors of them."""
    from docs.site_links import broken_links

    if error is None and app.builder.name == "html":
        for link in broken_links(Path(app.outdir)):
            logger.warning("a link leads nowhere: %s", link)


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.connect("build-finished", check_links)
    app.add_directive("command-help", CommandHelp)
    app.connect("source-read", leave_out_missing)
    app.connect("autodoc-process-docstring", escape_bars, priority=100)
