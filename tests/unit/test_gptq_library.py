"""Importing gptqmodel leaves the process as it was: environment, logging, threads that wake, output."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import save_llama
from qprof.errors import MissingExtraError
from qprof.runtimes.torch_lm import library

SCRIPT = """
import json, logging, os, resource, sys, time, warnings
import numpy as np
import torch, torch._dynamo, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
from qprof.record.sections import ModelSection
from qprof.runtimes import base
from qprof.runtimes.torch_lm.library import import_gptqmodel
from qprof.runtimes.torch_lm.runtime import RUNTIME
from qprof.runtimes.torch_lm.sections import GPTQVariant, TorchLMOptions

def state():
    root = logging.getLogger()
    return {
        "environment": dict(os.environ),
        "logging": [root.level, [repr(handler) for handler in root.handlers]],
        "warnings": len(warnings.filters),
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
        "precision": [torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "init": torch.nn.init.normal_.__module__,
    }

torch.set_num_threads(1)
before = state()
gptqmodel = import_gptqmodel()
assert import_gptqmodel() is gptqmodel
imported = state()
rows = [[np.random.default_rng(seed).integers(2, 258, (1, 32))] for seed in range(4)]
maker = RUNTIME.maker(ModelSection(path=sys.argv[1]), "cpu")
made = maker.make(GPTQVariant(name="gptq-4bit"), base.Calibration(lambda: rows, "d"))
quantized = state()
import accelerate
from accelerate.utils import modeling
files = []
written = modeling.offload_weight
modeling.offload_weight = lambda weight, name, *rest, **more: files.append(name) or written(weight, name, *rest, **more)
loads = accelerate.load_checkpoint_in_model
model = RUNTIME.load(made.path, TorchLMOptions(**made.run))
assert accelerate.load_checkpoint_in_model is loads
addresses = [tensor.data_ptr() % 64 for tensor in model.module.parameters()]
loaded = state()
switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
time.sleep(1.5)
wakes = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
states = {"before": before, "imported": imported, "quantized": quantized, "loaded": loaded}
with open(sys.argv[2], "w") as stream:
    json.dump({**states, "wakes": wakes, "written": files, "addresses": addresses}, stream)
"""


@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")
def test_import_quantization_and_loading_go_unnoticed(tmp_path: Path) -> None:
    ours = ("HF_HOME", "GPTQMODEL_CPU_WORKERS", "TORCHDYNAMO_DISABLE", "PYTORCH_ALLOC_CONF", "CUDA_DEVICE_ORDER")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment["QPROF_CACHE"] = str(tmp_path / "cache")
    here, result = tmp_path / "here", tmp_path / "result.json"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(save_llama(tmp_path / "llama")), str(result)],
        env=environment,
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for noise in ("GPT-QModel", "GIL", "INFO", "|", "█", "Quantiz", "elapsed", "Writing"):
        assert noise not in done.stderr, done.stderr
    assert list(here.iterdir()) == []
    found = json.loads(result.read_text(encoding="utf-8"))
    settings = {"GPTQMODEL_CPU_WORKERS": "2", "TORCHDYNAMO_DISABLE": "1"}
    found["before"]["environment"] |= settings
    assert found["imported"] == found["before"]
    assert found["quantized"] == found["before"]
    assert found["loaded"] == found["before"]
    assert found["written"] == [], "a weight went through a file of its own"
    assert set(found["addresses"]) == {0}
    assert found["wakes"] <= 5  # the thread that redraws progress bars would wake 15 times


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gptqmodel" else object())
    with pytest.raises(MissingExtraError, match=r"language models need gptqmodel: pip install 'qprof\[gptq\]'"):
        library.require()


def test_versions_leave_out_what_is_not_installed() -> None:
    assert "no-such-distribution" not in library.versions(("pytest", "no-such-distribution"))
    assert library.versions(("pytest",))["pytest"] == pytest.__version__


def test_unquantized_models_need_no_gptqmodel(monkeypatch: pytest.MonkeyPatch) -> None:
    from qprof.runtimes.torch_lm import runtime

    imported: list[str] = []
    monkeypatch.setattr(runtime.library, "import_gptqmodel", lambda: imported.append("gptqmodel"))
    runtime.RUNTIME.preload({})
    assert imported == ["gptqmodel"]
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    runtime.RUNTIME.preload({})
    assert imported == ["gptqmodel"]


def test_the_number_of_workers_is_set_whenever_gptqmodel_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    library.import_gptqmodel()
    monkeypatch.delenv("GPTQMODEL_CPU_WORKERS", raising=False)
    library.import_gptqmodel()
    assert os.environ["GPTQMODEL_CPU_WORKERS"] == "2"
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "7")
    library.import_gptqmodel()
    assert os.environ["GPTQMODEL_CPU_WORKERS"] == "7"
