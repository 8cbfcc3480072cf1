"""One observation at a time equals the whole table, through restarts, interrupts and other cells."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from remem.serving import Predictor, StreamSession, states


def observation(cycle, capacity=1.0, **more):
    return {"cycle": cycle, "capacity_ah": capacity, **more}


def capacities(seed, n=40):
    return (
        (1.1 - 0.005 * np.arange(n) + 0.01 * np.random.default_rng(seed).standard_normal(n)).round(4).tolist()
    )


def play(session, cell, values, start=1):
    return [session.update(cell, observation(start + i, value))["rul"] for i, value in enumerate(values)]


def test_steps_give_the_numbers_of_the_whole_table(online_bundle):
    values = capacities(0)
    values[9] = None
    cycle = [i + 1 + (i > 20) * 5 for i in range(40)]
    session = StreamSession(online_bundle)
    got = [session.update("a", observation(c, value)) for c, value in zip(cycle, values, strict=True)]
    frame = pl.DataFrame({"cell_id": ["a"] * 40, "cycle": cycle, "capacity_ah": values})
    wanted = Predictor(online_bundle).predict(frame)
    for name in ("rul", "rul_lo", "rul_hi", "cycle_life"):
        np.testing.assert_allclose([answer[name] for answer in got], wanted[name], rtol=1e-5)
    assert [answer["cycle"] for answer in got] == cycle
    assert [i for i, answer in enumerate(got) if "missing_value" in answer["flags"]] == [9]
    assert [i for i, answer in enumerate(got) if "cycle_gap" in answer["flags"]] == [21]


def test_the_cycle_is_a_feature_as_in_the_table(make_online_bundle, tmp_path):
    bundle = make_online_bundle(tmp_path / "by_cycle", feature="cycle", scale=3.0)
    cycle = [4, 5, 9, 30]
    frame = pl.DataFrame({"cell_id": ["a"] * 4, "cycle": cycle, "capacity_ah": [1.0] * 4})
    session = StreamSession(bundle)
    got = [session.update("a", {"cycle": c})["rul"] for c in cycle]
    np.testing.assert_allclose(got, Predictor(bundle).predict(frame)["rul"], rtol=1e-6)
    np.testing.assert_allclose(got[-1], 3.0 * 12 + 30, rtol=1e-6)


def test_flags_of_one_observation(online_bundle):
    session = StreamSession(online_bundle)
    assert session.update("a", observation(1, 0.9))["flags"] == []
    assert session.update("a", observation(3, 0.87))["flags"] == ["already_failing", "cycle_gap"]
    for cycle, huge in ((4, float("inf")), (5, 1e300), (6, 10**400)):
        answer = session.update("a", observation(cycle, huge))
        assert answer["flags"] == ["infinite_value"]
    assert np.isfinite(answer["rul"])


def test_cells_do_not_touch_each_other(online_bundle):
    a, b = capacities(1), capacities(2)
    mixed = StreamSession(online_bundle)
    pairs = [
        (play(mixed, "a", [x], i + 1)[0], play(mixed, "b", [y], i + 1)[0])
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    ]
    assert [x for x, _ in pairs] == play(StreamSession(online_bundle), "a", a)
    assert [y for _, y in pairs] == play(StreamSession(online_bundle), "b", b)


def test_a_new_cell_starts_fresh_among_old_ones(online_bundle):
    session = StreamSession(online_bundle)
    play(session, "old", capacities(3))
    assert "new" not in session
    assert play(session, "new", [0.9]) == play(StreamSession(online_bundle), "only", [0.9])
    assert "new" in session
    assert len(session) == 2


def test_state_file_carries_over_a_restart(online_bundle, tmp_path):
    a, b = capacities(4), capacities(5)
    whole = StreamSession(online_bundle)
    wanted = play(whole, "a", a), play(whole, "7", b)
    before = StreamSession(online_bundle, tmp_path / "state.npz")
    play(before, "a", a[:25]), play(before, 7, b[:3])
    before.save(tmp_path / "state.npz")
    after = StreamSession(online_bundle, tmp_path / "state.npz")
    assert play(after, "a", a[25:], 26) == wanted[0][25:]
    assert play(after, "7", b[3:], 4) == wanted[1][3:]
    assert set(os.listdir(tmp_path)) == {"online", "state.npz"}


def test_an_empty_session_is_kept_too(online_bundle, tmp_path):
    StreamSession(online_bundle).save(tmp_path / "state.npz")
    assert len(StreamSession(online_bundle, tmp_path / "state.npz")) == 0


def test_memory_of_a_cell_does_not_grow(online_bundle, tmp_path):
    session = StreamSession(online_bundle)
    sizes = []
    for cycle in range(1, 301):
        session.update("a", observation(cycle, 1.0))
        if cycle in (10, 300):
            session.save(tmp_path / "state.npz")
            with np.load(tmp_path / "state.npz") as file:
                sizes.append(sum(file[name].nbytes for name in file.files if name.startswith("state.")))
    assert sizes == [session.state_bytes] * 2
    assert session.state_bytes == 12


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (observation(5), "after cycle 5"),
        (observation(2), "must move forward"),
        (observation(None), "cycle is None"),
        (observation(6.5), "whole number"),
        (observation(True), "whole number"),
        (observation(float("inf")), "whole number"),
        (observation(float("nan")), "whole number"),
        (observation(10**20), "whole number"),
        (observation(6, "much"), "capacity_ah"),
        ({"cycle": 6}, "capacity_ah"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(online_bundle, bad, message):
    session = StreamSession(online_bundle)
    play(session, "a", [1.1, 1.0, 0.9, 0.8, 0.7])
    with pytest.raises(ValueError, match=message):
        session.update("a", bad)
    assert (
        play(session, "a", [0.6], 6)
        == play(StreamSession(online_bundle), "b", [1.1, 1.0, 0.9, 0.8, 0.7, 0.6])[-1:]
    )


@pytest.mark.parametrize("cell", [None, True, 1.5, ["a"]])
def test_what_names_no_cell_is_refused(online_bundle, cell):
    session = StreamSession(online_bundle)
    with pytest.raises(ValueError, match="wanted its name"):
        session.update(cell, observation(1))
    assert len(session) == 0


def test_state_of_another_bundle_is_refused(online_bundle, make_online_bundle, tmp_path):
    session = StreamSession(online_bundle)
    play(session, "a", [1.0])
    session.save(tmp_path / "state.npz")
    other = make_online_bundle(tmp_path / "other", scale=999.0)
    with pytest.raises(ValueError, match="saved with bundle"):
        StreamSession(other, tmp_path / "state.npz")


def test_damaged_state_is_refused(online_bundle, tmp_path):
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match="not a state file"):
        StreamSession(online_bundle, tmp_path / "state.npz")


def test_interrupted_save_leaves_the_old_file(online_bundle, tmp_path, monkeypatch):
    session = StreamSession(online_bundle)
    play(session, "a", [1.0, 1.0])
    session.save(tmp_path / "state.npz")
    kept = (tmp_path / "state.npz").read_bytes()

    def torn(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(states.np, "savez", torn)
    with pytest.raises(KeyboardInterrupt):
        session.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_bytes() == kept
    assert set(os.listdir(tmp_path)) == {"online", "state.npz"}


def test_an_early_bundle_cannot_stream(early_bundle):
    with pytest.raises(ValueError, match="needs an online bundle"):
        StreamSession(early_bundle)


def remem_stream(*arguments, text=True):
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "stream", *map(str, arguments)]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=text)


def test_command_answers_line_by_line_and_survives_bad_ones(online_bundle):
    lines = [
        json.dumps({"cell_id": "a", **observation(1, 1.0)}),
        "not json",
        "",
        json.dumps({"cycle": 2, "capacity_ah": 1.0}),
        json.dumps({"cell_id": "a", **observation(2, 0.9)}),
    ]
    with remem_stream(online_bundle) as process:
        out, err = process.communicate("\n".join(lines) + "\n", timeout=60)
    answers = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 1
    assert "2 lines could not be used" in err
    assert [answer.get("line") for answer in answers] == [None, 2, 4, None]
    session = StreamSession(online_bundle)
    assert [answers[0]["rul"], answers[3]["rul"]] == play(session, "a", [1.0, 0.9])


def test_no_line_ends_the_stream(online_bundle):
    bad = [b"\xff\xfe", b"[" * 100_000, b'{"cell_id": null}', b"[]", b'{"cell_id": "a", "cycle": 1e999}']
    good = json.dumps({"cell_id": "a", **observation(1)}).encode()
    with remem_stream(online_bundle, text=False) as process:
        out, _ = process.communicate(b"\n".join([*bad, good]), timeout=60)
    answers = [json.loads(line) for line in out.splitlines()]
    assert ["error" in answer for answer in answers] == [True] * len(bad) + [False]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_command_keeps_the_state_when_interrupted(online_bundle, tmp_path, stop):
    values = capacities(6, 4)
    with remem_stream(online_bundle, "--state", tmp_path / "state.npz") as process:
        for i, value in enumerate(values[:2]):
            process.stdin.write(json.dumps({"cell_id": "a", **observation(i + 1, value)}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["cycle"] == i + 1
        process.send_signal(stop)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    resumed = StreamSession(online_bundle, tmp_path / "state.npz")
    assert play(resumed, "a", values[2:], 3) == play(StreamSession(online_bundle), "b", values)[2:]


def test_each_group_ends_at_its_own_capacity(online_bundle):
    file = online_bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["input"]["nominal_capacity_ah"] = {"full": 1.0, "half": 0.5}
    file.write_text(json.dumps(manifest))
    session = StreamSession(online_bundle)
    groups = {"a": "full", "b": "half", "c": "unknown", "d": ["no", "name"]}
    flags = {cell: session.update(cell, observation(1, 0.6, group=g))["flags"] for cell, g in groups.items()}
    assert flags == {"a": ["already_failing"], "b": [], "c": [], "d": []}
