"""The benchmarks run, and the harness computes what it says. No time is asserted: the machine may be busy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.conversion import chain
from benchmarks.harness import BENCHMARKS, Benchmark, Kind, Pair, Result, benchmark, measure
from benchmarks.report import as_markdown, as_text

ROOT = Path(__file__).parent.parent
CHEAP = ["grad-cam-last-layer-b1", "import", "conversion-100"]


class Clock:
    """A clock that only work moves; every round the machine is three times slower than in the one before."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, side: str, seconds: float):
        def call() -> None:
            rounds_before = len(self.calls) // 2
            self.calls.append(side)
            self.now += seconds * 3.0**rounds_before

        return call


def fake(kind: Kind, clock: Clock, ours: float, baseline: float | None, per: float = 1.0) -> Benchmark:
    pair = Pair(clock.work("A", ours), None if baseline is None else clock.work("B", baseline), per)
    return Benchmark("fake", lambda: pair, kind, 2.0, 5, "means")


def test_pairs_alternate_and_their_ratio_ignores_a_machine_that_slows_down():
    clock = Clock()
    result = measure(fake("ratio", clock, ours=3.0, baseline=2.0), clock=clock)
    assert "".join(clock.calls) == "AB" * (1 + 5), "a round to warm up, five that count"
    assert (result.low, result.figure, result.high) == pytest.approx((1.5, 1.5, 1.5))
    assert result.rounds == 5
    assert result.met is True


def test_a_difference_is_of_pairs_and_a_missed_goal_is_said():
    clock = Clock()
    result = measure(fake("difference", clock, ours=3.0, baseline=2.0), rounds=3, clock=clock)
    assert result.figure == pytest.approx(1.0 * 3**2)  # the middle one of rounds 1, 2, 3
    assert result.met is False
    assert re.search(r"\+9\.000 s .*<= \+2\.000 s +NO +3$", as_text([result]).splitlines()[1])


def test_without_a_baseline_the_figure_is_seconds_per_unit():
    clock = Clock()
    result = measure(fake("seconds", clock, ours=4.0, baseline=None, per=0.5), rounds=1, clock=clock)
    assert result.figure == result.ours / 0.5
    assert result.baseline is None


def test_a_short_call_is_repeated_until_the_clock_can_see_it():
    clock = Clock()
    calls = []

    def call() -> None:
        calls.append(0)
        clock.now += 0.001

    result = measure(Benchmark("fake", lambda: Pair(call, call), "ratio", None, 1, ""), clock=clock)
    assert len(calls) == pytest.approx(4 + 2 * 20, abs=2)
    assert result.ours == pytest.approx(0.001)
    assert result.met is None


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'import' is registered already"):
        benchmark("import", kind="ratio")(lambda: Pair(lambda: None))


def test_the_chain_is_a_valid_model_of_the_length_it_says():
    import onnx

    model = chain(7)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Add"] * 2 + ["Conv"] + [
        "GlobalAveragePool",
        "Flatten",
    ]


@pytest.mark.slow
def test_the_cheap_ones_run_and_every_table_has_their_rows(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    written = {kind: tmp_path / f"results.{kind}" for kind in ("json", "markdown")}
    arguments = [f"--{kind}={path}" for kind, path in written.items()]
    assert main([*CHEAP, "--rounds", "1", *arguments]) == 0
    content = json.loads(written["json"].read_text())
    rows = {row["name"]: row for row in content["results"]}
    assert list(rows) == CHEAP
    for row in rows.values():
        assert row["ours"] > 0
        assert row["baseline"] is None or row["baseline"] > 0
        assert row["kind"] == "difference" or row["figure"] > 0
        assert row["rounds"] == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["benchmark", *CHEAP]
    page = written["markdown"].read_text()
    assert sorted(re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE)) == sorted(CHEAP)
    assert str(tmp_path) not in page + written["json"].read_text(), "no path of this machine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imprt"], "no benchmark 'imprt'; did you mean 'import'"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
    ],
)
def test_a_wrong_argument_is_said(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_every_benchmark_says_what_it_means_and_stands_on_the_page():
    assert all(entry.means for entry in BENCHMARKS.values())
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE) == list(BENCHMARKS)
    for entry in BENCHMARKS.values():
        assert f"- `{entry.name}`: {entry.means}" in page


def test_a_row_of_markdown_has_as_many_cells_as_the_header():
    clock = Clock()
    result = measure(fake("seconds", clock, ours=1.0, baseline=None), clock=clock)
    table = [line for line in as_markdown([result], "command").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1


def test_the_page_keeps_rows_that_are_not_measured_anew():
    """In the registry's order, each with what the registry says of it."""
    first, second = (Result(n, "ratio", 0.004, 0.003, 0.006, 1.0, 250.0, 0.05, True, 3, "m") for n in [*BENCHMARKS][:2])
    page = as_markdown([first], "command", as_markdown([second], "command"))
    assert re.findall(r"^\| `(\S+)` \| .* \| 0\.004 \|", page, re.MULTILINE) == [first.name, second.name]
    assert f"- `{second.name}`: {BENCHMARKS[second.name].means}" in page  # the row of this run says "m"
