"""sparsetrain.accel.chips: chips and price tables are values, and bad ones are refused."""

import pytest

from sparsetrain import accel
from sparsetrain.accel.core import named_chips, named_prices


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


def step(N=2, C=32, H=8, W=8, K=32, R=3, S=3):
    """A step of one layer with realistic densities."""
    densities = {"x_density": 0.4, "mask_density": 0.4, "dy_density": 0.2}
    return accel.Workload((accel.Layer("a", N, C, H, W, K, R, S, padding=(1, 1), **densities),))


@pytest.mark.parametrize("name", accel.CHIPS)
def test_every_chip_that_ships_simulates_a_step_as_the_closed_form_estimates_it(name):
    chip = accel.CHIPS[name]
    simulated, estimated = accel.simulate(step(), chip), accel.estimate(step(), chip)
    assert simulated.cycles == pytest.approx(estimated.cycles, rel=0.1)
    for report in (simulated, estimated):
        assert report.cycles >= max(accel.limits(report.total, chip).values())
    if chip.skips_zeros:
        assert accel.compare(step(), chip).speedup > 1
    else:
        assert accel.compare(step(), chip).speedup == 1


def test_chips_and_price_tables_that_ship_have_different_names_and_numbers():
    for values in (named_chips(), named_prices()):
        assert len({value.name for value in values}) == len(values)
    chips = [tuple(chip.replace(name="").as_dict().items()) for chip in named_chips()]
    assert len(set(chips)) == len(chips)


@pytest.mark.parametrize("name", accel.PRICES)
def test_a_memory_farther_from_the_multiplier_costs_no_less(name):
    table = accel.PRICES[name]
    assert table.mac_pj > 0
    for buffer_pj in (table.buffer_read_pj, table.buffer_write_pj):
        assert 0 < table.register_pj <= buffer_pj <= table.dram_pj


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
