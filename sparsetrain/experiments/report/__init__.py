"""The results of runs as one self-contained HTML page or as a table, for `sparsetrain report`."""

from sparsetrain.experiments.report.markdown import table
from sparsetrain.experiments.report.page import check_installed, write

__all__ = ["check_installed", "table", "write"]
