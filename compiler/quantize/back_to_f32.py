"""Which layers of a model go back to f32: those that spoil its answers, or that the target computes faster there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ..calibration.runner import running
from ..ir import Graph
from ..ops.common import Tensor
from .affordable import Verdict, affordable
from .fallback import (
    DEARER,
    FAIR,
    GAIN,
    MORE_SPENT,
    MUCH,
    POOR,
    PROBES,
    SLIGHT,
    SPARE,
    SPENT,
    changes,
    cheap,
    drop_of,
    fewest,
    more,
    predicted,
    rescued,
    trials,
    with_skipped,
    worst_first,
)
from .held import storing
from .job import Job, State
from .modelled import modelled
from .noise import UNUSABLE, USELESS, off_by
from .placement import place
from .qdq import quantized_graph
from .tables import narrow_tables

WHY = "in f32: alone in int8 it changes the outputs by {:.2g} of their energy"

# share of the multiplications that may be in f32, dB of the outputs below which that is tried, and dB that are aimed at
TRIES = (
    (SPENT, POOR, POOR),
    (SPENT, POOR, POOR + SPARE),
    (MORE_SPENT, UNUSABLE, POOR),
    (1.0, USELESS, POOR),
)


def spare(job: Job, state: State, share: float) -> State:
    """The state with a share of the layers in f32, those that do most harm; before weights are rounded with regard
    to each other."""
    order, harm, _ = job.harmful(state)
    on = with_skipped(order, max(1, round(share * len(order))))
    return without(job, state, harm, on, WHY)


def rescue(job: Job, state: State) -> State:
    """Layers that spoil the outputs go back to f32, a slight share of them first, more of them where these would be
    unusable, as many as it takes where they would be useless; the others are then reconstructed on what is better now.
    """
    _, harm, inputs = job.harmful(state)
    on, best = few(job, state, harm)
    for spent, enough, aim in TRIES:
        chosen = rescued(state.plan, harm, spent, aim)
        if best.sqnr < enough and chosen.any() and (chosen != on).any():
            made = job.reconstructed(without(job, state, harm, chosen, WHY))
            if made.sqnr > best.sqnr + GAIN:
                on, best = chosen, made
    if best.sqnr < USELESS and job.wanted.max_drop is None:
        on = np.zeros(len(harm))
        best = without(job, state, harm, on, WHY)
        job.session.note(
            f"all layers stay in f32: in int8 the outputs were {off_by(state.sqnr)}, of no use; --max-drop "
            "says what may be lost"
        )
    elif not on.all():
        told(job, state, best, on)
    else:
        job.session.note(
            f"in int8 the outputs are {off_by(state.sqnr)}, and it is no few layers' fault; --max-drop says "
            "what may be lost"
        )
    if inputs < POOR:
        job.session.note(
            f"even in f32, with nothing but its inputs in 8 bits, the model's outputs are off by {inputs:.1f} dB: it "
            "magnifies small errors"
        )
    return best


def improve(job: Job, state: State) -> State:
    """Of outputs that are not poor: a few cheap layers go back to f32 where they make most of the noise. Whether all
    cheap ones together could is asked first, which takes a few runs; nothing is said where they do not."""
    if hope(job, state) < MUCH:
        return state
    _, harm, _ = job.harmful(state)
    on, best = few(job, state, harm)
    if not on.all():
        told(job, state, best, on)
    return best


def hope(job: Job, state: State) -> float:
    """By how many dB the outputs would be better with all cheap layers in f32: what some of them bring at most."""
    names = [layer.name for layer, slight in zip(state.plan.layers, cheap(state.plan), strict=True) if slight]
    return job.nearest(skipping(job, state, names)) - job.nearest(state) if names else 0.0


def few(job: Job, state: State, harm: Tensor) -> tuple[Tensor, State]:
    """1 for each layer that stays in 8 bits, and the state, reconstructed, where layers of a slight share of the
    multiplications are in f32; all stay, and the state as it is, where that does not bring much, or where the target is
    much slower with it, as one without an FPU is."""
    chosen, on = rescued(state.plan, harm, SLIGHT, FAIR + MUCH), np.ones(len(harm))
    if chosen.all() or predicted(harm, chosen) < MUCH:
        return on, state
    made = without(job, state, harm, chosen, WHY)
    if longer(job, state, made) > DEARER:
        return on, state
    made = job.reconstructed(made)
    return (chosen, made) if made.sqnr >= state.sqnr + MUCH else (on, state)


def longer(job: Job, state: State, made: State) -> float:
    """How many times as long the model takes with fewer layers in int8, modelled; 1 where no target is known."""
    target = job.session.target
    if target is None:
        return 1.0
    inner = replace(job.session, target=target.programs[0])
    was, now = (modelled(quantized_graph(s.plan, s.scales, s.weights), inner).total for s in (state, made))
    return now / max(was, 1e-9)


def told(job: Job, state: State, best: State, on: Tensor) -> None:
    """A note of how many layers went back, and what that brought."""
    job.session.note(
        f"{int((on == 0).sum())} of {len(on)} layers stay in f32: with all in int8 the outputs were "
        f"{off_by(state.sqnr)}, now by {best.sqnr:.1f} dB"
    )


def keep_drop(job: Job, graph: Graph, state: State, allowed: float) -> tuple[State, Verdict | None]:
    """As few and cheap layers back in f32 as keep the drop that is allowed, measured on what will be compiled: the
    state is finished."""
    plan, count = state.plan, len(state.plan.layers)
    names = [name for name, _ in graph.results]
    why = f"in f32 to keep max_drop {allowed:g}: alone in int8 it changes the outputs by {{:.2g}} of their energy"
    with storing() as store, trials(plan, state.scales, state.weights, job.session.threads) as trial:
        harm = changes(trial, job.samples(PROBES), count, job.tell)
        drop = drop_of(names, trial.answer(np.zeros(count)), job.data, job.wanted.score, store)
        order = worst_first(plan, harm)

        def dropped(on: Tensor) -> float:
            return drop(trial.answer(on))

        number = fewest(order, dropped, allowed, job.tell)
        while True:
            made, verdict = keep_fast(job, graph, without(job, state, harm, with_skipped(order, number), why))
            if number == count:  # the float model itself
                found = 0.0
                break
            made = job.finished(made)
            integers, _ = narrow_tables(quantized_graph(made.plan, made.scales, made.weights))
            with running(integers, integers.outputs, threads=job.session.threads, like=job.session.target) as run:
                found = drop(run)
            job.tell("confirm", number, count)
            if found <= allowed:
                break
            number = more(order, number, dropped, allowed, job.tell)
    if number == count:
        job.session.note(f"max_drop {allowed:g} is kept by f32 everywhere only: no layer is quantized")
    elif number:
        job.session.note(f"{number} of {count} layers stay in f32 to keep max_drop {allowed:g}")
    return replace(made, drop=found), verdict


def keep_fast(job: Job, graph: Graph, state: State) -> tuple[State, Verdict | None]:
    """The state without layers that the target computes faster in f32; it keeps the weights that it has."""
    target = job.session.target
    if target is None or not state.plan.layers or job.options.slower:
        return state, None
    inner = replace(job.session, target=target.programs[0])
    found: dict[Collection[str], State] = {}

    def graph_without(names: Collection[str]) -> Graph:
        found[tuple(names)] = made = skipping(job, state, names)
        return quantized_graph(made.plan, made.scales, made.weights)

    verdict = affordable(graph, [layer.name for layer in state.plan.layers], graph_without, inner)
    if not verdict.slower:
        return state, verdict
    made = found.get(tuple(verdict.slower)) or skipping(job, state, verdict.slower)
    return replace(made, reasons={**state.reasons, **verdict.slower}), verdict


def skipping(job: Job, state: State, names: Collection[str]) -> State:
    """The state with more layers in f32."""
    if not names:
        return state
    plan = place(state.plan.graph, [*state.plan.skipped, *names], state.plan.real)
    made = replace(state, plan=plan)
    return replace(made, scales=job.known(made))


def without(job: Job, state: State, harm: Tensor, on: Tensor, why: str) -> State:
    """The state with the layers in f32 for which `on` is 0."""
    layers = state.plan.layers
    effects = {layer.name: float(h) for layer, h in zip(layers, harm, strict=True)}
    skipped = [layer.name for layer, stays in zip(layers, on, strict=True) if not stays]
    reasons = {**state.reasons, **{name: why.format(effects[name]) for name in skipped}}
    return skipping(job, replace(state, reasons=reasons, effects={**state.effects, **effects}), skipped)
