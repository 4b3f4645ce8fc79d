"""Reports: one document model, written as Markdown and as one self-contained HTML page. Nothing here imports torch."""

from nn_from_scratch.report.document import (
    Block,
    Cell,
    Code,
    Commands,
    Details,
    Document,
    Figure,
    Section,
    Table,
    Text,
    Verdict,
)
from nn_from_scratch.report.environment import environment
from nn_from_scratch.report.html import to_html
from nn_from_scratch.report.markdown import to_markdown
from nn_from_scratch.report.publish import publish
from nn_from_scratch.report.results import envelope, read_results

__all__ = [
    "Block",
    "Cell",
    "Code",
    "Commands",
    "Details",
    "Document",
    "Figure",
    "Section",
    "Table",
    "Text",
    "Verdict",
    "envelope",
    "environment",
    "publish",
    "read_results",
    "to_html",
    "to_markdown",
]
