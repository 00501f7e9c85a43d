"""Decision trees: every question, missing values, folds and classes, against ONNX Runtime; the kernel; bad models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.op import const_array
from edgec.compiler.registry import Problem
from edgec.passes.fuse import make_body
from tests.support.harness import check, target

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(17)
FEATURES = 5
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ"]
X = RNG.integers(-2, 3, (40, FEATURES)).astype(np.float32) / 2
X[RNG.random(X.shape) < 0.1] = np.nan
X[0], X[1] = np.inf, -np.inf
KNOWN = np.nan_to_num(X)


def forest(trees: int, depth: int, kind: str, targets: int, modes: list[str], positive: bool = False) -> dict[str, Any]:
    """Random trees of up to `depth` questions in a row. Leaves have one or two votes, or one for each class."""
    nodes: dict[str, list[Any]] = {
        key: [] for key in "treeids nodeids featureids values modes truenodeids falsenodeids".split()
    }
    missing: list[int] = []
    votes: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree: int, left: int, numbers: Any) -> int:
        me = next(numbers)
        leaf = left == 0 or (left < depth and RNG.random() < 0.2)
        row = len(nodes["nodeids"])
        for key, value in (
            ("treeids", tree),
            ("nodeids", me),
            ("featureids", int(RNG.integers(FEATURES))),
            ("values", float(RNG.integers(-2, 3)) / 2),
            ("modes", "LEAF" if leaf else str(RNG.choice(modes))),
            ("truenodeids", 0),
            ("falsenodeids", 0),
        ):
            nodes[key].append(value)
        missing.append(int(RNG.random() < 0.3))
        if leaf:
            for target in RNG.permutation(targets)[: targets if kind == "class" else int(RNG.integers(1, 3))]:
                weight = float(RNG.standard_normal())
                for key, value in zip(votes, (tree, me, int(target), abs(weight) if positive else weight), strict=True):
                    votes[key].append(value)
        else:
            nodes["truenodeids"][row] = grow(tree, left - 1, numbers)
            nodes["falsenodeids"][row] = grow(tree, left - 1, numbers)
        return me

    for tree in range(trees):
        grow(tree, depth, iter(range(10**6)))
    attrs = {f"nodes_{key}": value for key, value in nodes.items()}
    attrs |= {f"{kind}_{key}": value for key, value in votes.items()}
    return {**attrs, "nodes_missing_value_tracks_true": missing}


def model(op: str, outputs: int, x: Any = X, version: int = 3, **attrs: Any) -> Any:
    infos = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)]
    kinds = [TensorProto.FLOAT] if outputs == 1 else [TensorProto.INT64, TensorProto.FLOAT]
    outs = [helper.make_tensor_value_info(f"y{k}", kind, None) for k, kind in enumerate(kinds)]
    node = helper.make_node(op, ["x"], [o.name for o in outs], domain="ai.onnx.ml", **attrs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], "g", infos, outs), opset_imports=opsets, ir_version=9)


def same(proto: Any, x: Any = X) -> None:
    """Interpreted as ONNX Runtime computes it."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = interpret(import_model(proto), {"x": x})
    for k, want in enumerate(session.run(None, {"x": x})):
        assert got[f"y{k}"].dtype == want.dtype
        np.testing.assert_allclose(got[f"y{k}"], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fold", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("mode", [*MODES, "all"])
def test_regressors(fold: str, mode: str) -> None:
    attrs = forest(7, 4, "target", 3, MODES if mode == "all" else [mode])
    same(model("TreeEnsembleRegressor", 1, n_targets=3, aggregate_function=fold, **attrs))
    attrs = forest(7, 4, "target", 1, MODES)  # ONNX Runtime leaves the base out where a target has no votes
    same(model("TreeEnsembleRegressor", 1, n_targets=1, aggregate_function=fold, base_values=[0.5], **attrs))


def test_inequality() -> None:
    """NaN goes where the model says, as for any other question; to ONNX Runtime it differs from all numbers."""
    attrs = forest(7, 4, "target", 3, [*MODES, "BRANCH_NEQ"])
    same(model("TreeEnsembleRegressor", 1, KNOWN, n_targets=3, **attrs), KNOWN)


def test_trees_of_one_leaf_and_deep_ones() -> None:
    same(model("TreeEnsembleRegressor", 1, n_targets=1, **forest(3, 0, "target", 1, MODES)))
    same(model("TreeEnsembleRegressor", 1, n_targets=2, post_transform="SOFTMAX", **forest(4, 9, "target", 2, MODES)))


@pytest.mark.parametrize("after", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_classes(after: str) -> None:
    attrs = forest(9, 4, "class", 4, MODES)
    same(model("TreeEnsembleClassifier", 2, classlabels_int64s=[7, 3, 5, 1], post_transform=after, **attrs))
    base = {"classlabels_int64s": [7, 3, 5, 1], "base_values": [0.1, 0.2, 0.3, 0.4]}
    same(model("TreeEnsembleClassifier", 2, post_transform=after, **base, **attrs))


@pytest.mark.parametrize("after", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.25]}])
def test_two_classes(after: str, positive: bool, base: dict[str, Any]) -> None:
    attrs = forest(3, 3, "class", 1, MODES, positive)
    if positive:
        attrs["class_weights"] = [w / 5 for w in attrs["class_weights"]]
    same(model("TreeEnsembleClassifier", 2, classlabels_int64s=[4, 9], post_transform=after, **base, **attrs))


