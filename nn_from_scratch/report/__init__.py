"""Reports: one document model, written as Markdown and as one self-contained HTML page. Nothing here imports torch."""

from nn_from_scratch.report.document import (
    Block,
    Cell,
    Code,
    Commands,
    Conclusion,
    Details,
    Document,
    Figure,
    Section,
    Table,
    Text,
)
from nn_from_scratch.report.rendering import to_html, to_markdown
from nn_from_scratch.report.results_file import envelope, environment, publish, read_results, store

__all__ = [
    "Block",
    "Cell",
    "Code",
    "Commands",
    "Conclusion",
    "Details",
    "Document",
    "Figure",
    "Section",
    "Table",
    "Text",
    "envelope",
    "environment",
    "publish",
    "read_results",
    "store",
    "to_html",
    "to_markdown",
]
