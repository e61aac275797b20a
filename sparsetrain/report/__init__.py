"""`sparsetrain report`: the results of runs as one self-contained page."""

from sparsetrain.report.page import check_installed, write

__all__ = ["check_installed", "write"]
