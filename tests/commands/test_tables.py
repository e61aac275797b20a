"""The tables that `sparsetrain train` prints."""

from rich.console import Console

from sparsetrain.commands import tables
from sparsetrain.experiments.records import EpochRecord


def test_one_step_on_this_cpu_on_the_chip_and_on_its_twin():
    """At 800 MHz, 1,600,000 cycles are 2 ms and 4,000,000 are 5 ms; 10^9 pJ are 1 mJ."""
    record = EpochRecord(
        epoch=1, train_loss=1, test_accuracy=0.5, input_density=0.5, grad_density_unpruned=1,
        grad_density=0.2, step_seconds=0.0625, step_cpu_seconds=0.0625, cycles=1_600_000,
        dense_cycles=4_000_000, energy_pj=1.25e9, dense_energy_pj=3.5e9,
    )  # fmt: skip
    console = Console(width=80)
    with console.capture() as captured:
        console.print(tables.step_table(record, threads=3))
    rows = [line.split() for line in captured.get().splitlines()]
    assert [row[-2:] for row in rows] == [["ms", "mJ"], ["62.50", "-"], ["2.00", "1.25"],
                                          ["5.00", "3.50"]]  # fmt: skip
