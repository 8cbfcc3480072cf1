"""A bundle is refused when anything about it is not as it was exported."""

import json

import pytest

from remem.serving import bundle
from remem.serving.bundle import open_bundle


def rewrite(folder, **changes):
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for key, value in changes.items():
        if value is None:
            del manifest[key]
        else:
            manifest[key] = value
    file.write_text(json.dumps(manifest))


def test_sound_bundle_opens(online_bundle):
    bundle = open_bundle(online_bundle)
    assert (bundle.task, bundle.kind, bundle.features) == ("online", "online_sequence", ("capacity_ah",))
    assert open_bundle(bundle) is bundle


@pytest.mark.parametrize("graph", ["window.onnx", "step.onnx"])
def test_changed_graph_is_refused(online_bundle, graph):
    file = online_bundle / graph
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{graph}: sha256"):
        open_bundle(online_bundle)


def test_missing_graph_is_refused(online_bundle):
    (online_bundle / "step.onnx").unlink()
    with pytest.raises(ValueError, match=r"step\.onnx is missing"):
        open_bundle(online_bundle)


def test_unlisted_graph_is_refused(online_bundle):
    listed = json.loads((online_bundle / "manifest.json").read_text())["files"]
    rewrite(online_bundle, files={"window.onnx": listed["window.onnx"]})
    with pytest.raises(ValueError, match=r"needs step\.onnx"):
        open_bundle(online_bundle)


def test_file_outside_the_folder_is_refused(early_bundle):
    listed = json.loads((early_bundle / "manifest.json").read_text())["files"]
    rewrite(early_bundle, files={**listed, "../online/step.onnx": "0" * 64})
    with pytest.raises(ValueError, match="plain names inside the folder"):
        open_bundle(early_bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2, this version of remem reads 1"),
        ({"schema_version": None}, "schema_version is None"),
        ({"task": None}, "key task is missing"),
        ({"files": ["model.onnx"]}, "files is .* wanted an object"),
        ({"task": "online"}, "task 'online' with input.kind 'early_tabular'"),
        ({"output": ["rul", "lo", "hi"]}, "gives .*cycle_life"),
        ({"app": "weather"}, "app is 'weather'; this version of remem serves battery, tracing, geometry"),
        ({"app": "tracing"}, "key spread is missing"),
        ({"input": {"kind": "early_tabular"}}, r"input\.features is missing"),
    ],
)
def test_manifest_outside_the_schema_is_refused(early_bundle, changes, message):
    rewrite(early_bundle, **changes)
    with pytest.raises(ValueError, match=message):
        open_bundle(early_bundle)


def test_what_is_no_bundle_says_so(tmp_path):
    with pytest.raises(ValueError, match="no such bundle folder"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no manifest\.json"):
        open_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{ half")
    with pytest.raises(ValueError, match="not valid JSON"):
        open_bundle(tmp_path)


def test_shipped_bundles_are_found_by_name_unless_a_folder_is_called_so(early_bundle, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    early_bundle.rename(shipped / "tsp")
    monkeypatch.setattr(bundle, "SHIPPED", shipped)
    monkeypatch.chdir(tmp_path)
    assert open_bundle("tsp").path == shipped / "tsp"
    with pytest.raises(ValueError, match=r"tps: no such bundle folder.*shipped with the package: tsp"):
        open_bundle("tps")
    with pytest.raises(ValueError, match="no such bundle folder"):
        open_bundle(tmp_path / "tsp")
    (tmp_path / "tsp").mkdir()
    with pytest.raises(ValueError, match=r"holds no manifest\.json"):
        open_bundle("tsp")


def test_graph_that_is_not_there_cannot_be_run(early_bundle):
    with pytest.raises(ValueError, match=r"no step\.onnx, only model\.onnx"):
        open_bundle(early_bundle).session("step.onnx")
