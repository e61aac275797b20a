"""The report: its statistics against values worked out by hand, its page in a browser, errors."""

import json
import math
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner
from helpers import browser, small_data

from sparsetrain.__main__ import main
from sparsetrain.experiments import datasets, report, sweep
from sparsetrain.experiments.report import aggregate, cost_figures, figures
from sparsetrain.experiments.results import read_results
from sparsetrain.experiments.settings import Settings

TINY = Settings(dense=True, epochs=1, batch_size=48, learning_rate=0.02)
FIGURES = ["frontier", "differences", "speedups", "curves", "densities", "time"]
FIGURES += ["cycles", "energy", "band", "roofline"]


def run(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of two networks, two rules and two seeds, and one run that failed."""
    data = datasets.load(data_dir=small_data.write(tmp_path_factory.mktemp("data")))
    place = sweep.Folder(tmp_path_factory.mktemp("sweep"))
    rules = [dict(dense=True), dict(dense=False, rate=0.9)]
    runs = [
        replace(TINY, model=model, seed=seed, **rule)
        for seed in (0, 1)
        for model in ("resnet8", "plain")
        for rule in rules
    ]
    runs.append(replace(TINY, model="plain", dense=False, density=0.05))
    for _ in sweep.work(place, runs, data):
        pass
    lines = place.results.read_text().splitlines()
    failed = json.loads(lines.pop()) | {"failure": "expected <b>finite</b>, got nan", "epochs": []}
    failed |= {"layers": [], "passes": [], "density_log": [], "parts": {}}
    place.results.write_text("\n".join([*lines, json.dumps(failed)]) + "\n")
    return place.path


@pytest.fixture(scope="module")
def page(folder):
    path = folder / "report.html"
    result = run(folder, "-o", path)
    assert result.exit_code == 0, result.output
    return path


# Statistics against values worked out by hand


def test_mean_and_standard_error():
    """1, 2, 3, 6: squared deviations 4, 1, 0, 9 sum to 14; sqrt(14 / 3 / 4) = 1.0801."""
    found = aggregate.mean_and_error([1, 2, 3, 6])
    assert (found.mean, found.count) == (3, 4)
    assert found.error == pytest.approx(1.0801, abs=1e-4)
    assert aggregate.mean_and_error([5]) == aggregate.Estimate(5, None, 1)
    assert aggregate.mean_and_error([]) is None


def test_paired_differences_use_students_table():
    """Differences 1, 2, 3 have mean 2 and standard error 1/sqrt(3).

    Tables give t = 4.3027 for two degrees of freedom and 95 %, hence the interval 2 +- 2.4841.
    Seed 9 has no dense run. The base values differ between seeds, which pairing removes.
    """
    base = {0: 10.0, 1: 50.0, 2: 90.0}
    found = aggregate.paired_difference({0: 11.0, 1: 52.0, 2: 93.0, 9: 1.0}, base)
    assert (found.mean, found.count) == (2, 3)
    assert (found.low, found.high) == pytest.approx((-0.4841, 4.4841), abs=1e-4)
    assert aggregate.paired_difference({0: 11.0}, base) == aggregate.Difference(1.0, None, None, 1)
    assert aggregate.paired_difference({9: 1.0}, base) is None


def result(seed, accuracy, rate=None, **config):
    """A run of one epoch. Its 7 steps take `accuracy` s of processor time and twice that in all."""
    epoch = dict(epoch=1, train_loss=1.0, test_accuracy=accuracy, input_density=0.5)
    epoch |= dict(grad_density_unpruned=1.0, grad_density=0.2)
    epoch |= dict(step_cpu_seconds=accuracy, step_seconds=2 * accuracy)
    epoch |= dict(cycles=10, dense_cycles=30)
    settings = dict(model="plain", dense=rate is None, rate=rate, density=None, seed=seed, epochs=1)
    settings |= dict(batch_size=8, learning_rate=0.1, dataset="d", backend="auto", threads=1)
    settings |= dict(steps_per_epoch=7)
    settings |= dict(processes=1, data="0")
    rest = dict(layers=[], passes=[], density_log=[], parts={})
    return {"config": {**settings, **config}, "epochs": [epoch], **rest}


def test_runs_of_one_setup_are_paired_by_seed():
    results = [result(0, 0.5), result(1, 0.8), result(0, 0.4, 0.9), result(1, 0.8, 0.9)]
    dense, pruned = aggregate.group_runs(results)
    assert (dense.rule, pruned.rule, dense.difference) == ("dense", "rate 0.9", None)
    assert pruned.difference.mean == pytest.approx(-0.05)
    assert pruned.cpu_speedup.mean == pytest.approx((0.5 / 0.4 * 1) ** 0.5)
    assert pruned.speedup.mean == pytest.approx(pruned.cpu_speedup.mean)
    assert pruned.chip_speedup.mean == pytest.approx(3)
    other = aggregate.group_runs([*results, result(0, 0.9, 0.9, batch_size=16)])
    assert [p.model for p in other] == ["plain, batch size 8"] * 2 + ["plain, batch size 16"]
    assert other[2].difference is None
    data = aggregate.group_runs([*results, result(0, 0.9, 0.9, dataset="e", data="1" * 32)])
    assert [p.model for p in data][1:] == ["plain, dataset d", "plain, dataset e"]


def test_the_geometric_mean_of_inverses_is_the_inverse():
    """2 and 8 have the logarithms ln 2 and 3 ln 2, whose standard error is ln 2."""
    found = aggregate.geometric_mean([2, 8])
    assert found.mean == pytest.approx(4) and found.error == pytest.approx(4 * math.log(2))
    inverse = aggregate.geometric_mean([0.5, 0.125])
    assert inverse.mean == pytest.approx(0.25)
    assert inverse.error / inverse.mean == pytest.approx(found.error / found.mean)
    assert aggregate.geometric_mean([]) is None and aggregate.geometric_mean([3]).error is None


def test_failed_and_unfinished_runs_are_counted_but_not_averaged():
    whole = result(0, 0.5, 0.9)
    failed = {**result(1, 0.1, 0.9), "epochs": [], "failure": "expected a finite loss, got nan"}
    stopped = {**result(2, 0.1, 0.9), "epochs": []}
    (group,) = aggregate.group_runs([whole, failed, stopped])
    assert (group.failed, group.unfinished) == (1, 1)
    assert (group.accuracy.count, group.accuracy.mean) == (1, 0.5)
    assert group.results == (whole,)
    (group,) = aggregate.group_runs([stopped])
    assert (group.failed, group.unfinished, group.results) == (0, 1, (stopped,))


def test_equal_runs_count_once_and_different_runs_of_a_seed_are_refused():
    results = [result(0, 0.5), result(1, 0.8)]
    assert aggregate.group_runs([*results, *results]) == aggregate.group_runs(results)
    with pytest.raises(ValueError, match="one run of plain, dense, seed 1, got two that differ"):
        aggregate.group_runs([*results, result(1, 0.7)])


def test_times_of_different_machines_or_setups_are_not_compared():
    """First the machines differ, then the numbers of processes."""
    results = [result(0, 0.5) | {"machine": "a"}, result(0, 0.4, 0.9) | {"machine": "b"}]
    _, pruned = aggregate.group_runs(results)
    assert pruned.speedup is None and pruned.difference.count == 1
    results = [result(1, 0.5, processes=2), result(1, 0.4, 0.9)]
    groups = aggregate.group_runs(results)
    assert [group.model for group in groups] == ["plain, processes 2", "plain, processes 1"]
    assert groups[1].difference is None
    assert aggregate.training_setup(results[0]["config"]).endswith(", processes 2")
    assert "processes" not in aggregate.training_setup(results[1]["config"])


def test_an_unfinished_run_and_a_finished_one_make_a_page(page, tmp_path):
    """The unfinished run stopped before any layer was recorded."""
    lines = (page.parent / "results.jsonl").read_text().splitlines()
    finished = next(line for line in map(json.loads, lines) if line["layers"])
    unfinished = {
        **finished,
        "epochs": [],
        "layers": [],
        "passes": [],
        "density_log": [],
        "parts": {},
    }
    unfinished["config"] = {**finished["config"], "seed": 77}
    for name, content in (("a.json", unfinished), ("b.json", finished)):
        (tmp_path / name).write_text(json.dumps(content))
    shown = run(tmp_path / "a.json", tmp_path / "b.json", "-o", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.output
    (tmp_path / "a.json").write_text(json.dumps({"config": {}, "epochs": [], "passes": []}))
    shown = run(tmp_path / "a.json")
    assert shown.exit_code == 2 and "a.json to be the results of a run" in shown.output


def test_an_unfinished_run_has_no_accuracy_in_the_figures():
    (group,) = aggregate.group_runs([result(0, 0.5, epochs=2)])
    assert group.accuracy is None
    assert figures.frontier([group]).rows[0][5] == "-"


def test_speedups_use_mean_times_over_epochs():
    """Dense steps take 1 and 3 seconds, pruned ones 1 and 1: the speedup is 2, not 3."""
    dense, pruned = result(0, 1.0), result(0, 1.0, 0.9)
    dense["epochs"].append({**dense["epochs"][0], "step_seconds": 6.0, "step_cpu_seconds": 3.0})
    pruned["epochs"] *= 2
    for run_result in (dense, pruned):
        run_result["config"]["epochs"] = 2
    _, found = aggregate.group_runs([dense, pruned])
    assert (found.speedup.mean, found.cpu_speedup.mean) == (2, 2)


def test_the_markdown_table_has_means_errors_and_intervals(tmp_path):
    """Accuracies of 50 and 80 % dense, 40 and 80 % pruned: means 65 +- 15 and 60 +- 20.

    The differences are -10 and 0 percentage points: mean -5, standard error 5. With t = 12.706 for
    one degree of freedom, the interval's half width is 63.53.
    """
    results = [result(0, 0.5), result(1, 0.8), result(0, 0.4, 0.9), result(1, 0.8, 0.9)]
    lines = [json.dumps({"run": str(i), **r}) for i, r in enumerate(results)]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    shown = run(tmp_path, "--markdown")
    assert shown.exit_code == 0
    _, _, dense, pruned, _, setup = shown.output.splitlines()
    assert dense == "| plain, dense | 2 | 65.00 ± 15.00 | - | 0.500 | 1.000, 0.200 | - | 3.00x |"
    assert pruned.startswith("| plain, rate 0.9 | 2 | 60.00 ± 20.00 | -5.00 (-68.53 to +58.53) |")
    assert "| 1.12 ± 0.12x |" in pruned
    assert setup.startswith(
        "- plain: epochs 1, steps per epoch 7, batch size 8, peak learning rate 0.1"
    )


def test_an_outlier_does_not_compress_the_axis_of_the_others():
    """The outlier is outside of the axis, the caption says it, and the table has it."""
    groups = aggregate.group_runs([result(0, 0.9), result(0, 0.89, 0.9), result(0, 0.1, 0.99)])
    accuracy, difference = figures.frontier(groups), figures.differences(groups)
    low, high = accuracy.layout["yaxis"]["range"]
    assert 90 - 1.2 * figures.FARTHEST_SHOWN < low < 89 and 90 < high < 92
    low, high = difference.layout["xaxis"]["range"]
    assert -1.2 * figures.FARTHEST_SHOWN < low < -1 and 0 < high < 2
    for figure in (accuracy, difference):
        assert "are only in the table" in figure.text
        assert any("rate 0.99" in row for row in figure.rows)
    assert "are only in the table" not in figures.frontier(groups[:2]).text


def test_profiles_without_compression_are_used_only_without_better_ones():
    """The older profile: sparse 6 ms. The newer one: sparse 3 ms, compression 2 ms."""
    parts = dict(dense=1.0, prune=1.0, normalize=1.0, other=1.0)
    old, new = {**parts, "sparse": 6.0}, {**parts, "sparse": 3.0, "compress": 2.0}
    both = [{**result(seed, 0.5), "parts": found} for seed, found in ((0, old), (1, new))]
    assert cost_figures.time_parts(aggregate.group_runs(both)).rows[0][2:4] == ("3.00", "2.00")
    figure = cost_figures.time_parts(aggregate.group_runs(both[:1]))
    assert figure.rows[0][2:4] == ("6.00", "0.00")
    assert "Bars without compression include it in the sparse" in figure.text


# The page in a browser


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_width_without_errors_and_follows_the_color_scheme(page, width, dark):
    found = browser.look(page, width, dark)
    assert found["problems"] == [] and found["console"] == []
    assert found["width"] == width and found["scroll"] <= width
    assert [chart["key"] for chart in found["charts"]] == [f"chart-{key}" for key in FIGURES]
    for chart in found["charts"]:
        assert chart["marks"] > 0 and chart["beyond"] <= 0, chart
    brightness = [sum(map(int, re.findall(r"\d+", found[color])[:3])) for color in ("ink", "paper")]
    assert (brightness[0] > brightness[1]) == dark


def test_the_menu_and_the_filter_select_runs_and_layers(page):
    """Selects the cycles of dense `plain`, and of its layers those with a 3 in their names."""
    found = browser.look(
        page,
        1400,
        script="""
        const pick = (kind, value) => {
          const control = document.querySelector(`${kind}[data-for="cycles"]`);
          control.value = value;
          control.dispatchEvent(new Event("input"));
        };
        pick("select", "plain, dense");
        pick("input", "3");
        """,
    )
    assert found["problems"] == []
    (cycles,) = (chart for chart in found["charts"] if chart["key"] == "chart-cycles")
    assert cycles["labels"] and all("3" in label for label in cycles["labels"])
    assert cycles["choices"] == ["plain, dense"]


def test_the_page_needs_no_network_and_escapes_text(page):
    text = page.read_text()
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=.(?!data:|#)", outside)
    assert "expected &lt;b&gt;finite&lt;/b&gt;, got nan" in outside
    for what in ("command", "machine", "sparsetrain", "torch", "Python", "data", "training"):
        assert f"<dt>{what}</dt>" in outside
    assert outside.count("<details>") == len(FIGURES)


def test_the_tables_of_the_page_have_the_densities_and_accuracies(page, folder):
    results = read_results(folder / "results.jsonl")
    text = page.read_text()
    for run_result in results[:-1]:
        for record in run_result["density_log"]:
            assert f"<td>{record['name']}</td><td>1</td>" in text
    accuracies = [
        run_result["epochs"][0]["test_accuracy"] * 100
        for run_result in results
        if run_result["config"]["model"] == "plain" and run_result["config"]["rate"] == 0.9
    ]
    mean, error = sum(accuracies) / 2, abs(accuracies[0] - accuracies[1]) / 2
    assert f"<td>{mean:.2f} ± {error:.2f}</td>" in text


def test_a_single_run_makes_a_page(tmp_path, folder):
    (tmp_path / "run.json").write_text(json.dumps(read_results(folder / "results.jsonl")[1]))
    page = tmp_path / "one.html"
    assert run(tmp_path / "run.json", "-o", page).exit_code == 0
    keys = [chart["key"] for chart in browser.look(page, 390)["charts"]]
    assert keys == [f"chart-{key}" for key in FIGURES if key != "differences"]


# Errors


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.jsonl", None, "to be a results file, got none"),
        ("none.json", None, "to be a results file, got none"),
        ("a.json", "{", "to be JSON, got"),
        ("a.json", "{}", "to be the results of a run, got something else"),
        ("a.jsonl", "", "results to be of at least one finished epoch, got none"),
    ],
)
def test_invalid_results_are_refused(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = run(tmp_path / name, "-o", tmp_path / "r.html")
    assert result.exit_code == 2 and sentence in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "r.html").exists()


def test_a_file_that_cannot_be_written_is_reported_in_one_sentence(folder):
    result = run(folder, "-o", "/dev/full")
    assert result.exit_code == 2
    assert "expected /dev/full to be written, got No space left on device" in result.output


def test_a_missing_package_is_named(tmp_path, folder, monkeypatch):
    from sparsetrain.experiments.report import page as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "plotly" else name)
    result = run(folder, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "to be installed, got no plotly. Run pip install plotly" in result.stderr
    with pytest.raises(ModuleNotFoundError, match="got no plotly"):
        report.check_installed()
