"""The named chips and price tables, and how to make others of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sparsetrain._checks import did_you_mean
from sparsetrain.accel.core import Config, Prices, named_chips, named_prices

CHIPS: Mapping[str, Config] = MappingProxyType({chip.name: chip for chip in named_chips()})
PRICES: Mapping[str, Prices] = MappingProxyType({table.name: table for table in named_prices()})

sparsetrain168: Config = CHIPS["sparsetrain168"]
dense_twin168: Config = CHIPS["dense_twin168"]
DEFAULT_PRICES: Prices = next(iter(PRICES.values()))


def chip(which: str | Config = "sparsetrain168", **changes: Any) -> Config:
    """A named chip (or the Config given), with some of its numbers changed.

    Raises:
        ValueError: unknown chip name, unknown number (the nearest known one is named), or a number
            that no chip can have.
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
    """Raises ValueError that begins with `where` unless `base` has such numbers, of such types."""
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
    """A price table by name (a Prices value passes through).

    Raises:
        ValueError: unknown name.
    """
    if not isinstance(which, str):
        return which
    if which not in PRICES:
        raise ValueError(
            f"sparsetrain.accel.prices: expected prices to be a known table, got {which!r}; "
            + did_you_mean(which, PRICES)
        )
    return PRICES[which]
