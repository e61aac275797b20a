"""`python -m sparsetrain.experiments.formats`: prints docs/formats.md."""

import sys

from sparsetrain.experiments.formats.catalog import FORMATS, old_names
from sparsetrain.experiments.formats.page import render

sys.stdout.write(render(FORMATS, old_names()))
