"""The provider follows from the hardware."""

import pytest

from remem.serving import session


@pytest.fixture
def machine(monkeypatch):
    """Pretends that exactly these device nodes exist."""

    def with_nodes(*nodes):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(session.os.path, "exists", lambda path: path in nodes)

    return with_nodes


def test_gpu_is_found_by_its_driver(machine, monkeypatch):
    machine("/dev/nvidia0")
    assert session.gpu_is_there()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not session.gpu_is_there()
    machine()
    assert not session.gpu_is_there()


def test_without_a_gpu_only_the_cpu_is_asked(early_bundle, machine, capfd):
    machine()
    opened = session.open_session(early_bundle / "model.onnx")
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert capfd.readouterr().err == ""


def test_cuda_that_cannot_be_had_is_an_error(early_bundle):
    if session.gpu_is_there():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="device='cuda' was asked for"):
        session.open_session(early_bundle / "model.onnx", device="cuda")


def test_unknown_device_is_refused(early_bundle):
    with pytest.raises(ValueError, match="'auto', 'cpu' or 'cuda'"):
        session.open_session(early_bundle / "model.onnx", device="gpu")