def test_two_classes_with_votes_for_both() -> None:
    """The class with the greater score, as the text says."""
    attrs = forest(5, 3, "class", 2, MODES)
    g = import_model(model("TreeEnsembleClassifier", 2, classlabels_int64s=[4, 9], **attrs))
    got = interpret(g, {"x": X})
    np.testing.assert_array_equal(got["y0"], np.where(got["y1"][:, 1] > got["y1"][:, 0], 9, 4))


def test_features_that_are_integers() -> None:
    x = RNG.integers(-3, 4, (20, FEATURES))
    attrs = forest(5, 4, "target", 2, MODES)
    whole, real = (
        import_model(model("TreeEnsembleRegressor", 1, v, n_targets=2, **attrs)) for v in (x, x.astype(np.float32))
    )
    np.testing.assert_array_equal(interpret(whole, {"x": x})["y0"], interpret(real, {"x": x.astype(np.float32)})["y0"])


@pytest.mark.parametrize("trees", [1, 5, 16, 37])
@pytest.mark.parametrize(("kind", "fold"), [("f32", "SUM"), ("f64", "SUM"), ("f32", "MIN"), ("f64", "MAX")])
def test_the_kernel(trees: int, kind: str, fold: str, tmp_path: Path) -> None:
    x = X.astype({"f32": np.float32, "f64": np.float64}[kind])
    proto = model(
        "TreeEnsembleRegressor", 1, x, n_targets=3, aggregate_function=fold, **forest(trees, 5, "target", 3, MODES)
    )
    (node,) = [n for n in import_model(proto).nodes() if n.op == "Edgec.Trees"]
    p = Problem(make_body([node], list(node.args), node.results), target())
    check(p, "trees", tmp_path, [x, *map(const_array, node.args[1:])])


