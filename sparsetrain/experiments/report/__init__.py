"""`sparsetrain report`: the results of runs as one self-contained page, or as a table."""

from sparsetrain.experiments.report.markdown import table
from sparsetrain.experiments.report.page import check_installed, write

__all__ = ["check_installed", "table", "write"]
