"""Training runs, sweeps and their reports: what the commands `train`, `sweep` and `report` run."""
