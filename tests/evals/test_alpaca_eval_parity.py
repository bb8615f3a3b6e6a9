"""Every published number of MT-Bench and AlpacaEval that there are files for, and the originals' defects, rebuilt: benchmarks/parity.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def parity(shared: Path) -> dict[str, object]:
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks" / "parity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return {table.name: table for table in module.parity(shared / "data", quick=True)}


def test_every_claim_holds(parity: dict[str, object]) -> None:
    failing = {name: table.rows for name, table in parity.items() if not table.holds}  # type: ignore[attr-defined]
    assert not failing
    figures = {name: table.figures for name, table in parity.items()}  # type: ignore[attr-defined]
    assert figures["win rates"]["files"] == 5 and figures["judgments"] == {"rows": 960, "strict": 960, "compatible": 960}
    assert figures["presentation order"] == {"pairs": 4024, "completions": 1603}
    assert figures["published weights"]["exact"] >= 194 and set(figures["published weights"]["others"]) == {"NullModel", "dbrx-instruct"}
    assert figures["judge's prompts"]["equal"] >= 600 and figures["judge's prompts"]["back"] == 960
    assert figures["refits"]["largest_difference"] < 0.2


def test_the_published_rate_by_the_commands(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shared / "data"
    path = data / "alpaca_eval_parity/gpt35_turbo_instruct/weighted_alpaca_eval_gpt4_turbo/annotations.json.gz"
    board = data / "eval/alpaca_eval/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    rates = {}
    for options in ((), ("--compatible",)):
        with pytest.raises(SystemExit) as ended:
            main(["score", "alpaca-eval", str(path), "--leaderboard", str(board), "--json", *options])
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert ended.value.code == 0 and found["n_total"] == 804 and abs(found["win_rate"] - 8.462446504415423) < 1e-9
        assert "1 of AlpacaEval's 805 instructions is missing, the first is number 410, counted from 1" in err
        rates[bool(options)] = found["length_controlled_winrate"]
        if not options:
            # its weights were fitted with shifted difficulties; fitted with each row's own, the rate is another
            assert "fits a file that lacks rows with shifted difficulties" in err
            assert 14 < found["length_controlled"]["fitted"]["rate"] < 16
    assert rates[True] == pytest.approx(17.72780108286588, abs=1e-6) and rates[False] == pytest.approx(17.721303, abs=1e-6)
    with pytest.raises(SystemExit):
        main(["score", "mt-bench", str(data / "alpaca_eval_parity/mt_bench/model_judgment/gpt-4_single.jsonl.gz"), "--json"])
    found = json.loads(capsys.readouterr().out)["phi-3-dpo"]
    assert (found["score"], found["turn_1"], found["turn_2"], found["n"]) == (8.2, 8.3625, 8.0375, 160)


def test_the_script_says_where_there_is_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks/parity.py", tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "no such file" in done.stderr
