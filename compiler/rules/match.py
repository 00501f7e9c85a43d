"""Matching a rule's pattern against values, asking its guards, and building its replacement."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..dtypes import dtype
from ..errors import EdgecError, IRError
from ..ir import Array, Attr, Data, Node, Value
from ..op import OPS, build, const, const_array, evaluate, full_attrs, is_const
from ..text import show_type
from .helpers import GUARDS, HELPERS, Context
from .language import Apply, Bind, Call, Expr, Guard, Listing, Literal, Member, Rule, Variable

Bound = Mapping[str, "Value | Attr"]
COMPARE: dict[str, Callable[[object, object], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}
FOLD = 1 << 24  # operators on constants are computed at once up to this many elements of the result


def apply(rule: Rule, value: Value, context: Context, refused: Callable[[str], None]) -> Value | None:
    """What stands for `value` by the rule, or None. `refused` hears why a rule whose pattern fits does not apply."""
    for bound in match(rule.pattern, value, {}):
        if reason := next((r for g in rule.guards if (r := _refusal(g, bound, context))), ""):
            refused(reason)
            continue
        try:
            new = _Maker(rule, bound, value).value(rule.replacement)
        except IRError as error:
            refused(f"replacement: {error}")
            continue
        made = adopt(new, value)
        if isinstance(made, Value):
            return made
        refused(made)
    return None


def adopt(new: Value, old: Value) -> Value | str:
    """`new` in the place of `old`: of the same type, its layout and quantization included; or why it cannot be."""
    if new.type == old.type:
        return new
    if (new.type.dtype, new.shape) != (old.type.dtype, old.shape):
        return f"would change the type from {old.type} to {new.type}"
    plain = new.type.q is None and new.type.layout == ""
    if plain and len(new.node.types) == 1 and new.node.op != "Input":
        return Value(replace(new.node, types=(old.type,)))
    return f"would change layout or quantization from {show_type(old.type)} to {show_type(new.type)}"


def match(pattern: Expr, value: Value, bound: Bound) -> Iterator[Bound]:
    """Every way in which the pattern fits."""
    if isinstance(pattern, Variable):
        if pattern.name == "_":
            yield bound
        elif bound.get(pattern.name, value) == value:
            yield {**bound, pattern.name: value}
    elif isinstance(pattern, Bind):
        for found in match(pattern.inner, value, bound):
            if found.get(pattern.name, value) == value:
                yield {**found, pattern.name: value}
    elif isinstance(pattern, Literal):
        if _holds_only(value, pattern.value):
            yield bound
    elif isinstance(pattern, Apply):
        yield from _match_operator(pattern, value, bound)


def _match_operator(pattern: Apply, value: Value, bound: Bound) -> Iterator[Bound]:
    node = value.node
    if node.op not in pattern.ops or len(node.types) != 1 or len(node.args) != len(pattern.args):
        return
    start = _match_attrs(pattern, node, bound)
    if start is None:
        return
    orders = [node.args]
    if OPS[node.op].commutes and node.args[0] != node.args[1]:
        orders.append(node.args[::-1])
    for order in orders:
        yield from _match_args(pattern.args, order, start)


def _match_args(patterns: Sequence[Expr], args: Sequence[Value], bound: Bound) -> Iterator[Bound]:
    if not patterns:
        yield bound
        return
    for found in match(patterns[0], args[0], bound):
        yield from _match_args(patterns[1:], args[1:], found)


def _match_attrs(pattern: Apply, node: Node, bound: Bound) -> Bound | None:
    if not pattern.attrs:
        return bound
    attrs, found = full_attrs(node), dict(bound)
    for key, wanted in pattern.attrs:
        if isinstance(wanted, Variable):
            if wanted.name != "_" and found.setdefault(wanted.name, attrs[key]) != attrs[key]:
                return None
        elif _plain(wanted) != attrs[key]:
            return None
    return found


def _plain(expr: Expr) -> Attr:
    """A literal or a list of literals."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Listing):
        return tuple(map(_plain, expr.items))
    raise EdgecError(f"an attribute in a pattern is a literal or a name, not {expr}")


def _holds_only(value: Value, number: Attr) -> bool:
    if not is_const(value) or not isinstance(number, bool | int | float):
        return False
    array = const_array(value)
    with np.errstate(all="ignore"):
        wanted = np.asarray(number).astype(array.dtype)
    return array.size > 0 and bool(array.flat[0] == wanted) and bool((array == wanted).all())


def _refusal(guard: Guard, bound: Bound, context: Context) -> str:
    """Why the guard does not hold; "" where it does."""
    if guard.call is None:
        left, right = (_operand(side, bound) for side in guard.sides)
        try:
            holds = COMPARE[guard.compare](left, right)
        except TypeError:
            holds = False
        return "" if holds else f"{left} {guard.compare} {right} does not hold"
    args = [_operand(arg, bound) for arg in guard.call.args]
    answer = GUARDS[guard.call.name](context, *args)
    if (answer is True) == guard.want:
        return ""
    subject = guard.call.args[0] if guard.call.args else None
    who = f"{subject.name} " if isinstance(subject, Variable) else ""
    return f"{who}{answer}" if guard.want else f"{who}holds {guard.call.name}"


