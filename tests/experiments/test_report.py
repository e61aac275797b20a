"""The report: statistics by hand, the page in a real browser, and every refusal."""

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
    """A sweep of two networks, two rules and two seeds, and a run that diverged."""
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


# Statistics, against numbers worked out by hand


def test_mean_and_standard_error():
    """1, 2, 3, 6: squared deviations 4, 1, 0, 9 sum to 14; sqrt(14 / 3 / 4) = 1.0801."""
    found = aggregate.mean_and_error([1, 2, 3, 6])
    assert (found.mean, found.count) == (3, 4)
    assert found.error == pytest.approx(1.0801, abs=1e-4)
    assert aggregate.mean_and_error([5]) == aggregate.Estimate(5, None, 1)
    assert aggregate.mean_and_error([]) is None


def test_paired_differences_use_students_table():
    """Differences 1, 2, 3: mean 2, error 1/sqrt(3), and a table gives t = 4.3027 for two degrees
    of freedom and 95 %: 2 -+ 2.4841. Seed 9 has no partner. Pairing removes what seeds share."""
    base = {0: 10.0, 1: 50.0, 2: 90.0}
    found = aggregate.paired_difference({0: 11.0, 1: 52.0, 2: 93.0, 9: 1.0}, base)
    assert (found.mean, found.count) == (2, 3)
    assert (found.low, found.high) == pytest.approx((-0.4841, 4.4841), abs=1e-4)
    assert aggregate.paired_difference({0: 11.0}, base) == aggregate.Difference(1.0, None, None, 1)
    assert aggregate.paired_difference({9: 1.0}, base) is None


def result(seed, accuracy, rate=None, **config):
    """One epoch whose steps take `accuracy` seconds of the processor, twice that by the clock."""
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


def test_points_pair_the_seeds_of_one_setting():
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


def test_a_ratio_and_its_inverse_say_the_same():
    """2 and 8: logarithms ln 2 and 3 ln 2, mean 4; their error is ln 2."""
    found = aggregate.geometric_mean([2, 8])
    assert found.mean == pytest.approx(4) and found.error == pytest.approx(4 * math.log(2))
    inverse = aggregate.geometric_mean([0.5, 0.125])
    assert inverse.mean == pytest.approx(0.25)
    assert inverse.error / inverse.mean == pytest.approx(found.error / found.mean)
    assert aggregate.geometric_mean([]) is None and aggregate.geometric_mean([3]).error is None


def test_runs_that_failed_or_stopped_count_and_have_no_part_in_any_number():
    whole = result(0, 0.5, 0.9)
    failed = {**result(1, 0.1, 0.9), "epochs": [], "failure": "expected a finite loss, got nan"}
    stopped = {**result(2, 0.1, 0.9), "epochs": []}
    (point,) = aggregate.group_runs([whole, failed, stopped])
    assert (point.failed, point.unfinished) == (1, 1)
    assert (point.accuracy.count, point.accuracy.mean) == (1, 0.5)
    assert point.results == (whole,)
    (point,) = aggregate.group_runs([stopped])
    assert (point.failed, point.unfinished, point.results) == (0, 1, (stopped,))


def test_a_run_that_is_given_twice_counts_once():
    results = [result(0, 0.5), result(1, 0.8)]
    assert aggregate.group_runs([*results, *results]) == aggregate.group_runs(results)
    with pytest.raises(ValueError, match="one run of plain, dense, seed 1, got two that differ"):
        aggregate.group_runs([*results, result(1, 0.7)])


def test_times_are_compared_on_one_machine_alone():
    """Seed 0's dense run was on another one, seed 1's ran in two processes: a run of its own."""
    results = [result(0, 0.5) | {"machine": "a"}, result(0, 0.4, 0.9) | {"machine": "b"}]
    _, pruned = aggregate.group_runs(results)
    assert pruned.speedup is None and pruned.difference.count == 1
    results = [result(1, 0.5, processes=2), result(1, 0.4, 0.9)]
    points = aggregate.group_runs(results)
    assert [p.model for p in points] == ["plain, processes 2", "plain, processes 1"]
    assert points[1].difference is None
    assert aggregate.training_setup(results[0]["config"]).endswith(", processes 2")
    assert "processes" not in aggregate.training_setup(results[1]["config"])


