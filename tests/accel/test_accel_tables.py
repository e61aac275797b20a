"""sparsetrain.accel.tables: rows sum to the total, and the limit that binds is named."""

import pytest
from torch import nn

from sparsetrain import accel


def compared(chip=accel.sparsetrain168):
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
    return accel.compare(accel.workload(model, (3, 8, 8), 2, dy_density=0.3), chip)


@pytest.mark.parametrize("prices", accel.PRICES)
def test_rows_sum_to_the_total_and_parts_to_the_energy(prices):
    comparison = compared()
    rows, total = accel.layer_rows(comparison, prices), accel.total(comparison, prices)
    for key in ("macs", "dense_macs", "cycles", "dense_cycles"):
        assert total[key] == sum(row[key] for row in rows)
    for key in ("energy_pj", "dense_energy_pj"):
        assert total[key] == pytest.approx(sum(row[key] for row in rows))
    for row in rows:
        parts = [row[key] for key in ("mac_pj", "register_pj", "buffer_pj", "dram_pj")]
        assert row["energy_pj"] == pytest.approx(sum(parts))
    (gain,) = (gain for gain in accel.gains(comparison) if gain["prices"] == prices)
    assert gain["energy_gain"] == total["energy_gain"]
    assert gain["energy_gain_chip"] == total["energy_gain_chip"]


def test_passes_that_do_not_run_have_no_row():
    """The first layer needs no gradient of its input."""
    rows = [(row["name"], row["pass"]) for row in accel.layer_rows(compared(), "eyeriss_ratios")]
    expected = [("0", "forward"), ("0", "grad_weight"), *(("2", name) for name in accel.PASSES)]
    assert rows == expected


@pytest.mark.parametrize(
    ("slow", "bound"),
    [
        ({"pe_groups": 1, "pes_per_group": 1, "row_start_cycles": 50}, "multiplier"),
        ({"port_bytes_per_cycle": 1}, "port"),
        ({"dram_bytes_per_cycle": 1, "pe_groups": 1000}, "DRAM"),
        (
            {
                "port_bytes_per_cycle": 1000,
                "dram_bytes_per_cycle": 1000,
                "pes_per_group": 64,
                "row_start_cycles": 0,
            },
            "drain",
        ),
    ],
)
def test_the_slowest_part_is_the_bound(slow, bound):
    chip = accel.chip(**slow)
    for layer in compared(chip).report.layers:
        assert accel.bound(layer.forward, chip) == bound
        for part, cycles in accel.limits(layer.forward, chip).items():
            assert cycles <= layer.forward.cycles + 1, part


def test_utilization_is_the_share_of_cycles_that_multiply():
    chip = accel.sparsetrain168
    for layer in compared().report.layers:
        for _, counts in layer.passes:
            share = accel.utilization(counts, chip)
            assert share * counts.cycles * chip.pes == pytest.approx(counts.macs)
            assert 0 <= share <= 1
