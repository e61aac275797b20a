"""Fits the cost table of `backend="auto"` to a processor or a GPU; `sparsetrain tune` uses it."""
