"""Chips and price tables of a user, read from a TOML file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsetrain._checks import did_you_mean
from sparsetrain.accel.chips import CHIPS, PRICES, check_numbers, chip, prices
from sparsetrain.accel.core import Config, Prices

# Names of numbers in files of earlier versions.
_RENAMED = {"groups": "pe_groups"}
_PRICES = ("mac_pj", "register_pj", "buffer_read_pj", "buffer_write_pj", "dram_pj")


@dataclass(frozen=True)
class Catalog:
    """Chips and price tables by name: those that ship and those of a file.

    Attributes:
        chips: Chips by name.
        prices: Price tables by name.
    """

    chips: dict[str, Config]
    prices: dict[str, Prices]


def read_toml(path: Path | str) -> Catalog:
    """Reads chips and price tables from a TOML file.

    A file may define any number of chips and price tables::

        [chips.mine]             # numbers that are not given are those of `base`
        base = "sparsetrain168"
        pe_groups = 28
        [prices.mine]            # pJ for a 16-bit word; all five are required
        mac_pj = 0.5
        register_pj = 0.06
        buffer_read_pj = 0.7
        buffer_write_pj = 0.7
        dram_pj = 128

    Args:
        path: The file.

    Returns:
        The chips and price tables that ship, and those of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not TOML, or it has an unknown key or a number outside its range.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"sparsetrain.accel.read_toml: expected {path} to be a TOML file, got none"
        )
    try:
        content = tomllib.loads(Path(path).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"sparsetrain.accel.read_toml: expected {path} to be TOML, got: {error}"
        ) from error
    where = f"sparsetrain.accel.read_toml: {path}:"
    _known(where, content, ("chips", "prices"))
    chips, tables = dict(CHIPS), dict(PRICES)
    for name, numbers in content.get("chips", {}).items():
        chips[name] = _chip(f"{where} chips.{name}:", name, _table(where, name, numbers))
    for name, numbers in content.get("prices", {}).items():
        tables[name] = _prices(f"{where} prices.{name}:", name, _table(where, name, numbers))
    return Catalog(chips, tables)


def _table(where: str, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} expected {name!r} to be a table of numbers, got {value!r}")
    return dict(value)


def _known(where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(
                f"{where} expected known keys, got {key!r}; {did_you_mean(key, known)}"
            )


def _chip(where: str, name: str, numbers: dict[str, Any]) -> Config:
    base = chip(str(numbers.pop("base", "sparsetrain168")))
    for old, new in _RENAMED.items():
        if old in numbers and new in numbers:
            raise ValueError(f"{where} expected {new!r} alone, got also its old name {old!r}")
    numbers = {_RENAMED.get(key, key): value for key, value in numbers.items()}
    _known(where, numbers, ("base", *(key for key in base.as_dict() if key != "name")))
    check_numbers(where, base, numbers)
    return base.replace(name=name, **numbers)


def _prices(where: str, name: str, numbers: dict[str, Any]) -> Prices:
    _known(where, numbers, _PRICES)
    for key in _PRICES:
        value = numbers.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{where} expected {key} to be a number, got {value!r}")
    return Prices(name=name, **{key: float(numbers[key]) for key in _PRICES})


def find_chip(which: str) -> Config:
    """Returns a chip that ships or one of a TOML file.

    Args:
        which: A name in `CHIPS`, `file.toml` if the file has one chip, or `file.toml:name`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: An unknown name, or a file that `read_toml` refuses.
    """
    added = _from_file(which, "chips")
    return chip(which) if added is None else added


def find_prices(which: str) -> Prices:
    """Returns a price table that ships or one of a TOML file.

    Args:
        which: A name in `PRICES`, `file.toml` if the file has one table, or `file.toml:name`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: An unknown name, or a file that `read_toml` refuses.
    """
    added = _from_file(which, "prices")
    return prices(which) if added is None else added


def _from_file(which: str, kind: str) -> Any:
    path, _, name = which.partition(".toml")
    if path == which:
        return None
    values = getattr(read_toml(f"{path}.toml"), kind)
    shipped = CHIPS if kind == "chips" else PRICES
    added = [key for key in values if values[key] is not shipped.get(key)]
    name = name.removeprefix(":") or (added[0] if len(added) == 1 else "")
    if name not in values:
        raise ValueError(
            f"sparsetrain.accel.read_toml: expected {path}.toml to be followed by the name of one "
            f"of its {kind} ({', '.join(added) or 'none'}), like {path}.toml:name, got {which!r}"
        )
    return values[name]