def _operand(expr: Expr, bound: Bound) -> object:
    """What a guard or helper gets: a value as such, everything else as plain Python."""
    if isinstance(expr, Variable):
        return bound[expr.name]
    if isinstance(expr, Member):
        return _member(expr, bound)
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Listing):
        return tuple(_operand(item, bound) for item in expr.items)
    if isinstance(expr, Call):
        return HELPERS[expr.name](*(_array(_operand(a, bound)) for a in expr.args))
    raise EdgecError(f"{expr}: an operator cannot stand here")


def _array(operand: object) -> object:
    return const_array(operand) if isinstance(operand, Value) and is_const(operand) else operand


def _member(expr: Member, bound: Bound) -> object:
    value = bound[expr.name]
    if not isinstance(value, Value):
        raise EdgecError(f"{expr.name}.{expr.key}: {expr.name} is an attribute, not a value")
    if expr.key in ("shape", "dtype"):
        return getattr(value.type, expr.key)
    if expr.key == "rank":
        return len(value.shape)
    attrs = full_attrs(value.node)
    if expr.key not in attrs:
        raise EdgecError(f"{expr.name}.{expr.key}: {value.node.op} has no such attribute")
    return attrs[expr.key]


class _Maker:
    """Builds a replacement. Its root takes the replaced node's name, copies `{**c}` that of `c`; origins are united."""

    def __init__(self, rule: Rule, bound: Bound, old: Value) -> None:
        self.bound = bound
        self.old = old
        self.root = rule.replacement
        computed = [v.node for v in bound.values() if isinstance(v, Value) and v.node.op not in ("Const", "Input")]
        leaves = {arg.name for arg in _leaves(rule.pattern)}
        matched = [b.node for n, b in bound.items() if isinstance(b, Value) and b.node in computed and n not in leaves]
        self.origin = tuple(dict.fromkeys(o for node in [*matched, old.node] for o in node.origin))

    def value(self, expr: Expr, like: str = "f32") -> Value:
        """The value of an expression; numbers get the element type `like`."""
        if isinstance(expr, Variable):
            found = self.bound[expr.name]
            return found if isinstance(found, Value) else const(_typed(found, like))
        if isinstance(expr, Apply):
            return self.operator(expr, like)
        if isinstance(expr, Call):
            result = self.call(expr)
            source = next((self.bound[a.name] for a in expr.args if isinstance(a, Variable)), None)
            if isinstance(result, Value):
                return result
            name = source.node.name if isinstance(source, Value) and is_const(source) else ""
            return const(result if isinstance(result, np.ndarray) else _typed(result, like), name)
        return const(_typed(_operand(expr, self.bound), like))

    def call(self, expr: Call) -> object:
        args: list[object] = []
        for arg in expr.args:
            item = (
                self.value(arg)
                if isinstance(arg, Apply)
                else self.call(arg)
                if isinstance(arg, Call)
                else _operand(arg, self.bound)
            )
            args.append(_array(item))
        return HELPERS[expr.name](*args)

    def operator(self, expr: Apply, like: str) -> Value:
        fixed = [a for a in expr.args if not _is_number(a)]
        made = {id(a): self.value(a, like) for a in fixed}
        if fixed:
            like = made[id(fixed[0])].type.dtype
        args = [made[id(a)] if id(a) in made else self.value(a, like) for a in expr.args]
        attrs: dict[str, Attr] = {}
        source: Node | None = None
        for name in expr.copies:
            found = self.bound[name]
            if isinstance(found, Value):
                source = source or found.node
                attrs |= {k: v for k, v in found.node.attrs.items() if k in OPS[expr.ops[0]].attrs}
        for key, item in expr.attrs:
            made_attr = self.call(item) if isinstance(item, Call) else _operand(item, self.bound)
            attrs[key] = made_attr  # type: ignore[assignment]
        label = self.old.node.name if expr is self.root else source.name if source else ""
        new = build(expr.ops[0], *args, origin=self.origin, label=label, **attrs)
        return fold(new.node) or new


def _leaves(pattern: Expr) -> Iterator[Variable]:
    """Plain names of a pattern: what stands under them is read, not replaced."""
    if isinstance(pattern, Variable):
        yield pattern
    elif isinstance(pattern, Bind):
        yield from _leaves(pattern.inner)
    elif isinstance(pattern, Apply):
        for arg in pattern.args:
            yield from _leaves(arg)


def _is_number(expr: Expr) -> bool:
    return isinstance(expr, Literal | Member)


def _typed(item: object, like: str) -> Array:
    return np.asarray(item).astype(dtype(like).numpy)


def fold(node: Node, most: int = FOLD) -> Value | None:
    """The constant that a node on constants computes; None where it has other arguments, or the result is too large."""
    if not node.args or len(node.types) != 1 or not all(map(is_const, node.args)) or node.types[0].size > most:
        return None
    named = next((a.node.name for a in node.args if a.node.name), "")
    (result,) = evaluate(node, [const_array(a) for a in node.args])
    data = Data(np.ascontiguousarray(result).reshape(node.types[0].shape))
    return Value(Node("Const", (), node.types, {"data": data}, node.name or named, node.origin))
