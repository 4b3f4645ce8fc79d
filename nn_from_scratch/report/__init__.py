"""Reports: one document model, written as Markdown and as one self-contained HTML page. Nothing here imports torch."""

from nn_from_scratch.report.results_file import read_results as read_results
