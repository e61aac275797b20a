"""Reads result files and checkpoints of earlier versions: gives their fields today's names."""

from typing import Any

_TOP = {"history": "density_log", "records": "epochs"}
_RECORD = {"rule": "reason", "grad_density_before": "grad_density_unpruned"}
_PARTS = {"normalise": "normalize"}


def with_current_names(content: dict[str, Any]) -> dict[str, Any]:
    """A copy of a run's results or of a checkpoint in which every field has its current name.

    Content of the current version comes back equal. What has another type than its field should
    have is kept: the caller checks types afterwards.
    """
    content = _renamed(content, _TOP)
    for key in ("epochs", "layers", "density_log"):
        if isinstance(content.get(key), list):
            content[key] = [_renamed(record, _RECORD) for record in content[key]]
    if "parts" in content:
        content["parts"] = _renamed(content["parts"], _PARTS)
    return content


def _renamed(record: Any, names: dict[str, str]) -> Any:
    if not isinstance(record, dict):
        return record
    return {names.get(key, key): value for key, value in record.items()}
