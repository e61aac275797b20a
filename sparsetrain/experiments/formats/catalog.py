"""The list of all files that SparseTrain, its benchmarks and its GPU tests write or read."""

from sparsetrain.experiments.formats import benchmarks, gpu, runs, step_costs
from sparsetrain.experiments.formats.page import FileFormat
from sparsetrain.experiments.older_files import OLD_NAMES

FORMATS = (
    FileFormat(
        "Results of a run",
        ("sparsetrain train --json FILE",),
        (runs.RunResults,),
        "The file is written at the end of each epoch, with all epochs so far, and when a run is "
        "stopped.",
    ),
    FileFormat(
        "Results of a sweep",
        ("sparsetrain sweep FOLDER",),
        (runs.SweepResult,),
        "`FOLDER/results.jsonl` has a line of JSON for each run, which is appended when the run "
        "ends. `FOLDER/runs` has a checkpoint of each run in progress, and lock files.",
    ),
    FileFormat(
        "Plan of a sweep",
        ("sparsetrain sweep FOLDER --toml FILE",),
        (runs.SweepPlan,),
        "The file is TOML.",
        is_input=True,
    ),
    FileFormat(
        "Checkpoint of a run",
        ("sparsetrain train --checkpoint FILE",),
        (runs.Checkpoint,),
        "This is a file of `torch.save`, which `torch.load(FILE, weights_only=True)` reads. It is "
        "written at the end of each epoch and when a run is stopped, by default to "
        "`runs/MODEL-DATASET-RULE-seedN.pt`. A run resumes on as many processes as it was stopped "
        "on. On one or two processes the resumed run is bit-equal to one that was not stopped. On "
        "more, DDP adds the gradients of its first step in another order than later ones.",
    ),
    FileFormat(
        "Cost of a step",
        (
            "sparsetrain estimate MODEL --json FILE",
            "sparsetrain estimate MODEL --csv FILE",
        ),
        (step_costs.Estimate,),
        "The CSV file has the fields of `layers` as its first line, and a line for each object of "
        "`layers`.",
    ),
    FileFormat(
        "Costs on a grid of chips",
        (
            "sparsetrain explore MODEL --vary NUMBER=A,B --json FILE",
            "sparsetrain explore MODEL --vary NUMBER=A,B --csv FILE",
        ),
        (step_costs.Exploration,),
        "The CSV file has the fields of `points` as its first line, and a line for each object of "
        "`points`.",
    ),
    FileFormat(
        "Densities of the layers",
        ("sparsetrain estimate MODEL --grad-density FILE",),
        (step_costs.LayerDensities,),
        "The file is JSON. `--input-density`, `explore` and `disasm` accept it too.",
        is_input=True,
    ),
    FileFormat(
        "Chips and price tables",
        ("sparsetrain estimate MODEL --chip FILE.toml --prices FILE.toml",),
        (step_costs.ChipFile,),
        "`explore`, `disasm` and `sparsetrain.accel.read_toml` accept the file too. Older files "
        "may call `pe_groups` `groups`.",
        is_input=True,
    ),
    FileFormat(
        "Costs of `auto`",
        ("sparsetrain tune FILE",),
        (step_costs.CostFile,),
        "`sparsetrain.set_costs` reads the file.",
    ),
    FileFormat(
        "Times of convolutions", ("benchmarks/conv.py --json FILE",), (benchmarks.ConvBenchmark,)
    ),
    FileFormat(
        "Times of pruning", ("benchmarks/prune.py --json FILE",), (benchmarks.PruneBenchmark,)
    ),
    FileFormat(
        "Times of training steps",
        ("benchmarks/train_step.py --json FILE",),
        (benchmarks.TrainStepBenchmark,),
    ),
    FileFormat(
        "Memory of a step", ("benchmarks/memory.py --json FILE",), (benchmarks.MemoryBenchmark,)
    ),
    FileFormat(
        "What pruning does to training",
        ("benchmarks/variance.py --json FILE",),
        (benchmarks.VarianceBenchmark,),
    ),
    FileFormat(
        "Accuracy with sampled pixels",
        ("benchmarks/sampling.py LOG",),
        (benchmarks.SamplingNoise, benchmarks.SamplingRun),
        "The file has two kinds of lines of JSON.",
    ),
    FileFormat(
        "Assumptions about the chip",
        ("benchmarks/paper.py --json FILE",),
        (benchmarks.PaperBenchmark,),
    ),
    FileFormat(
        "Error of the closed form",
        ("benchmarks/model_error.py --json FILE",),
        (benchmarks.ModelErrorBenchmark,),
    ),
    FileFormat("Times on a GPU", ("benchmarks/gpu.py --json FILE",), (gpu.GpuBenchmark,)),
    FileFormat(
        "Steps on a GPU",
        ("make test-gpu", "make bench-gpu"),
        (gpu.GpuSteps,),
        "The files are `build/gpu/test.json` and `build/gpu/bench.json`. They are written when all "
        "steps are done. What the steps printed is in `.txt` files beside them.",
    ),
)
"""Every kind of file, in the order of the page."""


def old_names() -> str:
    """The section about older files."""
    places = {
        "run": "a run's results or checkpoint",
        "records": "`epochs`, `layers` and `density_log`",
        "parts": "`parts`",
    }
    rows = [
        f"| {places[place]} | `{old}` | `{new}` |"
        for place, names in OLD_NAMES.items()
        for old, new in names.items()
    ]
    heading = ("| in | old name | name |", "|---|---|---|")
    text = (
        "## Older files",
        "",
        "Commands that read results and checkpoints accept the names of earlier versions. The "
        "models accept only today's names.",
        "",
    )
    return "\n".join([*text, *heading, *rows]) + "\n"
