"""The fuzzer: `python tests/fuzz/fuzz.py --cases N --seed S`.

Every case runs on every backend and instruction set of this machine, in child processes. A crash
and a case that never ends are findings too. Prints one line for each finding; the exit code is 1 if
there are any.
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

BATCH = 200  # cases of one child: starting it is cheap, and heap corruption is narrowed down
SECONDS = 300  # without progress until a child is killed; a case takes milliseconds
Judge = Callable[[int, int], list[str]]  # maps seed and index to findings


def judge_case(seed: int, index: int) -> list[str]:
    """Draws one case and judges it; an exception of the library is a finding too."""
    from fuzz_cases import draw
    from fuzz_laws import findings

    case = draw(seed, index)
    try:
        found = findings(case)
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    return [f"{message}  {case}" for message in found[:1]] if found else []


def _child(pipe: Connection, judge: Judge, seed: int, indices: range) -> None:
    """Sends each index before its case runs, then the findings; at the end None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for index in indices:
        pipe.send((index, None))
        for message in judge(seed, index):
            pipe.send((index, message))
    pipe.send(None)


@dataclass
class _Batch:
    """A child process and the case that it runs."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    indices: range
    current: int
    last_progress: float


def run(
    judge: Judge, seed: int, indices: range, jobs: int, seconds: float = SECONDS
) -> Iterator[tuple[int, str | None]]:
    """Yields (index, None) when a case begins and (index, finding) for every finding."""
    os.environ.setdefault("MALLOC_PERTURB_", "165")  # unwritten memory is not zero
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # With AMX, PyTorch 2.15's own bfloat16 forward, the dense backend, is wrong for some wide
    # kernels on few channels: 3 x 11 on 4 channels, 1 x 8 on 8.
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
            late = time.monotonic() - batch.last_progress > seconds
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
    """Yields everything that a child has sent so far."""
    try:
        while batch.pipe.poll():
            message = batch.pipe.recv()
            batch.last_progress = time.monotonic()
            if message is None:
                return
            batch.current = message[0]
            yield message
    except EOFError:
        return


@click.command()
@click.option("--cases", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--first", default=0, show_default=True, type=click.IntRange(0), help="Index of the first case."
)
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Child processes."
)
def main(cases: int, seed: int, first: int, jobs: int) -> None:
    """Runs CASES cases of SEED. The exit code is 1 if any is wrong or ends its process.

    Ctrl-C stops and reports the cases done so far; the exit code is then 130.
    """
    began, begun, wrong, stopped = time.monotonic(), 0, set(), ""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cases", total=cases)
        try:
            for index, message in run(judge_case, seed, range(first, first + cases), jobs):
                if message is None:
                    begun += 1
                    progress.advance(task)
                    if not console.is_terminal and (index + 1) % 10_000 == 0:
                        click.echo(f"case {index + 1}", err=True)
                    continue
                wrong.add(index)
                command = f"python tests/fuzz/fuzz.py --seed {seed} --first {index} --cases 1"
                click.echo(f"{command}  # {message}")
        except KeyboardInterrupt:
            begun, stopped = max(0, begun - jobs), f", stopped of {cases}"
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    took = f"{minutes} min {seconds} s"
    click.echo(f"{begun} cases of seed {seed}: {len(wrong)} wrong, {took}{stopped}")
    sys.exit(130 if stopped else bool(wrong))


if __name__ == "__main__":
    main()
