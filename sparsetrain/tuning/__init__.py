"""Fits the cost table behind `backend="auto"` to the processor or GPU at hand."""
