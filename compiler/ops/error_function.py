"""The error function of arrays, to the precision of f64: the rational functions of fdlibm (Sun, 1993), by magnitude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .common import Tensor

BLOCK = 1 << 14  # elements that are worked on at a time, so that what is in between stays in the cache
PP = (
    1.28379167095512558561e-01,
    -3.25042107247001499370e-01,
    -2.84817495755985104766e-02,
    -5.77027029648944159157e-03,
    -2.37630166566501626084e-05,
)
QQ = (
    1.0,
    3.97917223959155352819e-01,
    6.50222499887672944485e-02,
    5.08130628187576562776e-03,
    1.32494738004321644526e-04,
    -3.96022827877536812320e-06,
)
ERX = 8.45062911510467529297e-01
PA = (
    -2.36211856075265944077e-03,
    4.14856118683748331666e-01,
    -3.72207876035701323847e-01,
    3.18346619901161753674e-01,
    -1.10894694282396677476e-01,
    3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)
QA = (
    1.0,
    1.06420880400844228286e-01,
    5.40397917702171048937e-01,
    7.18286544141962662868e-02,
    1.26171219808761642112e-01,
    1.36370839120290507362e-02,
    1.19844998467991074170e-02,
)
RA = (
    -9.86494403484714822705e-03,
    -6.93858572707181764372e-01,
    -1.05586262253232909814e01,
    -6.23753324503260060396e01,
    -1.62396669462573470355e02,
    -1.84605092906711035994e02,
    -8.12874355063065934246e01,
    -9.81432934416914548592e00,
)
SA = (
    1.0,
    1.96512716674392571292e01,
    1.37657754143519042600e02,
    4.34565877475229228821e02,
    6.45387271733267880336e02,
    4.29008140027567833386e02,
    1.08635005541779435134e02,
    6.57024977031928170135e00,
    -6.04244152148580987438e-02,
)
RB = (
    -9.86494292470009928597e-03,
    -7.99283237680523006574e-01,
    -1.77579549177547519889e01,
    -1.60636384855821916062e02,
    -6.37566443368389627722e02,
    -1.02509513161107724954e03,
    -4.83519191608651397019e02,
)
SB = (
    1.0,
    3.03380607434824582924e01,
    3.25792512996573918826e02,
    1.53672958608443695994e03,
    3.19985821950859553908e03,
    2.55305040643316442583e03,
    4.74528541206955367215e02,
    -2.24409524465858183362e01,
)


def error_function(x: Tensor) -> Tensor:
    """Of f64 numbers, within an ulp or so."""
    flat = x.reshape(-1)
    made = np.empty_like(flat)
    for at in range(0, flat.size, BLOCK):
        made[at : at + BLOCK] = _block(flat[at : at + BLOCK])
    return made.reshape(x.shape)


def _block(x: Tensor) -> Tensor:
    size = np.abs(x)
    made = np.where(size == size, 1.0, np.nan)
    for low, high, of in (
        (0.0, 0.84375, _near),
        (0.84375, 1.25, _middle),
        (1.25, 1 / 0.35, _far),
        (1 / 0.35, 6.0, _tail),
    ):
        at = np.flatnonzero((size >= low) & (size < high))
        if at.size:
            made[at] = of(size[at])
    return np.copysign(made, x)


def _near(a: Tensor) -> Tensor:
    z = a * a
    return a + a * (_polynomial(PP, z) / _polynomial(QQ, z))


def _middle(a: Tensor) -> Tensor:
    s = a - 1.0
    return ERX + _polynomial(PA, s) / _polynomial(QA, s)


def _far(a: Tensor) -> Tensor:
    return _outer(a, RA, SA)


def _tail(a: Tensor) -> Tensor:
    return _outer(a, RB, SB)


def _outer(a: Tensor, above: Sequence[float], below: Sequence[float]) -> Tensor:
    s = 1.0 / (a * a)
    return 1.0 - np.exp(-a * a - 0.5625 + _polynomial(above, s) / _polynomial(below, s)) / a


def _polynomial(factors: Sequence[float], x: Tensor) -> Tensor:
    y = np.full_like(x, factors[-1])
    for factor in factors[-2::-1]:
        y *= x
        y += factor
    return y
