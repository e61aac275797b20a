"""sparsetrain.accel.toml: a user's chips and price tables, and the files that are refused."""

import pytest

from sparsetrain import accel

FILE = """
[chips.half]
base = "sparsetrain168"
pe_groups = 28
[prices.free_dram]
mac_pj = 1
register_pj = 1.0
buffer_read_pj = 6.0
buffer_write_pj = 6.0
dram_pj = 0
"""


def test_a_file_adds_chips_and_prices(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    half = accel.find_chip(str(path))
    assert half == accel.chip("sparsetrain168", name="half", pe_groups=28)
    assert accel.find_chip(f"{path}:half") == half
    free = accel.find_prices(str(path))
    assert (free.name, free.dram_pj) == ("free_dram", 0)
    assert accel.find_prices(f"{path}:eyeriss_ratios") == accel.PRICES["eyeriss_ratios"]
    path.write_text(FILE + "[chips.third]\npe_groups = 19")
    with pytest.raises(ValueError, match=r"one of its chips \(half, third\), like .*:name, got"):
        accel.find_chip(str(path))


def test_numbers_under_the_names_of_earlier_versions_are_read(tmp_path):
    """`pe_groups` was `groups`."""
    path = tmp_path / "old.toml"
    path.write_text("[chips.old]\ngroups = 28")
    assert accel.find_chip(str(path)) == accel.chip(name="old", pe_groups=28)


REFUSED = {
    "[chip.half]": "did you mean 'chips'",
    "[chips.half]\nport_bytes = 4": "did you mean 'port_bytes_per_cycle'",
    "[chips.half]\npe_groups = 0": "pe_groups to be in",
    "[chips.half]\npe_groups = 14\ngroups = 28": "'pe_groups' alone, got also .* 'groups'",
    "[chips.half]\npe_groups = 1.5": "pe_groups to be a whole number",
    "[chips.half]\nbase = 'x'": "to be a known name",
    "chips.half = 3": "to be a table",
    "[prices.p]\nmac = 1": "did you mean 'mac_pj'",
    "[prices.p]\nmac_pj = 1": "expected register_pj to be a number",
    "[chips.half]\npe_groups = 9999999999999999999": "pe_groups to be a whole number below 2",
    "[chips.half]\nname = 'other'": "got 'name'",
    "[chips.half]\nskips_zeros = 1": "skips_zeros to be true or false",
    "[chips.half": "to be TOML",
    "[prices.p]\n": "expected mac_pj",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_with_an_error_is_refused(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=REFUSED[text]) as error:
        accel.read_toml(path)
    assert "\n" not in str(error.value) or "TOML" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.toml to be a TOML file, got none"):
        accel.read_toml(tmp_path / "no.toml")
