"""sparsetrain.accel.chips: chips and price tables are values, and bad ones are refused."""

import pytest

from sparsetrain import accel


def test_a_changed_chip_is_another_immutable_value():
    chip = accel.chip(pe_groups=28)
    assert chip.pe_groups == 28
    assert accel.sparsetrain168.pe_groups != 28
    assert chip != accel.sparsetrain168
    assert accel.chip() == accel.sparsetrain168
    assert chip.pes == 28 * chip.pes_per_group
    assert "pe_groups=28" in chip.name
    with pytest.raises(AttributeError):
        chip.pe_groups = 1
    assert accel.dense_twin(accel.sparsetrain168) == accel.dense_twin168
    assert not accel.dense_twin(chip).skips_zeros


def test_named_chips_and_prices_are_found_by_their_name():
    assert all(accel.chip(name) is chip and chip.name == name for name, chip in accel.CHIPS.items())
    assert all(accel.prices(name) is t and t.name == name for name, t in accel.PRICES.items())
    assert accel.prices(accel.PRICES["eyeriss_ratios"]) is accel.PRICES["eyeriss_ratios"]


def free(**prices):
    """A price table in which everything but the given prices is free."""
    names = ("mac_pj", "register_pj", "buffer_read_pj", "buffer_write_pj", "dram_pj")
    return accel.Prices(**{**dict.fromkeys(names, 0.0), **prices})


REFUSED = {
    "pe_groups to be in": lambda: accel.chip(pe_groups=0),
    "did you mean 'pe_groups'": lambda: accel.chip(pe_group=3),
    "did you mean 'sparsetrain168'": lambda: accel.chip("sparstrain168"),
    "did you mean 'eyeriss_ratios'": lambda: accel.prices("eyeris"),
    "mac_pj to be finite": lambda: free(mac_pj=-1.0),
    "dram_pj to be finite": lambda: free(dram_pj=float("nan")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_chips_and_prices_are_refused_in_one_sentence(message):
    with pytest.raises(ValueError, match=message) as error:
        REFUSED[message]()
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)


def test_an_unknown_number_of_a_config_is_named():
    with pytest.raises(TypeError, match="expected numbers of a chip, got 'pe_group'"):
        accel.Config(pe_group=3)
