"""Fuzzer: `python tests/fuzz/fuzz.py --cases N --seed S`; exit code 1 and one line a failing case.

Every case runs on every backend and instruction set of this machine, in child processes that die
alone: a crash is a finding, and so is a case that never ends.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import click
from rich.console import Console
from rich.progress import Progress

BATCH = 200  # cases a child runs: few enough to find who broke the heap, enough to start quickly
SECONDS = 300  # without a sign of life: a case is one of milliseconds
Law = Callable[[int, int], list[str]]  # of a seed and an index: what is wrong


def law(seed: int, index: int) -> list[str]:
    """Draws one case and judges it; a traceback of the laws or the library is wrong as well."""
    from fuzz_cases import draw
    from fuzz_laws import findings

    case = draw(seed, index)
    try:
        found = findings(case)
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    return [f"{message}  {case}" for message in found[:1]] if found else []


def _child(pipe: Connection, judge: Law, seed: int, indices: range) -> None:
    """Sends each index before its case runs, then what was wrong with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says what Ctrl-C left undone
    for index in indices:
        pipe.send((index, None))
        for message in judge(seed, index):
            pipe.send((index, message))
    pipe.send(None)


@dataclass
class _Batch:
    """A child and what it is doing."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    indices: range
    current: int
    heard: float


def run(
    judge: Law, seed: int, indices: range, jobs: int, seconds: float = SECONDS
) -> Iterator[tuple[int, str | None]]:
    """Yields (index, None) when a case begins and (index, what is wrong) for every finding."""
    os.environ.setdefault("MALLOC_PERTURB_", "165")  # memory that nobody wrote is no zero
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Torch 2.15's own bfloat16 forward, which is what runs dense, is wrong with AMX for some wide
    # kernels on few channels: 4 and 3 x 11, 8 and 1 x 8.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "sparsetrain", "fuzz_laws"])
    waiting = [indices[i : i + BATCH] for i in range(0, len(indices), BATCH)]
    waiting.reverse()
    busy: list[_Batch] = []
    while waiting or busy:
        while waiting and len(busy) < jobs:
            busy.append(_start(context, judge, seed, waiting.pop()))
        wait([batch.pipe for batch in busy], timeout=1)
        for batch in list(busy):
            yield from _listen(batch)
            late = time.monotonic() - batch.heard > seconds
            if batch.process.is_alive() and not late:
                continue
            batch.process.kill()
            batch.process.join()
            yield from _listen(batch)
            busy.remove(batch)
            if batch.process.exitcode or late:
                yield batch.current, _ending(batch, late)
                rest = range(batch.current + 1, batch.indices.stop)
                waiting += [rest] if rest else []


def _ending(batch: _Batch, late: bool) -> str:
    how = "never ends" if late else f"ends the process ({batch.process.exitcode})"
    first = batch.indices[0]
    if batch.current == first:
        return how
    return f"{how}, or a case from {first} on did: run them with --first {first}"


def _start(context, judge, seed, indices) -> _Batch:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, judge, seed, indices), daemon=True)
    process.start()
    theirs.close()
    return _Batch(process, ours, indices, indices[0], time.monotonic())


def _listen(batch: _Batch) -> Iterator[tuple[int, str | None]]:
    """Everything that a child has said by now."""
    try:
        while batch.pipe.poll():
            said = batch.pipe.recv()
            batch.heard = time.monotonic()
            if said is None:
                return
            batch.current = said[0]
            yield said
    except EOFError:
        return


@click.command()
@click.option("--cases", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Index.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def main(cases: int, seed: int, first: int, jobs: int) -> None:
    """Runs CASES cases of SEED; exit code 1 if any is wrong or ends its process.

    Ctrl-C counts what was done by then; exit code 130.
    """
    began, begun, wrong, stopped = time.monotonic(), 0, set(), ""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cases", total=cases)
        try:
            for index, message in run(law, seed, range(first, first + cases), jobs):
                if message is None:
                    begun += 1
                    progress.advance(task)
                    if not console.is_terminal and (index + 1) % 10_000 == 0:
                        click.echo(f"case {index + 1}", err=True)
                    continue
                wrong.add(index)
                again = f"python tests/fuzz/fuzz.py --seed {seed} --first {index} --cases 1"
                click.echo(f"{again}  # {message}")
        except KeyboardInterrupt:
            begun, stopped = max(0, begun - jobs), f", stopped of {cases}"
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    took = f"{minutes} min {seconds} s"
    click.echo(f"{begun} cases of seed {seed}: {len(wrong)} wrong, {took}{stopped}")
    sys.exit(130 if stopped else bool(wrong))


if __name__ == "__main__":
    main()
