"""Probabilities of a support vector machine's classes, as ONNX writes them: a definition in place of the operator.

Each pair of classes gives a probability by Platt's sigmoid; all together give those of the classes by pairwise coupling
(Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling", 2004, the second
method, by the iteration of LIBSVM, which ONNX Runtime follows).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper, numpy_helper, parser

from ...errors import EdgecError
from ..table import WRITTEN

TURNS = 100  # at most, as there

# r[n, i, j]: how probable class i is where it is i or j; p: of all. A row whose error is small enough stays as it is.
_TEXT = """
<domain: "edgec", opset_import: ["": 18, "ai.onnx.ml": 1]>
svm_probabilities (x) => (label, probability)
{{
  label, scores = ai.onnx.ml.SVMClassifier (x)
  first = Constant <value_ints = [{pairs}]> ()
  pair = Gather <axis = 1> (scores, first)
  scaled = Mul (pair, prob_a)
  moved = Add (scaled, prob_b)
  negative = Neg (moved)
  sure = Sigmoid (negative)
  least = Constant <value_float = 1e-7> ()
  most = Constant <value_float = 0.9999999> ()
  of_first = Clip (sure, least, most)
  one = Constant <value_float = 1.0> ()
  of_second = Sub (one, of_first)
  zero = Mul (of_first, nothing)
  listed = Concat <axis = 1> (of_first, of_second, zero)
  squares = Constant <value_ints = [{squares}]> ()
  flat = Gather <axis = 1> (listed, squares)
  table = Constant <value_ints = [-1, {classes}, {classes}]> ()
  r = Reshape (flat, table)
  turned = Transpose <perm = [0, 2, 1]> (r)
  mixed = Mul (r, turned)
  second = Constant <value_ints = [2]> ()
  own = ReduceSumSquare <keepdims = 1> (turned, second)
  diagonal = Mul (own, unit)
  q = Sub (diagonal, mixed)
  none = Constant <value_ints = [1]> ()
  sums = ReduceSum <keepdims = 0> (r, none)
  nothings = Mul (sums, nothing)
  start = Add (nothings, even)
  turns = Constant <value_int = {turns}> ()
  begin = Constant <value = bool {{1}}> ()
  probability = Loop (turns, begin, start) <body = turn (int64 number, bool go, float[n, {classes}] p)
      => (bool on, float[n, {classes}] new)
  {{
    column = Unsqueeze (p, second)
    products = MatMul (q, column)
    qp0 = Squeeze (products, second)
    weighed = Mul (p, qp0)
    pqp0 = ReduceSum <keepdims = 1> (weighed, none)
    off = Sub (qp0, pqp0)
    size = Abs (off)
    error = ReduceMax <keepdims = 1> (size, none)
    small = Less (error, enough)
    open = Not (small)
    p0 = Identity (p)
    {steps}
    new = Where (open, p{classes}, p)
    number_open = Cast <to = 6> (open)
    any_open = ReduceMax <keepdims = 0> (number_open)
    on = Cast <to = 9> (any_open)
  }}>
}}
"""

# Class k is set to what would be right with the others as they are, and all are scaled to add up to one.
_STEP = """
    at{k} = Constant <value_ints = [{k}]> ()
    row3{k} = Gather <axis = 1> (q, at{k})
    row{k} = Squeeze (row3{k}, none)
    own{k} = Gather <axis = 1> (row{k}, at{k})
    qpk{k} = Gather <axis = 1> (qp{k}, at{k})
    lack{k} = Sub (pqp{k}, qpk{k})
    by{k} = Div (lack{k}, own{k})
    all{k} = Add (one, by{k})
    own_by{k} = Mul (by{k}, own{k})
    twice{k} = Add (qpk{k}, qpk{k})
    more{k} = Add (own_by{k}, twice{k})
    grown{k} = Mul (by{k}, more{k})
    pqp_sum{k} = Add (pqp{k}, grown{k})
    pqp_once{k} = Div (pqp_sum{k}, all{k})
    pqp{next} = Div (pqp_once{k}, all{k})
    share{k} = Mul (row{k}, by{k})
    qp_sum{k} = Add (qp{k}, share{k})
    qp{next} = Div (qp_sum{k}, all{k})
    unit{k} = Gather <axis = 0> (unit, at{k})
    added{k} = Mul (unit{k}, by{k})
    p_sum{k} = Add (p{k}, added{k})
    p{next} = Div (p_sum{k}, all{k})
"""


def svm_probabilities(node: gs.Node) -> onnx.FunctionProto | None:
    """The definition of an SVMClassifier with prob_a and prob_b; None for one without."""
    prob_a, prob_b = (np.asarray(node.attrs.get(name) or (), np.float32) for name in ("prob_a", "prob_b"))
    if not prob_a.size:
        return None
    classes = len(node.attrs.get("classlabels_ints") or node.attrs.get("classlabels_strings") or ())
    pairs = list(combinations(range(classes), 2))
    if prob_a.size != len(pairs) or prob_b.size != len(pairs):
        found = f"{prob_a.size} prob_a and {prob_b.size} prob_b"
        raise EdgecError(f"node {node.name!r} (SVMClassifier): {found} for {len(pairs)} pairs of classes")
    text = _TEXT.format(
        classes=classes,
        pairs=_listed([1] if classes == 2 else range(len(pairs))),  # of two classes the negative score stands first
        squares=_listed(_squares(classes, pairs)),
        turns=TURNS,
        steps="".join(_STEP.format(k=k, next=k + 1) for k in range(classes)),
    )
    function = parser.parse_function(text)
    held = {
        "prob_a": prob_a,
        "prob_b": prob_b,
        "nothing": np.zeros((), np.float32),
        "unit": np.eye(classes, dtype=np.float32),
        "even": np.full((1, classes), 1 / classes, np.float32),
        "enough": np.asarray(0.005 / classes, np.float32),
    }
    constants = [helper.make_node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in held.items()]
    nodes = [*constants, *function.node]
    del function.node[:]
    function.node.extend(nodes)
    scorer = next(n for n in function.node if n.op_type == "SVMClassifier")
    kept = {k: v for k, v in node.attrs.items() if k not in ("prob_a", "prob_b")}
    scorer.attribute.extend(helper.make_attribute(k, v) for k, v in kept.items())
    return function


WRITTEN["ai.onnx.ml.SVMClassifier"] = svm_probabilities


def _squares(classes: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Where each r[i, j] stands among the pairs' first probabilities, their second ones, and a zero."""
    places = {pair: k for k, pair in enumerate(pairs)}
    last = 2 * len(pairs)
    return [
        places.get((i, j), places.get((j, i), last - len(pairs)) + len(pairs))
        for i in range(classes)
        for j in range(classes)
    ]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
