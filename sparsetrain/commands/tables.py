"""The tables that `sparsetrain train` prints, at most 80 columns wide."""

from rich.table import Table

from sparsetrain import accel
from sparsetrain.experiments.records import EpochRecord, LayerRecord

EPOCH_LEGEND = (
    "The last step of each epoch. sparse: share of convolution calls that ran sparse; x: density "
    "of inputs; dy, pruned: density of gradients before and after pruning; Mcycles, mJ: cost "
    "of a step on the SparseTrain chip, each with the gain over its dense twin."
)
LAYER_LEGEND = "sparse: the passes that ran sparse (y: forward, dx and dw: the two gradients)."
STEP_LEGEND = "this CPU: measured, the whole step; chips: modeled, convolutions only."

_EPOCH_COLUMNS = (  # heading, width
    *(("epoch", 5), ("sparse", 6), ("loss", 5), ("test", 6), ("x", 5), ("dy", 5)),
    *(("pruned", 6), ("s/step", 6), ("Mcycles", 7), ("gain", 5), ("mJ", 6), ("gain", 5)),
)


def epoch_header() -> Table:
    """The headings of `epoch_row`. `EPOCH_LEGEND` explains them."""
    return _epoch_table(show_header=True)


def epoch_row(record: EpochRecord, sparse_share: float) -> Table:
    """One epoch as a table of one row, aligned with `epoch_header`."""
    table = _epoch_table(show_header=False)
    table.add_row(
        str(record.epoch),
        f"{sparse_share:.0%}",
        f"{record.train_loss:.3f}",
        f"{record.test_accuracy:.1%}",
        f"{record.input_density:.3f}",
        f"{record.grad_density_unpruned:.3f}",
        f"{record.grad_density:.3f}",
        f"{record.step_seconds:.3f}",
        f"{record.cycles / 1e6:.2f}",
        _gain(record.dense_cycles, record.cycles),
        f"{record.energy_pj / 1e9:.2f}",
        _gain(record.dense_energy_pj, record.energy_pj),
    )
    return table


def layer_table(layers: list[LayerRecord]) -> Table:
    """One row for each convolution of the last recorded step. `LAYER_LEGEND` explains them."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    table.add_column("prunes", no_wrap=True)
    for heading in ("x", "dy", "pruned"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sparse", no_wrap=True)
    for heading in ("Mcycles", "gain", "mJ", "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        passes = {"y": layer.forward, "dx": layer.grad_input, "dw": layer.grad_weight}
        table.add_row(
            layer.name,
            layer.placement,
            f"{layer.input_density:.3f}",
            f"{layer.grad_density_unpruned:.3f}",
            f"{layer.grad_density:.3f}",
            " ".join(name for name, backend in passes.items() if backend == "sparse") or "-",
            f"{layer.cycles / 1e6:.3f}",
            _gain(layer.dense_cycles, layer.cycles),
            f"{layer.energy_pj / 1e9:.3f}",
            _gain(layer.dense_energy_pj, layer.energy_pj),
        )
    return table


def step_table(record: EpochRecord, threads: int) -> Table:
    """One step on this CPU, on the chip and on its dense twin. `STEP_LEGEND` explains it."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("one training step on", no_wrap=True)
    for heading in ("ms", "mJ"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(f"this CPU, threads: {threads}", f"{record.step_seconds * 1e3:.2f}", "-")
    for name, chip, cycles, energy in (
        ("the SparseTrain chip", accel.sparsetrain168, record.cycles, record.energy_pj),
        ("its dense twin", accel.dense_twin168, record.dense_cycles, record.dense_energy_pj),
    ):
        table.add_row(name, f"{cycles / chip.clock_mhz / 1e3:.2f}", f"{energy / 1e9:.2f}")
    return table


def _epoch_table(show_header: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=show_header)
    for heading, width in _EPOCH_COLUMNS:
        table.add_column(heading, width=width, justify="right", no_wrap=True)
    return table


def _gain(dense: float, sparse: float) -> str:
    """The factor by which the chip needs less than its dense twin."""
    return f"{dense / sparse:.2f}x"
