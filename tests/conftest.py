"""Settings of every test: the same generated cases on every run, one thread unless a test asks."""

import torch
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")
torch.set_num_threads(1)  # several test processes share the cores
