"""The digits example: the committed model is sound, and the training script makes such a model."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 1, 8, 8] with pixels 0..1, and labels, from samples.h."""
    text = (DIGITS / "samples.h").read_text()
    lists = [[int(n) for n in body.split(",")] for body in re.findall(r"\{([\d, ]+)\}", text)]
    return np.array(lists[1:], np.float32).reshape(-1, 1, 8, 8) / 16, np.array(lists[0])


def training() -> ModuleType:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("train", DIGITS / "train.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_model_reads_the_samples() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = onnx.load(DIGITS / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(str(DIGITS / "digits.onnx"), providers=["CPUExecutionProvider"])
    images, labels = samples()
    read = [int(session.run(["scores"], {"image": image[None]})[0].argmax()) for image in images]
    assert len(labels) == 20
    assert np.mean(read == labels) >= 0.95


def test_gradients_are_those_of_the_loss() -> None:
    train = training()
    rng = np.random.default_rng(0)
    params = [p.astype(np.float64) for p in train.initial(rng)]
    images, labels = rng.random((4, 1, 8, 8)), np.array([1, 2, 3, 4])

    def loss() -> float:
        return float(-np.log(train.scores(params, images)[range(4), labels]).mean())

    for param, gradient in zip(params, train.gradients(params, images, labels), strict=True):
        place = np.unravel_index(np.abs(gradient).argmax(), param.shape)
        here, step = param[place], 1e-5
        param[place] = here + step
        above = loss()
        param[place] = here - step
        below = loss()
        param[place] = here
        assert gradient[place] == pytest.approx((above - below) / (2 * step), rel=1e-4)


@pytest.mark.long
def test_training_reaches_97_percent_of_held_out_images() -> None:
    train = training()
    data = train.load_digits()
    order = np.random.default_rng(train.SEED).permutation(len(data.target))
    images, labels = (data.images[order, None] / 16).astype(np.float32), data.target[order]
    params = train.train(images[: -train.HELD_OUT], labels[: -train.HELD_OUT])
    assert (train.scores(params, images[-train.HELD_OUT :]).argmax(1) == labels[-train.HELD_OUT :]).mean() >= 0.97
