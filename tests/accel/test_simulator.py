"""The compiler and the simulator of csrc/accel: counts by hand, stepped machines, numpy, laws."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.accel_layers import effectual_multiplications, layers, traced, traced_layers
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsetrain import accel
from sparsetrain.accel.core import compile_program, dispatch, group_cycles

ONE_GROUP = accel.chip(pe_groups=1)


def cycles(layer, chip=ONE_GROUP):
    """Simulated cycles of forward, grad_input and grad_weight."""
    (report,) = accel.simulate(accel.Workload((layer,)), chip, threads=1).layers
    return report.forward.cycles, report.grad_input.cycles, report.grad_weight.cycles


def test_one_row_counted_by_hand():
    """1x1 kernel, x = [a,0,b,0], dy = [0,d,0,0]; a row has 2 bytes of header and 3 for a nonzero.

    Notation here and below: "10 B -> 2" are 10 bytes that have arrived after 2 cycles.

    Forward: DRAM loads 8 B of x and 2 B of w: 10 B -> 1. The port reads these 10 B -> 2. The row
    operation takes 1 cycle to start and 2 multiplications, and 4 outputs drain: 1 + 2 + 3 + 4 = 10.
    GTA: DRAM 5 + 1 (mask) + 2 = 8 B -> 1. Port 8 B -> 1. Start 1. The mask is 0 where dy is not, so
    there is no multiplication. Drain 4: 1 + 1 + 1 + 4 = 7.
    GTW: DRAM 8 + 5 = 13 B -> 1. Port 13 B -> 2. Start 1, no pair of nonzeros, drain 3 PEs x 1
    value: 1 + 2 + 1 + 3 = 7.
    """
    row = accel.Layer("row", 1, 1, 1, 4, 1, 1, 1)
    assert cycles(traced(row, [[[[1, 0, 1, 0]]]], [[[[0, 1, 0, 0]]]])) == (10, 7, 7)


def test_three_rows_counted_by_hand():
    """3x3 kernel, padding 1, three rows of x and dy; PE i gets the i-th kernel row in range.

    Forward: column 0 reaches 2 outputs, column 2 reaches 3: 5 multiplications, 6 cycles a row
    operation of 8 + 6 B. DRAM 24 + 18 B -> 3. Rows 0 and 2 of y: operands at 2 and 4, ends 8 and
    10, drain 4: 14. Row 1: operands at 2, 4, 6: 6 + 6 + 4 = 16. 3 + 14 + 16 + 14 = 47; on two
    groups rows 0 and 1 run together and row 2 follows row 0: 3 + 14 + 14 = 31.
    GTA: one nonzero of dy reaches columns 0, 1, 2, the mask keeps 0 and 2: 3 cycles, 5 + 6 B, mask
    1 B first. DRAM 15 + 3 + 18 B -> 3. Rows 0, 2: operands at 2, 3: 6 + 4 = 10; row 1: 2, 3, 5:
    8 + 4 = 12. 3 + 10 + 12 + 10 = 35.
    GTW: each PE has one kernel row. A pair of rows has two pairs of nonzeros: 3 cycles. A step
    streams the 5 B of dy once and 8 B for each row of x. Row 0 of y: 13, 8; row 1: 13, 8, 8; row 2:
    13, 8. They arrive at 2, 3 | 5, 6, 7 | 8, 9. The middle PE works from 2 to 5, from 6 to 9 and
    from 9 to 12. Drain 3 x 3: 3 + 12 + 9 = 24.
    """
    rows = accel.Layer("rows", 1, 1, 3, 4, 1, 3, 3, padding=(1, 1))
    layer = traced(rows, [[[[1, 0, 1, 0]] * 3]], [[[[0, 1, 0, 0]] * 3]])
    assert cycles(layer) == (47, 35, 24)
    assert cycles(layer, accel.chip(pe_groups=2))[0] == 31


def test_strides_of_two_directions_counted_by_hand():
    """1x2 kernel, stride (1, 2), x = [1,1,1,1,1]: the 2 columns of y use columns 0 to 3 of x.

    Forward: the fifth value is streamed and dropped: 4 multiplications. 2 + 15 + 4 = 21 B:
    DRAM 2, port 3, 1 + 4 cycles, drain 2: 12. GTA: dy dense, 8 B; mask 1 B first: 8 + 4 + 1 = 13 B:
    DRAM 1, port 2, 1 + 4, drain 5: 13. GTW: 17 + 8 = 25 B: DRAM 2, port 4, 1 + 4, drain 3 x 2: 17.
    """
    layer = accel.Layer("s", 1, 1, 1, 5, 1, 1, 2, stride=(1, 2))
    assert cycles(traced(layer, np.ones((1, 1, 1, 5)), np.ones((1, 1, 1, 2)))) == (12, 13, 17)


def test_dilation_counted_by_hand():
    """1x2 kernel, dilation 3, x = [1,1,0,1,0]: y columns 0, 1 see x columns 0, 3 and 1, 4.

    Forward: columns 0, 3 and 1 have one tap each: 3 multiplications. 11 + 4 = 15 B: DRAM 1, port
    2, 1 + 3, drain 2: 9. GTA, dy dense: of 4 products the mask keeps 3. 8 + 4 + 1 = 13 B:
    DRAM 1, port 2, 1 + 3, drain 5: 12. GTW: 11 + 8 = 19 B: DRAM 2, port 3, 1 + 3, drain 6: 15.
    """
    layer = accel.Layer("d", 1, 1, 1, 5, 1, 1, 2, dilation=(1, 3))
    assert cycles(traced(layer, [[[[1, 1, 0, 1, 0]]]], np.ones((1, 1, 1, 2)))) == (9, 12, 15)


def test_depthwise_counted_by_hand():
    """2 channels, 2 groups, 1x1 kernel, rows [1, 1] and [1, 0]: one task for each channel.

    Forward: DRAM 8 + 5 + 4 = 17 B -> 2. Task 0: 8 + 2 B -> 2, 1 + 2, drain 2: 7. Task 1: 5 + 2 B ->
    1, 1 + 1, drain 2: 5. 2 + 7 + 5 = 14; two groups: 2 + 7 = 9.
    GTW, dy dense: DRAM 13 + 16 = 29 B -> 2. Channel 0: 16 B -> 2, 1 + 2, drain 3: 8. Channel 1:
    13 B -> 2, 1 + 1, drain 3: 7. 2 + 8 + 7 = 17.
    """
    layer = accel.Layer("dw", 1, 2, 1, 2, 2, 1, 1, groups=2)
    layer = traced(layer, [[[[1, 1]], [[1, 0]]]], np.ones((1, 2, 1, 2)))
    assert cycles(layer)[0] == 14
    assert cycles(layer, accel.chip(pe_groups=2))[0] == 9
    assert cycles(layer)[2] == 17


def test_a_row_longer_than_the_register_counted_by_hand():
    """Registers of 4 values, offsets of 2 bits: a dense row of 6 is stored as two segments.

    A nonzero has 18 bits. 1x3 kernel, padding 1: outputs 0..3 stream columns 0..4 (5 values, two
    stored segments: 4 + 11.25 -> 16 B), outputs 4..5 stream columns 3..5 (4 + 6.75 -> 11 B).
    Multiplications: columns 0..4 onto outputs 0..3: 2 + 3 + 3 + 2 + 1 = 11; columns 3..5 onto 4, 5:
    1 + 2 + 2 = 5. Task 0: 16 + 6 = 22 B -> 3, 1 + 11, drain 4: 19. Task 1: 17 B -> 3, 1 + 5,
    drain 2: 11. DRAM: 4 + 13.5 + 6 = 23.5 B -> 2. One group: 2 + 19 + 11 = 32; two groups: 21.
    """
    chip = accel.chip(pe_groups=1, register_values=4, offset_bits=2)
    layer = accel.Layer("long", 1, 1, 1, 6, 1, 1, 3, padding=(0, 1))
    layer = traced(layer, np.ones((1, 1, 1, 6)), np.ones((1, 1, 1, 6)))
    assert cycles(layer, chip)[0] == 32
    assert cycles(layer, chip.replace(pe_groups=2))[0] == 21


# --- the event-driven parts against stepped machines ------------------------------------------


def step_group(ops, pes, port):
    """A group of PEs stepped cycle by cycle; returns its cycles."""
    arrivals, total = [], 0
    for size, pe, length in ops:
        total += size
        arrivals.append((total, pe, length))
    queues = [[(need, length) for need, on, length in arrivals if on == pe] for pe in range(pes)]
    left, done, clock, delivered = [0] * pes, [not q for q in queues], 0, 0
    while not all(done) or delivered < total:
        for pe in range(pes):  # at the start of a cycle, idle PEs take what has fully arrived
            while left[pe] == 0 and queues[pe] and queues[pe][0][0] <= delivered:
                left[pe] = queues[pe].pop(0)[1]
        done = [not queues[pe] and left[pe] == 0 for pe in range(pes)]
        if all(done) and delivered >= total:
            break
        left = [max(0, cycles_left - 1) for cycles_left in left]
        delivered = min(total, delivered + port)
        clock += 1
        done = [not queues[pe] and left[pe] == 0 for pe in range(pes)]
    return clock


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(0, 12)), max_size=30),
    st.sampled_from([1, 3, 4, 8, 16]),
)
def test_the_queues_of_a_group_equal_the_stepped_group(ops, port):
    assert group_cycles(ops, 3, port) == step_group(ops, 3, port)


def step_dispatch(tasks, groups):
    """A dispatcher stepped cycle by cycle: the next task starts when ready and a group is idle."""
    waiting, left, clock = list(tasks), [0] * groups, 0
    while waiting or any(left):
        for g in range(groups):
            while waiting and left[g] == 0 and waiting[0][0] <= clock:
                left[g] = waiting.pop(0)[1]
                if left[g] == 0:
                    continue
        left = [max(0, n - 1) for n in left]
        clock += 1
    return clock


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 20)), min_size=1, max_size=40),
    st.integers(1, 5),
)
def test_the_dispatcher_equals_the_stepped_dispatcher(tasks, groups):
    ready = np.maximum.accumulate([r for r, _ in tasks])  # blocks become ready in order
    ordered = [(int(r), c) for r, (_, c) in zip(ready, tasks, strict=True)]
    assert dispatch(ordered, groups) == step_dispatch(ordered, groups)


# --- counts and laws --------------------------------------------------------------------------


CHIPS = [
    accel.sparsetrain168,
    accel.chip(pe_groups=2, buffer_bytes=2000),
    accel.chip(pe_groups=3, pes_per_group=4, port_bytes_per_cycle=3, buffer_bytes=700),
    accel.chip(pe_groups=2, register_values=4, offset_bits=3, buffer_bytes=1500),
]


@settings(deadline=None, max_examples=250)
@given(traced_layers(), st.sampled_from(CHIPS))
def test_multiplications_equal_numpy_and_cycles_respect_the_lower_bounds(case, chip):
    layer, x, dy, mask = case
    work = accel.Workload((layer,))
    (report,) = accel.simulate(work, chip, threads=1).layers
    assert tuple(c.macs for _, c in report.passes) == effectual_multiplications(layer, x, dy, mask)
    if max(layer.W, layer.Q) <= chip.register_values:
        assert len({c.row_ops for _, c in report.passes}) == 1
    program = compile_program(work.core, chip)
    (threaded,) = accel.simulate(work, chip, program=program, threads=2).layers
    (dense,) = accel.simulate(work, accel.dense_twin(chip), threads=1).layers
    for pass_name, c in report.passes:
        assert c == getattr(threaded, pass_name)
        assert c.busy_cycles == c.macs + chip.row_start_cycles * c.row_ops
        blocks = [b for b in program.blocks if b.pass_name == pass_name]
        assert c.dram_read_bytes == sum(b.load_bytes for b in blocks)
        assert c.dram_write_bytes == sum(b.store_bytes for b in blocks)
        assert c.cycles * chip.pes >= c.busy_cycles
        assert c.cycles * chip.port_bytes_per_cycle * chip.pe_groups >= c.port_bytes
        assert c.cycles * chip.dram_bytes_per_cycle >= c.dram_read_bytes + c.dram_write_bytes
        assert getattr(dense, pass_name).macs >= c.macs
        assert getattr(dense, pass_name).row_ops == c.row_ops


@settings(deadline=None, max_examples=150)
@given(traced_layers(), st.sampled_from(CHIPS), st.integers(0, 2**32 - 1))
def test_a_fixed_program_is_not_faster_with_nonzeros_nor_slower_with_groups(case, chip, seed):
    layer, x, dy, _ = case
    rng = np.random.default_rng(seed)
    layer = traced(layer, x, dy)
    work = accel.Workload((layer,))
    program = compile_program(work.core, chip)
    denser = traced(layer, x | (rng.random(x.shape) < 0.2), dy | (rng.random(dy.shape) < 0.2))
    base = accel.simulate(work, chip, program=program, threads=1).layers[0]
    more = accel.simulate(accel.Workload((denser,)), chip, program=program, threads=1).layers[0]
    wider = chip.replace(pe_groups=chip.pe_groups + 1)
    faster = accel.simulate(work, wider, program=program, threads=1).layers[0]
    for pass_name, c in base.passes:
        assert getattr(more, pass_name).cycles >= c.cycles
        assert getattr(faster, pass_name).cycles <= c.cycles
        assert getattr(faster, pass_name).macs == c.macs


@settings(deadline=None, max_examples=100)
@given(layers(largest=6), st.sampled_from(CHIPS))
def test_a_dense_step_keeps_the_sparse_chip_as_busy_as_its_twin(layer, chip):
    ones = np.ones((layer.N, layer.C, layer.H, layer.W))
    layer = traced(layer, ones, np.ones((layer.N, layer.K, layer.P, layer.Q)))
    work = accel.Workload((layer,))
    sparse = accel.simulate(work, chip, threads=1).layers[0]
    twin = accel.simulate(work, accel.dense_twin(chip), threads=1).layers[0]
    assert sparse.grad_input.macs == sparse.grad_weight.macs
    for pass_name, c in sparse.passes:
        assert c.busy_cycles == getattr(twin, pass_name).busy_cycles
        assert c.macs == getattr(twin, pass_name).macs


@settings(deadline=None, max_examples=150)
@given(traced_layers(), st.sampled_from(CHIPS))
def test_blocks_cover_every_output_exactly_once(case, chip):
    layer = case[0]
    blocks = compile_program(accel.Workload((layer,)).core, chip).blocks
    covered = {pass_name: set() for pass_name in accel.PASSES}
    for b in blocks:
        if b.pass_name == "forward":
            items = [(row, k) for row in range(b.row0, b.row1) for k in range(b.k0, b.k1)]
        elif b.pass_name == "grad_input":
            items = [(row, c) for row in range(b.row0, b.row1) for c in range(b.c0, b.c1)]
        else:
            items = [
                (row, c, k)
                for row in range(b.row0, b.row1)
                for c in range(b.c0, b.c1)
                for k in range(b.k0, b.k1)
            ]
        assert not covered[b.pass_name] & set(items)
        covered[b.pass_name] |= set(items)
    rows, kg = layer.N * layer.P, layer.K // layer.groups
    assert len(covered["forward"]) == rows * layer.K
    assert len(covered["grad_input"]) == layer.N * layer.H * layer.C
    assert len(covered["grad_weight"]) == rows * layer.C * kg


def test_random_nonzeros_have_the_layers_densities_and_depend_only_on_the_seed():
    layer = accel.Layer("a", 2, 8, 20, 20, 8, 3, 3, x_density=0.3, dy_density=0.1, mask_density=0.3)
    work = accel.Workload((layer,))
    first, second = accel.simulate(work, seed=1), accel.simulate(work, seed=2)
    assert accel.simulate(work, seed=1).total == first.total
    assert first.total != second.total
    expected = accel.estimate(work).layers[0]
    for pass_name, c in first.layers[0].passes:
        assert c.macs == pytest.approx(getattr(expected, pass_name).macs, rel=0.2)


def test_a_program_of_another_workload_is_refused():
    layer = accel.Layer("a", 1, 1, 3, 3, 1, 1, 1)
    two = accel.Workload((layer, layer))
    program = compile_program(two.core, ONE_GROUP)
    with pytest.raises(ValueError, match="compiled from this workload"):
        accel.simulate(accel.Workload((layer,)), ONE_GROUP, program=program)


@pytest.mark.parametrize("density", [0.08, 0.3, 1.0])
def test_the_closed_form_is_within_three_percent_on_clustered_zeros(density):
    """The zeros form blobs and channels differ in density: maps show this, densities do not."""
    rng = np.random.default_rng(0)

    def blobs(shape, target):
        fields = rng.normal(size=shape)
        for axis in (2, 3):
            for _ in range(2):
                fields = fields + np.roll(fields, 1, axis) + np.roll(fields, -1, axis)
        channel_offset = rng.normal(size=(1, shape[1], 1, 1)) * fields.std() / 2
        fields = fields + channel_offset
        return fields >= np.quantile(fields, 1 - target)

    work = []
    for i, (c, k, size, stride) in enumerate([(32, 32, 24, 1), (32, 64, 24, 2), (64, 64, 12, 1)]):
        layer = accel.Layer(
            str(i), 2, c, size, size, k, 3, 3, stride=(stride, stride), padding=(1, 1)
        )
        x = blobs((2, c, size, size), 0.4)
        layer = traced(layer, x, blobs((2, k, layer.P, layer.Q), density))
        work.append(replace(layer, maps=layer.trace.maps(layer.shape)))
    steps = accel.Workload(tuple(work))
    exact, closed = accel.simulate(steps, threads=1), accel.estimate(steps)
    assert closed.cycles == pytest.approx(exact.cycles, rel=0.03)


@pytest.mark.parametrize("width", [31, 32, 33, 64, 65, 130, 300])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_wide_rows_are_counted_exactly(width, taps):
    """Rows of one word and of several, packed bit planes or not, cut at 256 columns or at 20."""
    rng = np.random.default_rng(width)
    layer = accel.Layer("w", 2, 2, 2, width, 2, 1, taps, padding=(0, taps // 2))
    x, dy = (rng.random((2, 2, 2, width)) < density for density in (0.4, 0.7))
    work = accel.Workload((traced(layer, x, dy),))
    for chip in (accel.sparsetrain168, accel.chip(pe_groups=2, register_values=20)):
        (report,) = accel.simulate(work, chip, threads=1).layers
        assert tuple(c.macs for _, c in report.passes) == effectual_multiplications(layer, x, dy, x)
