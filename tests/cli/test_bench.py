import json
from pathlib import Path

from typer.testing import CliRunner

from curate.cli.main import app


def test_bench_noise_compares_filters_and_writes_a_page_and_json(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n % 25}", "chosen": f"a careful answer {n} " * 9, "rejected": f"hm {n}"} for n in range(100)]
    data, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["bench", "noise", str(data), "--rates", "0,0.3", "--kinds", "symmetric", "--seeds", "1", "--out", str(out)]
    told = CliRunner().invoke(app, [*asked, "--methods", "untreated,trimmed,oracle"])
    assert told.exit_code == 0, told.output
    body = json.loads((out / "noise.json").read_text())
    assert [(row["rate"], row["method"]) for row in body["summary"]] == [
        (rate, method) for rate in (0.0, 0.3) for method in ("untreated", "trimmed", "oracle")
    ]
    assert body["summary"][4]["auc"] > 0.9 and body["summary"][0]["auc"] is None
    page = (out / "noise.html").read_text()
    assert page.count("<svg") == 4 and "http" not in page


def test_a_method_that_is_none_is_wrong_use(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["bench", "noise", str(tmp_path), "--methods", "magic"])
    assert told.exit_code != 0 and "magic" in str(told.exception)
