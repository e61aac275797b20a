"""costs and set_costs: the read-only table of time costs by which `auto` chooses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sparsetrain._native import _C
from sparsetrain.ops import ARCHITECTURE

CostTable = dict[str, Any]


def costs() -> CostTable:
    """The table in force: {"isa": name, storage: {pass: {unit: nanoseconds}}, "cuda":
    {architecture: {precision: {pass: {unit: nanoseconds}}}}}.

    Storages are float32, bfloat16 and float16, passes forward, grad_input and grad_weight, units
    those of csrc/kernels/choose.h: what one thread takes for a dense multiply-add, element or call,
    for a sparse vector multiply-add, a walk along a list, a listed element, a copied element.
    Architectures are compute capabilities of GPUs, "9.0" say, precisions fp64, fp32 (TF32 off),
    tf32, bf16 and fp16, units those of csrc/kernels/cuda_costs.h. None ship.
    """
    cuda = {f"{number // 10}.{number % 10}": known for number, known in _C.cuda_costs().items()}
    return {"isa": _C.isa(), **_C.costs(), "cuda": cuda}


def set_costs(table: Mapping[str, Any] | str | Path | None) -> None:
    """Replaces the whole table: by one that costs() returned, by the file that
    `python -m sparsetrain tune` wrote, or with None by the one that ships.

    For the whole process and every later call. Only `auto` reads it: it changes which kernels run,
    so set it before training and leave it. Raises FileNotFoundError for no such file, ValueError
    for a number that is not finite and at least 0, for missing or unknown entries, and for costs of
    another instruction set. A table may lack "cuda" and hold any GPUs and precisions there: where
    those that run are not among them, auto is dense on CUDA.
    """
    if isinstance(table, (str, Path)):
        table = _read(Path(table))
    if table is None:
        _C.set_costs(_C.shipped_costs())
        _C.set_cuda_costs({})
        return
    cpu, cuda = _checked(table), _checked_cuda(table.get("cuda", {}))
    _C.set_costs(cpu)
    _C.set_cuda_costs(cuda)


def adopt_costs(table: Mapping[str, Any] | Path) -> None:
    """set_costs, but of costs of another instruction set only those of GPUs are taken."""
    table = _read(table) if isinstance(table, Path) else table
    own = costs()
    set_costs(table if table.get("isa") == own["isa"] else {**own, "cuda": table.get("cuda", {})})


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
    _expect_keys("table", ("isa", *wanted), {k: v for k, v in table.items() if k != "cuda"})
    if table["isa"] != _C.isa():
        raise ValueError(
            _sentence("the table's isa", f"{_C.isa()}, which runs here", table["isa"])
            + ". Run `python -m sparsetrain tune` again"
        )
    for storage, passes in wanted.items():
        _expect_keys(storage, passes, table[storage])
        for name, units in passes.items():
            _expect_numbers(f"{storage}.{name}", units, table[storage][name])
    return {storage: table[storage] for storage in wanted}


def _checked_cuda(gpus: object) -> dict[int, Any]:
    """The table's "cuda", by 10 * major + minor."""
    known = list(_C.Precision.__members__)
    passes = _C.shipped_costs()["float32"]
    if not isinstance(gpus, Mapping) or not all(re.fullmatch(ARCHITECTURE, str(g)) for g in gpus):
        raise ValueError(_sentence("cuda", "a dict by compute capability such as 9.0", _keys(gpus)))
    for gpu, precisions in gpus.items():
        where = f"cuda.{gpu}"
        if not isinstance(precisions, Mapping) or not {*precisions} <= {*known}:
            wanted = f"a dict with some of {', '.join(known)}"
            raise ValueError(_sentence(where, wanted, _keys(precisions)))
        for precision, units_by_pass in precisions.items():
            _expect_keys(f"{where}.{precision}", passes, units_by_pass)
            for name, units in units_by_pass.items():
                _expect_numbers(f"{where}.{precision}.{name}", _C.CUDA_UNITS, units)
    return {int(gpu.replace(".", "")): precisions for gpu, precisions in gpus.items()}


def _expect_numbers(what: str, units: Iterable[str], got: Any) -> None:
    _expect_keys(what, units, got)
    for unit in units:
        value = got[unit]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            wanted = "a finite number of at least 0"
            raise ValueError(_sentence(f"{what}.{unit}", wanted, repr(value)))


def _expect_keys(what: str, wanted: Iterable[str], got: object) -> None:
    names = sorted(wanted)
    if not isinstance(got, Mapping) or sorted(map(str, got)) != names:
        raise ValueError(_sentence(what, f"a dict with {', '.join(names)}", _keys(got)))


def _keys(got: object) -> object:
    return sorted(map(str, got)) if isinstance(got, Mapping) else repr(got)


def _sentence(what: str, wanted: str, got: object) -> str:
    return f"sparsetrain.set_costs: expected {what} to be {wanted}, got {got}"