def test_the_next_number_below_infinity() -> None:
    """x < -inf never holds, x == -inf holds for that alone; x <= the greatest number does not hold for infinity."""
    top, low = float(np.finfo(np.float32).max), float("-inf")
    for mode, split, want in (
        ("BRANCH_LT", low, [0, 0, 0, 0, 0]),
        ("BRANCH_EQ", low, [1, 0, 0, 0, 0]),
        ("BRANCH_GTE", low, [1, 1, 1, 1, 0]),
        ("BRANCH_LEQ", top, [1, 1, 1, 0, 0]),
        ("BRANCH_EQ", 0.0, [0, 1, 1, 0, 0]),
        ("BRANCH_NEQ", 0.0, [1, 0, 0, 1, 0]),
    ):
        attrs = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3}
        attrs |= {"nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "nodes_values": [split, 0.0, 0.0]}
        attrs |= {"nodes_modes": [mode, "LEAF", "LEAF"], "target_treeids": [0, 0], "target_nodeids": [1, 2]}
        x = np.asarray([[low], [0.0], [-0.0], [np.inf], [np.nan]], np.float32)
        g = import_model(model("TreeEnsembleRegressor", 1, x, target_ids=[0, 0], target_weights=[1.0, 0.0], **attrs))
        assert interpret(g, {"x": x})["y0"].reshape(-1).tolist() == want, (mode, split)


def broken(change: dict[str, Any], **more: Any) -> Any:
    attrs = {**forest(2, 2, "target", 2, ["BRANCH_LEQ"]), "n_targets": 2, **more}
    return model("TreeEnsembleRegressor", 1, **{**attrs, **{k: fn(attrs[k]) for k, fn in change.items()}})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nodes_truenodeids": lambda v: [0] * len(v)}, "a tree is cyclic at node 0"),
        ({"nodes_falsenodeids": lambda v: [99] * len(v)}, "tree 0 has no node 99"),
        ({"nodes_featureids": lambda v: [FEATURES] * len(v)}, "a node asks for feature 5 of 5"),
        ({"nodes_modes": lambda v: ["BRANCH_X", *v[1:]]}, "node mode 'BRANCH_X' is unknown"),
        ({"nodes_values": lambda v: v[1:]}, "nodes have .* nodes_values"),
        ({"target_ids": lambda v: [2] * len(v)}, "vote for other targets than the 2"),
        ({"target_nodeids": lambda v: [0] * len(v)}, "votes of node 0 of tree 0, which is no leaf"),
        ({"target_ids": lambda v: v[1:]}, "target_ids has .* entries"),
    ],
)
def test_broken_models_are_errors(change: dict[str, Any], text: str) -> None:
    with pytest.raises(EdgecError, match=text):
        import_model(broken(change))


def test_what_cannot_be_is_refused() -> None:
    for post in ("PROBIT", "SOFTMAX_ZERO"):
        with pytest.raises(UnsupportedModel, match=f"its post_transform is {post}"):
            import_model(broken({}, post_transform=post))
    with pytest.raises(UnsupportedModel, match="1 base_values for 2 sums"):
        import_model(broken({}, base_values=[1.0]))
    attrs = forest(2, 2, "class", 2, MODES)
    with pytest.raises(UnsupportedModel, match="its classes are strings"):
        import_model(model("TreeEnsembleClassifier", 2, classlabels_strings=["a", "b"], **attrs))


def latest(**change: Any) -> Any:
    """One question with two leaves in the form of operator set 5."""

    def tensor(values: list[float], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor("t", kind, [len(values)], values)

    attrs: dict[str, Any] = {
        "nodes_modes": tensor([6], TensorProto.UINT8),
        "nodes_featureids": [1],
        "nodes_splits": tensor([0.0]),
        "nodes_truenodeids": [0],
        "nodes_falsenodeids": [1],
        "nodes_trueleafs": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 1],
        "leaf_weights": tensor([2.0, 3.0]),
        "membership_values": tensor([0.5, -1.0, np.nan]),
        "tree_roots": [0],
        "n_targets": 2,
    }
    return model("TreeEnsemble", 1, version=5, **{**attrs, **change}), tensor


def test_leaves_that_are_listed_apart() -> None:
    proto, _ = latest()
    got = interpret(import_model(proto), {"x": X})["y0"]
    member = np.isin(X[:, 1], [0.5, -1])
    np.testing.assert_array_equal(got, np.stack([np.where(member, 2, 0), np.where(member, 0, 3)], 1))
    proto, _ = latest(nodes_missing_value_tracks_true=[1], post_transform=2)
    got = interpret(import_model(proto), {"x": X})["y0"]
    np.testing.assert_allclose(got[:, 0], np.where(member | np.isnan(X[:, 1]), 1 / (1 + np.exp(-2)), 0.5), rtol=1e-6)


def test_lists_that_do_not_fit_are_errors() -> None:
    _, tensor = latest()
    for change, text in (
        ({"membership_values": tensor([0.5])}, "0 sets of membership_values for 1 nodes"),
        ({"nodes_falsenodeids": [2]}, "1 nodes and 2 leaves; one refers to -3"),
        ({"nodes_falsenodeids": [0], "nodes_falseleafs": [0]}, "a tree is cyclic at node 0"),
        ({"tree_roots": [1]}, "one refers to 1"),
        ({"nodes_featureids": [1, 2]}, "nodes_featureids has 2 entries; expected 1"),
    ):
        with pytest.raises(EdgecError, match=text):
            import_model(latest(**change)[0])
