"""Validates what commands and benchmarks write with the models of sparsetrain.experiments.formats.

Used by tests of the commands, of the benchmarks and of `make bench-gpu`.
"""

import csv
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def validated(model: type[BaseModel], content: Any) -> Any:
    """`content`, which must have the fields of `model`, no others, and their types and bounds."""
    model.model_validate(content)
    return content


def read_valid_json(model: type[BaseModel], path: Path) -> Any:
    """The content of a JSON file, which must be valid."""
    return validated(model, json.loads(path.read_text()))


def read_valid_csv(model: type[BaseModel], path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file, which must be objects of `model` with numbers as text."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        model.model_validate(line, strict=False)
    return lines


def field_names(model: type[BaseModel]) -> list[str]:
    """The names of the fields in a file, in the order of their declaration."""
    return [info.alias or name for name, info in model.model_fields.items()]