def test_a_stopped_run_beside_a_whole_one_has_a_page(page, tmp_path):
    """The first stopped before its first layers were seen."""
    lines = (page.parent / "results.jsonl").read_text().splitlines()
    whole = next(one for one in map(json.loads, lines) if one["layers"])
    stopped = {**whole, "epochs": [], "layers": [], "passes": [], "density_log": [], "parts": {}}
    stopped["config"] = {**whole["config"], "seed": 77}
    for name, one in (("a.json", stopped), ("b.json", whole)):
        (tmp_path / name).write_text(json.dumps(one))
    shown = run(tmp_path / "a.json", tmp_path / "b.json", "-o", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.output
    (tmp_path / "a.json").write_text(json.dumps({"config": {}, "epochs": [], "passes": []}))
    shown = run(tmp_path / "a.json")
    assert shown.exit_code == 2 and "a.json to be the results of a run" in shown.output


def test_a_run_that_was_stopped_has_a_page_without_accuracy():
    (point,) = aggregate.group_runs([result(0, 0.5, epochs=2)])
    assert point.accuracy is None
    assert figures.frontier([point]).rows[0][5] == "-"


def test_times_are_means_over_epochs():
    """Dense steps of 1 and 3 seconds, pruned ones of 1 and 1: 2 times faster, not 3."""
    dense, pruned = result(0, 1.0), result(0, 1.0, 0.9)
    dense["epochs"].append({**dense["epochs"][0], "step_seconds": 6.0, "step_cpu_seconds": 3.0})
    pruned["epochs"] *= 2
    for each in (dense, pruned):
        each["config"]["epochs"] = 2
    _, found = aggregate.group_runs([dense, pruned])
    assert (found.speedup.mean, found.cpu_speedup.mean) == (2, 2)


def test_the_table_holds_the_numbers(tmp_path):
    """Accuracies .5, .8 and .4, .8: means 65 +- 15 and 60 +- 20; differences -.1 and 0: -5 points,
    error 5, and t = 12.706 for one degree of freedom reaches 63.53 to either side."""
    results = [result(0, 0.5), result(1, 0.8), result(0, 0.4, 0.9), result(1, 0.8, 0.9)]
    lines = [json.dumps({"run": str(i), **r}) for i, r in enumerate(results)]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    shown = run(tmp_path, "--markdown")
    assert shown.exit_code == 0
    _, _, dense, pruned, _, setting = shown.output.splitlines()
    assert dense == "| plain, dense | 2 | 65.00 ± 15.00 | - | 0.500 | 1.000, 0.200 | - | 3.00x |"
    assert pruned.startswith("| plain, rate 0.9 | 2 | 60.00 ± 20.00 | -5.00 (-68.53 to +58.53) |")
    assert "| 1.12 ± 0.12x |" in pruned
    assert setting.startswith(
        "- plain: epochs 1, steps per epoch 7, batch size 8, peak learning rate 0.1"
    )


def test_a_run_that_learnt_nothing_does_not_hide_the_others():
    """It is out of the frame, which says so, and in the table."""
    grouped = aggregate.group_runs([result(0, 0.9), result(0, 0.89, 0.9), result(0, 0.1, 0.99)])
    accuracy, less = figures.frontier(grouped), figures.differences(grouped)
    low, high = accuracy.layout["yaxis"]["range"]
    assert 90 - 1.2 * figures.FARTHEST_SHOWN < low < 89 and 90 < high < 92
    low, high = less.layout["xaxis"]["range"]
    assert -1.2 * figures.FARTHEST_SHOWN < low < -1 and 0 < high < 2
    for figure in (accuracy, less):
        assert "percentage points away are only in the table" in figure.text
        assert any("rate 0.99" in row for row in figure.rows)
    assert "only in the table" not in figures.frontier(grouped[:2]).text


def test_results_that_told_less_do_not_count_where_others_told_more():
    """Sparse 6 with compression in it, and 3 beside 2: the latter; where only the former is, it."""
    parts = dict(dense=1.0, prune=1.0, normalize=1.0, other=1.0)
    old, new = {**parts, "sparse": 6.0}, {**parts, "sparse": 3.0, "compress": 2.0}
    both = [{**result(seed, 0.5), "parts": each} for seed, each in ((0, old), (1, new))]
    assert cost_figures.time_parts(aggregate.group_runs(both)).rows[0][2:4] == ("3.00", "2.00")
    figure = cost_figures.time_parts(aggregate.group_runs(both[:1]))
    assert figure.rows[0][2:4] == ("6.00", "0.00")
    assert "Where no compression is shown, it is in the sparse" in figure.text


# The page in a browser


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_page_in_a_browser(page, width, dark):
    found = browser.look(page, width, dark)
    assert found["problems"] == [] and found["console"] == []
    assert found["width"] == width and found["scroll"] <= width
    assert [chart["key"] for chart in found["charts"]] == [f"chart-{key}" for key in FIGURES]
    for chart in found["charts"]:
        assert chart["marks"] > 0 and chart["beyond"] <= 0, chart
    brightness = [sum(map(int, re.findall(r"\d+", found[each])[:3])) for each in ("ink", "paper")]
    assert (brightness[0] > brightness[1]) == dark


def test_a_choice_and_a_filter_show_their_part(page):
    """By hand in the browser: plain's cycles, and of its layers those with a 3 in their name."""
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


def test_page_needs_no_network_and_shows_text_as_text(page):
    text = page.read_text()
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=.(?!data:|#)", outside)
    assert "expected &lt;b&gt;finite&lt;/b&gt;, got nan" in outside
    for what in ("command", "machine", "sparsetrain", "torch", "Python", "data", "setting"):
        assert f"<dt>{what}</dt>" in outside
    assert outside.count("<details>") == len(FIGURES)


def test_tables_hold_the_numbers(page, folder):
    results = read_results(folder / "results.jsonl")
    text = page.read_text()
    for one in results[:-1]:
        for record in one["density_log"]:
            assert f"<td>{record['name']}</td><td>1</td>" in text
    accuracies = [
        one["epochs"][0]["test_accuracy"] * 100
        for one in results
        if one["config"]["model"] == "plain" and one["config"]["rate"] == 0.9
    ]
    mean, error = sum(accuracies) / 2, abs(accuracies[0] - accuracies[1]) / 2
    assert f"<td>{mean:.2f} ± {error:.2f}</td>" in text


def test_a_single_run_makes_a_page(tmp_path, folder):
    (tmp_path / "run.json").write_text(json.dumps(read_results(folder / "results.jsonl")[1]))
    page = tmp_path / "one.html"
    assert run(tmp_path / "run.json", "-o", page).exit_code == 0
    keys = [chart["key"] for chart in browser.look(page, 390)["charts"]]
    assert keys == [f"chart-{key}" for key in FIGURES if key != "differences"]


# Refusals


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


def test_a_full_disk_is_one_sentence(folder):
    result = run(folder, "-o", "/dev/full")
    assert result.exit_code == 2
    assert "expected /dev/full to be written, got No space left on device" in result.output


def test_what_is_missing_is_named(tmp_path, folder, monkeypatch):
    from sparsetrain.experiments.report import page as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "plotly" else name)
    result = run(folder, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "to be installed, got no plotly. Run pip install plotly" in result.stderr
    with pytest.raises(ModuleNotFoundError, match="got no plotly"):
        report.check_installed()
