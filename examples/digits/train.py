"""Train a small convolutional network on scikit-learn's 8x8 digits, in numpy, and write it as ONNX.

    python examples/digits/train.py        # some seconds; needs `pip install 'edgec[train]'`

Writes, beside this file: digits.onnx (input "image" [1, 1, 8, 8], pixels 0..1; output "scores" [1, 10], which sum
to 1) and samples.h (20 held-out images for main.c).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

HERE = Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 360  # a fifth
EPOCHS = 20
BATCH = 32
CHANNELS = (8, 16, 32)


# ---- Layers: forward returns what backward needs --------------------------------------------------------------------
def windows(x: Array) -> Array:
    """[N, C, H, W] -> [N, H, W, C * 9]: the 3x3 neighbourhood of each pixel, zeros outside."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def conv(x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    columns = windows(x)
    return (columns @ weight.reshape(len(weight), -1).T + bias).transpose(0, 3, 1, 2), columns


def conv_back(grad: Array, columns: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients of input, weight and bias. The input's is a convolution with the flipped, transposed weight."""
    last = grad.transpose(0, 2, 3, 1)
    d_weight = np.tensordot(last, columns, axes=((0, 1, 2), (0, 1, 2))).reshape(weight.shape)
    flipped = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    d_input, _ = conv(grad, flipped, np.zeros(weight.shape[1], np.float32))
    return d_input, d_weight, grad.sum((0, 2, 3))


def pool(x: Array) -> tuple[Array, Mask]:
    """2x2 maxima, and which pixels they are."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    best = blocks.max((3, 5), keepdims=True)
    return best[:, :, :, 0, :, 0], blocks == best


def pool_back(grad: Array, chosen: Mask) -> Array:
    spread = grad[:, :, :, None, :, None] * chosen
    n, c, h, _, w, _ = spread.shape
    return spread.reshape(n, c, 2 * h, 2 * w)


def softmax(x: Array) -> Array:
    exp = np.exp(x - x.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


# ---- Network: (conv, relu) (conv, relu, pool) (conv, relu, pool) dense softmax --------------------------------------
def initial(rng: np.random.Generator) -> list[Array]:
    """Weight and bias of each layer (He et al., 2015)."""
    shapes = [(o, i, 3, 3) for i, o in zip((1, *CHANNELS), CHANNELS, strict=False)] + [(10, CHANNELS[-1] * 4)]
    out: list[Array] = []
    for shape in shapes:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        out += [(rng.standard_normal(shape) * scale).astype(np.float32), np.zeros(shape[0], np.float32)]
    return out


def scores(params: list[Array], x: Array) -> Array:
    return forward(params, x)[0]


def forward(params: list[Array], x: Array) -> tuple[Array, list[tuple[Array, Array, Mask | None]], Array]:
    """Scores, what each convolution must remember, and the dense layer's input."""
    memory = []
    for layer in range(3):
        x, columns = conv(x, params[2 * layer], params[2 * layer + 1])
        x = np.maximum(x, 0)
        active, chosen = x, None
        if layer:
            x, chosen = pool(x)
        memory.append((columns, active, chosen))
    flat = x.reshape(len(x), -1)
    return softmax(flat @ params[6].T + params[7]), memory, flat


def gradients(params: list[Array], x: Array, labels: Labels) -> list[Array]:
    """Of the mean cross-entropy, in the order of `params`."""
    probability, memory, flat = forward(params, x)
    error = (probability - np.eye(10, dtype=np.float32)[labels]) / np.float32(len(x))
    out = [error.T @ flat, error.sum(0)]
    grad = (error @ params[6]).reshape(len(x), CHANNELS[-1], 2, 2)
    for layer in (2, 1, 0):
        columns, active, chosen = memory[layer]
        if chosen is not None:
            grad = pool_back(grad, chosen)
        grad, d_weight, d_bias = conv_back(grad * (active > 0), columns, params[2 * layer])
        out = [d_weight, d_bias, *out]
    return out


@threadpool_limits.wrap(limits=1)  # matrices so small that threads only wait
def train(images: Array, labels: Labels, epochs: int = EPOCHS) -> list[Array]:
    """Adam (Kingma and Ba, 2014) with a linearly falling step."""
    rng = np.random.default_rng(SEED)
    params = initial(rng)
    mean = [np.zeros_like(p) for p in params]
    square = [np.zeros_like(p) for p in params]
    steps = epochs * (len(images) // BATCH)
    for step in range(steps):
        pick = rng.integers(0, len(images), BATCH)
        rate = 3e-3 * (1 - step / steps)
        for k, grad in enumerate(gradients(params, images[pick], labels[pick])):
            mean[k] = 0.9 * mean[k] + 0.1 * grad
            square[k] = 0.999 * square[k] + 0.001 * grad**2
            unbiased = mean[k] / (1 - 0.9 ** (step + 1)), square[k] / (1 - 0.999 ** (step + 1))
            params[k] = (params[k] - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)).astype(np.float32)
    return params


# ---- Files ----------------------------------------------------------------------------------------------------------
def to_onnx(params: list[Array]) -> onnx.ModelProto:
    nodes, value = [], "image"
    for layer in range(3):
        name = f"conv{layer + 1}"
        weights = [f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", [value, *weights], [name], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [name], [f"relu{layer + 1}"], f"relu{layer + 1}"))
        value = f"relu{layer + 1}"
        if layer:
            pooled = f"pool{layer}"
            nodes.append(helper.make_node("MaxPool", [value], [pooled], pooled, kernel_shape=[2, 2], strides=[2, 2]))
            value = pooled
    nodes.append(helper.make_node("Flatten", [value], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"], "dense", transB=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1))
    names = [f"{layer}.{part}" for layer in ("conv1", "conv2", "conv3", "dense") for part in ("weight", "bias")]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(p, name) for p, name in zip(params, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="edgec")
    onnx.checker.check_model(model, full_check=True)
    return model


def samples_h(images: Array, labels: Labels) -> str:
    """Grey levels 0..16, one image per line."""
    rows = [f"    {{{', '.join(str(round(float(v) * 16)) for v in image.ravel())}}}," for image in images]
    return "\n".join(
        [
            "/* Held-out images of the digits data set (UCI, E. Alpaydin and C. Kaynak), grey levels 0..16.",
            " * Written by train.py. */",
            f"enum {{ N_SAMPLES = {len(images)}, N_PIXELS = 64, N_DIGITS = 10 }};",
            f"static const unsigned char sample_labels[N_SAMPLES] = {{{', '.join(map(str, labels))}}};",
            "static const unsigned char sample_pixels[N_SAMPLES][N_PIXELS] = {",
            *rows,
            "};",
            "",
        ]
    )


def main() -> None:
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    images = (data.images[order, None] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    params = train(images[:-HELD_OUT], labels[:-HELD_OUT])
    right = scores(params, images[-HELD_OUT:]).argmax(1) == labels[-HELD_OUT:]
    print(f"held-out accuracy {right.mean():.4f} ({right.sum()} of {len(right)})")

    onnx.save(to_onnx(params), HERE / "digits.onnx")
    (HERE / "samples.h").write_text(samples_h(images[-20:], labels[-20:]))


if __name__ == "__main__":
    main()
