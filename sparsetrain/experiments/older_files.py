"""Reads result files and checkpoints of earlier versions: gives their fields today's names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OLD_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "run": {"history": "density_log", "records": "epochs"},
        "records": {"rule": "reason", "grad_density_before": "grad_density_unpruned"},
        "parts": {"normalise": "normalize"},
    }
)
"""Today's name of each renamed field by its old one: of a run's results or checkpoint (`run`), of
the records in its lists `epochs`, `layers` and `density_log` (`records`), and of `parts`."""


def with_current_names(content: dict[str, Any]) -> dict[str, Any]:
    """A copy of a run's results or of a checkpoint in which every field has its current name.

    Content of the current version comes back equal. What has another type than its field should
    have is kept: the caller checks types afterwards.
    """
    content = _renamed(content, OLD_NAMES["run"])
    for key in ("epochs", "layers", "density_log"):
        if isinstance(content.get(key), list):
            content[key] = [_renamed(record, OLD_NAMES["records"]) for record in content[key]]
    if "parts" in content:
        content["parts"] = _renamed(content["parts"], OLD_NAMES["parts"])
    return content


def _renamed(record: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(record, dict):
        return record
    return {names.get(key, key): value for key, value in record.items()}
