"""costs and set_costs: the read-only table of time costs by which `auto` chooses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsetrain import _C

CostTable = dict[str, Any]


def costs() -> CostTable:
    """The table in force: {"isa": name, storage: {pass: {unit: nanoseconds}}}.

    Storages are float32, bfloat16 and float16, passes forward, grad_input and grad_weight, units
    those of csrc/kernels/choose.h: what one thread takes for a dense multiply-add, element or call,
    for a sparse vector multiply-add, a walk along a list, a listed element, a copied element.
    """
    return {"isa": _C.isa(), **_C.costs()}


def set_costs(table: Mapping[str, Any] | str | Path | None) -> None:
    """Replaces the whole table: by one that costs() returned, by the file that
    `python -m sparsetrain tune` wrote, or with None by the one that ships.

    For the whole process and every later call. Only `auto` reads it: it changes which kernels run,
    so set it before training and leave it. Raises FileNotFoundError for no such file, ValueError
    for a number that is not finite and at least 0, for missing or unknown entries, and for costs of
    another instruction set.
    """
    if isinstance(table, (str, Path)):
        table = _read(Path(table))
    if table is None:
        _C.set_costs(_C.shipped_costs())
        return
    _C.set_costs(_checked(table))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            _sentence("table", "a file or a table", f"no file {path}")
        ) from None
    except ValueError as error:
        raise ValueError(_sentence("table", "a file of JSON", f"{path} ({error})")) from error
    if not isinstance(content, dict) or not isinstance(content.get("costs"), dict):
        raise ValueError(_sentence("table", "a file that `tune` wrote", path))
    table: Mapping[str, Any] = content["costs"]
    return table


def _checked(table: Mapping[str, Any]) -> dict[str, Any]:
    wanted = _C.shipped_costs()
    _expect_keys("table", {"isa": None, **wanted}, table)
    if table["isa"] != _C.isa():
        raise ValueError(
            _sentence("the table's isa", f"{_C.isa()}, which runs here", table["isa"])
            + ". Run `python -m sparsetrain tune` again"
        )
    for storage, passes in wanted.items():
        _expect_keys(storage, passes, table[storage])
        for name, units in passes.items():
            _expect_keys(f"{storage}.{name}", units, table[storage][name])
            for unit in units:
                value = table[storage][name][unit]
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number or not math.isfinite(value) or value < 0:
                    what = f"{storage}.{name}.{unit}"
                    raise ValueError(_sentence(what, "a finite number of at least 0", repr(value)))
    return {storage: table[storage] for storage in wanted}


def _expect_keys(what: str, wanted: Mapping[str, Any], got: object) -> None:
    names = sorted(wanted)
    if not isinstance(got, Mapping) or sorted(map(str, got)) != names:
        shown = sorted(map(str, got)) if isinstance(got, Mapping) else repr(got)
        raise ValueError(_sentence(what, f"a dict with {', '.join(names)}", shown))


def _sentence(what: str, wanted: str, got: object) -> str:
    return f"sparsetrain.set_costs: expected {what} to be {wanted}, got {got}"
