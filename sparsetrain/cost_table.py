"""costs and set_costs: the table of predicted times from which backend "auto" chooses."""

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
    """Returns a copy of the table of costs that backend ``"auto"`` uses, in nanoseconds per unit.

    Costs of the processor come with the package; ``sparsetrain tune`` measures those of a machine.
    None come for GPUs, so that ``"auto"`` is dense on CUDA until they are measured.

    Returns:
        A dict of nested dicts, which ``set_costs`` accepts, with these entries:

        - ``"isa"``: the instruction set that the costs belong to, such as ``"avx2"``.
        - ``"float32"``, ``"bfloat16"``, ``"float16"``: ``{pass: {unit: ns}}``, in one thread. The
          passes are ``forward``, ``grad_input`` and ``grad_weight``. The units of the
          dense convolution are a multiply-add, an element and a call. Those of the sparse one are a
          vector multiply-add, a walk along a list, a listed element and a copied element
          (``csrc/choice/choose.h``).
        - ``"cuda"``: ``{capability: {precision: {pass: {unit: ns}}}}``. Capabilities are those of
          compute, such as ``"9.0"``; precisions are ``fp64``, ``fp32`` (without TF32), ``tf32``,
          ``bf16`` and ``fp16`` (units: ``csrc/choice/cuda_costs.h``).
    """
    cuda = {f"{number // 10}.{number % 10}": known for number, known in _C.cuda_costs().items()}
    return {"isa": _C.isa(), **_C.costs(), "cuda": cuda}


def set_costs(table: Mapping[str, Any] | str | Path | None) -> None:
    """Replaces the table of costs, for the whole process and all later calls.

    Costs decide which kernels run, and different kernels round differently. Set them before
    training and do not change them during a run.

    Args:
        table: A table that ``costs`` returned, the path of a file that ``sparsetrain tune`` wrote,
            or None for the table that comes with the package. The entry ``"cuda"`` may be missing
            and may hold any GPUs and precisions; ``"auto"`` is dense on CUDA for all others.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A number that is not finite or is negative, a missing or unknown entry, or costs
            of another instruction set than the one that runs here.

    Example:
        >>> sparsetrain.set_costs("costs.json")  # written by: sparsetrain tune costs.json
    """
    if isinstance(table, (str, Path)):
        table = _read(Path(table))
    if table is None:
        _C.set_costs(_C.shipped_costs())
        _C.set_cuda_costs({})
        return
    cpu, cuda = _checked_cpu(table), _checked_cuda(table.get("cuda", {}))
    _C.set_costs(cpu)
    _C.set_cuda_costs(cuda)


def adopt_costs(table: Mapping[str, Any] | Path) -> None:
    """Like ``set_costs``, but keeps the processor's costs if the table has another instruction set.

    Args:
        table: A table that ``costs`` returned, or the path of a file that ``sparsetrain tune``
            wrote.

    Raises:
        FileNotFoundError, ValueError: As for ``set_costs``.
    """
    table = _read(table) if isinstance(table, Path) else table
    current = costs()
    same_isa = table.get("isa") == current["isa"]
    set_costs(table if same_isa else {**current, "cuda": table.get("cuda", {})})


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(_message("table", "a file or a table", f"no file {path}")) from None
    except ValueError as error:
        raise ValueError(_message("table", "a file of JSON", f"{path} ({error})")) from error
    if not isinstance(content, dict) or not isinstance(content.get("costs"), dict):
        raise ValueError(_message("table", "a file that `tune` wrote", path))
    table: Mapping[str, Any] = content["costs"]
    return table


def _checked_cpu(table: Mapping[str, Any]) -> dict[str, Any]:
    wanted = _C.shipped_costs()
    _check_keys("table", ("isa", *wanted), {k: v for k, v in table.items() if k != "cuda"})
    if table["isa"] != _C.isa():
        raise ValueError(
            _message("the table's isa", f"{_C.isa()}, which runs here", table["isa"])
            + ". Run `python -m sparsetrain tune` again"
        )
    for storage, passes in wanted.items():
        _check_keys(storage, passes, table[storage])
        for name, units in passes.items():
            _check_costs(f"{storage}.{name}", units, table[storage][name])
    return {storage: table[storage] for storage in wanted}


def _checked_cuda(gpus: object) -> dict[int, Any]:
    """Checks the entry "cuda" and returns it with keys 10 * major + minor of the capability."""
    known = list(_C.Precision.__members__)
    passes = _C.shipped_costs()["float32"]
    if not isinstance(gpus, Mapping) or not all(re.fullmatch(ARCHITECTURE, str(g)) for g in gpus):
        raise ValueError(_message("cuda", "a dict by compute capability such as 9.0", _keys(gpus)))
    for gpu, precisions in gpus.items():
        where = f"cuda.{gpu}"
        if not isinstance(precisions, Mapping) or not {*precisions} <= {*known}:
            wanted = f"a dict with some of {', '.join(known)}"
            raise ValueError(_message(where, wanted, _keys(precisions)))
        for precision, units_by_pass in precisions.items():
            _check_keys(f"{where}.{precision}", passes, units_by_pass)
            for name, units in units_by_pass.items():
                _check_costs(f"{where}.{precision}.{name}", _C.CUDA_UNITS, units)
    return {int(gpu.replace(".", "")): precisions for gpu, precisions in gpus.items()}


def _check_costs(name: str, units: Iterable[str], got: Any) -> None:
    _check_keys(name, units, got)
    for unit in units:
        value = got[unit]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            wanted = "a finite number of at least 0"
            raise ValueError(_message(f"{name}.{unit}", wanted, repr(value)))


def _check_keys(name: str, wanted: Iterable[str], got: object) -> None:
    names = sorted(wanted)
    if not isinstance(got, Mapping) or sorted(map(str, got)) != names:
        raise ValueError(_message(name, f"a dict with {', '.join(names)}", _keys(got)))


def _keys(got: object) -> object:
    return sorted(map(str, got)) if isinstance(got, Mapping) else repr(got)


def _message(name: str, wanted: str, got: object) -> str:
    return f"sparsetrain.set_costs: expected {name} to be {wanted}, got {got}"
