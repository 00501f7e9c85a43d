"""The networks of benchmarks/cuda.py in PyTorch, from the libraries that publish them, and how it runs them.

Weights are random: for speed alone. Each network takes what the ONNX graph of the same name takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Run = Callable[[], Any]


def network(name: str) -> nn.Module:
    """The module of a name in `NETWORKS`."""
    return NETWORKS[name]().eval()


def inputs(name: str, batch: int) -> tuple[torch.Tensor, ...]:
    """Example inputs on the CPU."""
    if name == "distilbert":
        return torch.randint(0, 30000, (batch, 128)), torch.ones(batch, 128, dtype=torch.int64)
    side = 416 if name == "yolov3_416" else 224
    return (torch.randn(batch, 3, side, side),)


def _timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False)

    return make


def _distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = DistilBertForSequenceClassification(DistilBertConfig())

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.net(input_ids=ids, attention_mask=mask).logits

    return Logits()


class _Unit(nn.Sequential):
    """Convolution, normalization, leaky rectifier."""

    def __init__(self, i: int, o: int, k: int, s: int = 1) -> None:
        super().__init__(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1))


class _Residual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_Unit(c, c // 2, 1), _Unit(c // 2, c, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Yolov3(nn.Module):
    """Darknet-53 with three heads (Redmon and Farhadi, 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _Unit(3, 32, 3)
        self.stages = nn.ModuleList()
        c = 32
        for repeats in (1, 2, 8, 8, 4):
            self.stages.append(nn.Sequential(_Unit(c, 2 * c, 3, 2), *(_Residual(2 * c) for _ in range(repeats))))
            c *= 2
        self.necks, self.heads, self.laterals = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, c in ((1024, 512), (768, 256), (384, 128)):
            five = [_Unit(i, c, 1), _Unit(c, 2 * c, 3), _Unit(2 * c, c, 1), _Unit(c, 2 * c, 3), _Unit(2 * c, c, 1)]
            self.necks.append(nn.Sequential(*five))
            self.heads.append(nn.Sequential(_Unit(c, 2 * c, 3), nn.Conv2d(2 * c, 255, 1)))
            self.laterals.append(nn.Sequential(_Unit(c, c // 2, 1), nn.Upsample(scale_factor=2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        found = []
        for k, (neck, head) in enumerate(zip(self.necks, self.heads, strict=True)):
            x = neck(x)
            found.append(_boxes(head(x)))
            if k < 2:
                x = torch.cat([self.laterals[k](x), kept[3 - k]], 1)
        return torch.cat(found, 1)


def _boxes(x: torch.Tensor) -> torch.Tensor:
    n, _, h, w = x.shape
    y = x.reshape(n, 3, 85, h, w).permute(0, 1, 3, 4, 2)
    parts = [y[..., :2].sigmoid(), y[..., 2:4].clamp(-8, 8).exp(), y[..., 4:].sigmoid()]
    return torch.cat(parts, -1).reshape(n, -1, 85)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": _timm("resnet50"),
    "mobilenetv2_100": _timm("mobilenetv2_100"),
    "yolov3_416": Yolov3,
    "distilbert": _distilbert,
    "vit_tiny_patch16_224": _timm("vit_tiny_patch16_224"),
}


def eager(name: str, batch: int, half: bool) -> Run:
    """Eager PyTorch, channels last, its kernels recorded once as a CUDA graph."""
    net, args = _on_device(name, batch, half)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.inference_mode():
        for _ in range(3):
            net(*args)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.inference_mode():
        kept = net(*args)
    return lambda: (graph.replay(), kept)


def tuned(name: str, batch: int, half: bool) -> Run:
    """`torch.compile` at its best: max-autotune, which records a CUDA graph itself."""
    net, args = _on_device(name, batch, half)
    compiled = torch.compile(net, mode="max-autotune")

    def run() -> Any:
        with torch.inference_mode():
            return compiled(*args)

    for _ in range(3):
        run()
    return run


def _on_device(name: str, batch: int, half: bool) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    net = network(name).cuda()
    args = tuple(x.cuda() for x in inputs(name, batch))
    if half:
        net = net.half()
        args = tuple(x.half() if x.is_floating_point() else x for x in args)
    if any(x.dim() == 4 for x in args):
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        args = tuple(x.contiguous(memory_format=torch.channels_last) for x in args)
    return net, args
