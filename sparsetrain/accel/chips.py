"""The chips and price tables that ship, by name, and copies of them with changed numbers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sparsetrain._checks import did_you_mean
from sparsetrain.accel.core import Config, Prices, named_chips, named_prices

CHIPS: Mapping[str, Config] = MappingProxyType({chip.name: chip for chip in named_chips()})
"""The chips that ship, by name; `csrc/accel/config.h` has the source of every number."""

PRICES: Mapping[str, Prices] = MappingProxyType({table.name: table for table in named_prices()})
"""The price tables that ship, by name; `csrc/accel/report.cpp` has their sources."""

sparsetrain168: Config = CHIPS["sparsetrain168"]
"""The chip of the paper with 168 PEs, as far as it can be reconstructed. The default chip."""

dense_twin168: Config = CHIPS["dense_twin168"]
"""The dense twin of `sparsetrain168`: equal numbers without zero skipping."""

DEFAULT_PRICES: Prices = next(iter(PRICES.values()))


def chip(which: str | Config = "sparsetrain168", **changes: Any) -> Config:
    """Returns a chip, optionally with some of its numbers changed.

    Args:
        which: The name of a chip in `CHIPS`, or a `Config`.
        **changes: Numbers of `Config` by name, such as `pe_groups=28`. The name of the changed chip
            lists them unless `name` is given.

    Raises:
        ValueError: An unknown chip, an unknown number, or a number outside its range.
    """
    if isinstance(which, str):
        if which not in CHIPS:
            raise ValueError(
                f"sparsetrain.accel.chip: expected the chip to be a known name, got {which!r}; "
                + did_you_mean(which, CHIPS)
            )
        which = CHIPS[which]
    check_numbers("sparsetrain.accel.chip:", which, changes)
    if changes and "name" not in changes:
        changed = ", ".join(f"{key}={value}" for key, value in changes.items())
        changes["name"] = f"{which.name} with {changed}"
    return which.replace(**changes) if changes else which


def check_numbers(where: str, base: Config, changes: Mapping[str, Any]) -> None:
    """Raises ValueError unless `changes` has numbers of `base` by name, with their types.

    Args:
        where: The beginning of the message.
        base: The chip whose numbers are known.
        changes: The numbers to check, by name.
    """
    known = base.as_dict()
    for key, value in changes.items():
        if key not in known:
            raise ValueError(
                f"{where} expected numbers of a chip, got {key!r}; " + did_you_mean(key, known)
            )
        kind = type(known[key])
        fits = type(value) is kind and not (kind is int and abs(value) >= 2**63)
        if not fits:
            kinds = {int: "a whole number below 2^63", bool: "true or false", str: "text"}
            raise ValueError(f"{where} expected {key} to be {kinds[kind]}, got {value!r}")


def prices(which: str | Prices = "aladdin_cacti32_14nm") -> Prices:
    """Returns a price table.

    Args:
        which: The name of a table in `PRICES`, or a `Prices` value, which is returned.

    Raises:
        ValueError: An unknown name.
    """
    if not isinstance(which, str):
        return which
    if which not in PRICES:
        raise ValueError(
            f"sparsetrain.accel.prices: expected prices to be a known table, got {which!r}; "
            + did_you_mean(which, PRICES)
        )
    return PRICES[which]
