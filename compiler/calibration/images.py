"""Pictures as calibration data: how a file becomes the numbers that a model takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgecError, nearest
from ..ir import Type
from ..ops.common import Tensor

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


@dataclass(frozen=True)
class Preparation:
    """pixel 0 .. 255 -> (pixel * scale - mean) / std, in the order of channels; `fit` says how sizes meet.

    fit  crop: the shorter side to size / 0.875, then the middle; stretch; letterbox: whole, 114 around it
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = "rgb"
    fit: str = "crop"


NAMED = {
    "raw": Preparation(),
    "unit": Preparation(scale=1 / 255),
    "tf": Preparation(scale=1 / 127.5, mean=(1.0,)),
    "torch": Preparation(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "bgr": Preparation(mean=(104.0, 117.0, 123.0), order="bgr"),
    "yolox": Preparation(order="bgr", fit="letterbox"),
}


def preparation(text: str) -> Preparation:
    """`torch`, or `tf,fit=stretch`, or `scale=0.0039,mean=0.5/0.5/0.5,order=bgr`."""
    if not text:
        raise EdgecError(
            f"pictures need --calib-prep: one of {', '.join(NAMED)}, or scale=..., mean=R/G/B, std=R/G/B, order=, fit="
        )
    made = Preparation()
    for word in text.split(","):
        key, equals, value = word.strip().partition("=")
        if not equals:
            if key not in NAMED:
                raise EdgecError(f"--calib-prep {text}: no preparation {key!r}{nearest(key, NAMED)}")
            made = NAMED[key]
            continue
        if key not in ("scale", "mean", "std", "order", "fit"):
            raise EdgecError(f"--calib-prep {text}: no setting {key!r}; expected scale, mean, std, order or fit")
        made = replace(made, **{key: _setting(key, value, text)})
    return made


def _setting(key: str, value: str, text: str) -> Any:
    choices = {"order": ("rgb", "bgr", "gray"), "fit": ("crop", "stretch", "letterbox")}.get(key)
    if choices:
        if value not in choices:
            raise EdgecError(f"--calib-prep {text}: {key}={value}; expected one of {', '.join(choices)}")
        return value
    try:
        numbers = tuple(float(x) for x in value.split("/"))
    except ValueError:
        raise EdgecError(f"--calib-prep {text}: {key}={value}: expected numbers, such as 0.5/0.5/0.5") from None
    return numbers[0] if key == "scale" else numbers


def images(path: Path, t: Type, p: Preparation) -> Tensor:
    """A picture in the shape of an input: N, channels and size, in either order."""
    try:
        from PIL import Image
    except ImportError as error:
        raise EdgecError("pictures as calibration data need Pillow: pip install pillow") from error
    shape = t.shape[1:] if len(t.shape) == 4 else t.shape
    if len(shape) != 3:
        raise EdgecError(f"{path}: a picture does not fit an input {t}; expected [N, C, H, W] or [N, H, W, C]")
    first = shape[0] in (1, 3)
    channels, height, width = (shape[0], shape[1], shape[2]) if first else (shape[2], shape[0], shape[1])
    try:
        picture = Image.open(path).convert("L" if channels == 1 or p.order == "gray" else "RGB")
    except OSError as error:
        raise EdgecError(f"{path}: cannot be read as a picture: {error}") from error
    pixels: Tensor = np.asarray(_fitted(picture, width, height, p.fit), np.float32).reshape(height, width, -1)
    if p.order == "bgr":
        pixels = pixels[..., ::-1]
    pixels = (pixels * np.float32(p.scale) - np.asarray(p.mean, np.float32)) / np.asarray(p.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if first else pixels)


def _fitted(picture: Any, width: int, height: int, fit: str) -> Any:
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    w, h = picture.size
    if fit == "stretch":
        return picture.resize((width, height), bilinear)
    if fit == "letterbox":
        ratio = min(width / w, height / h)
        box = Image.new(picture.mode, (width, height), 114 if picture.mode == "L" else (114, 114, 114))
        box.paste(picture.resize((max(1, int(w * ratio)), max(1, int(h * ratio))), bilinear))
        return box
    ratio = max(width / w, height / h) / 0.875
    picture = picture.resize((max(width, round(w * ratio)), max(height, round(h * ratio))), bilinear)
    left, top = (picture.size[0] - width) // 2, (picture.size[1] - height) // 2
    return picture.crop((left, top, left + width, top + height))
