"""`remem demo` with its settings shrunken: everything it promises lies there, and its own hints work."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from remem.apps import cli
from remem.apps.battery import sets, showcase
from remem.apps.tracing import showcase as tracing
from remem.serving import StreamSession, TracingSession

FEWER = {
    "early": ["--data.max_cycle=20"],
    "network": ["--data.max_cycle=20", "--trainer.max_epochs=2", "--model.calibration_folds=2"],
    "online": [
        "--data.raised=[0]",
        "--trainer.max_epochs=1",
        "--model.d_model=8",
        "--model.calibration_folds=2",
    ],
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REMEM_DATA", raising=False)
        fit = showcase._fit
        patch.setattr(showcase, "_fit", lambda folder, name, *words: fit(folder, name, *words, *FEWER[name]))
        patch.setattr(showcase, "BESIDE", ("ridge",))
        many = sets.simulate_cycles
        patch.setattr(sets, "simulate_cycles", lambda n, seed: many(n // 4, seed=seed))
        return out, showcase.showcase(out)


def test_rows_are_sorted_by_who_wins(shown):
    _, rows = shown
    early = [row for row in rows if row["model"] in ("ensemble (default)", "Aaren", "ridge", "mean log life")]
    assert [row["mape"] for row in early] == sorted(row["mape"] for row in early)
    assert {row["model"] for row in early} == {"ensemble (default)", "Aaren", "ridge", "mean log life"}
    assert {row["cells"] for row in early} == {20}
    (online,) = [row for row in rows if row["model"] == "running features"]
    assert online["cells"] == 5


def test_one_page_shows_every_part(shown):
    page = (shown[0] / "report.html").read_text()
    for heading in (
        "All models",
        "Production, without torch",
        "One cell, streamed",
        "Cycle life",
        "Remaining life",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/png;base64,") == 3 + 3 + 5  # two early reports and an online one


def test_its_hints_work_as_they_are_printed(shown, tmp_path, capsys):
    out, _ = shown
    assert (
        cli.main(
            [
                "predict",
                f"{out}/early/bundle",
                f"{out}/new_cells.parquet",
                "-o",
                str(tmp_path / "lives.parquet"),
            ]
        )
        == 0
    )
    assert pl.read_parquet(tmp_path / "lives.parquet").equals(pl.read_parquet(out / "lives.parquet"))
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    with (out / "cycles.jsonl").open() as lines:
        done = subprocess.run(
            [sys.executable, "-c", run, "stream", f"{out}/online/bundle"],
            stdin=lines, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    session = StreamSession(out / "online" / "bundle")
    rows = [json.loads(line) for line in (out / "cycles.jsonl").read_text().splitlines()]
    wanted = [session.update(row["cell_id"], row)["rul"] for row in rows]
    np.testing.assert_allclose([answer["rul"] for answer in answers], wanted, rtol=1e-6)
    assert len(answers) > 200


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "tracing"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REMEM_DATA", raising=False)
        many = tracing.simulate_log
        patch.setattr(
            tracing, "simulate_log", lambda n, *sizes, **words: many(max(n // 4, 1), *sizes, **words)
        )
        patch.setattr(tracing, "BESIDE", ("pfa",))
        fit = tracing.run
        patch.setattr(
            tracing, "run", lambda words: fit([*words, "--trainer.max_epochs=1", "--model.d_model=8"])
        )
        return out, tracing.showcase(out)


def test_students_are_forecast_beside_the_truth(traced):
    out, rows = traced
    assert {row["model"] for row in rows} > {"stack (default)", "pfa", "true probability"}
    assert [row["auc"] for row in rows] == sorted((row["auc"] for row in rows), reverse=True)
    assert max(rows, key=lambda row: row["auc"])["model"] == "true probability"
    page = (out / "report.html").read_text()
    assert "<h2>All models</h2>" in page
    assert "<h2>One student, streamed</h2>" in page


def test_the_hint_for_a_student_works_as_it_is_printed(traced):
    out, _ = traced
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    with (out / "answers.jsonl").open() as lines:
        done = subprocess.run(
            [sys.executable, "-c", run, "stream", f"{out}/bundle"],
            stdin=lines, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    session = TracingSession(out / "bundle")
    for line, told in zip(
        (out / "answers.jsonl").read_text().splitlines(), done.stdout.splitlines(), strict=True
    ):
        answer = json.loads(line)
        wanted = session.update(**answer)
        assert json.loads(told)["p_correct"] == pytest.approx(wanted["p_correct"], abs=1e-6)
