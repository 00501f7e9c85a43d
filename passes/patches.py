"""Computes the first large layers of a model patch by patch where its arena would be larger than the memory is.

A region of kernels between values that lie in memory and one result is computed for some rows of the result at a time:
what lies between is then only some rows high. Rows that two patches need are computed twice, which costs arithmetic;
the pass takes the region and the height with the least of it among those that reach the budget (Lin et al., "MCUNetV2:
Memory-Efficient Patch-based Inference for Tiny Deep Learning", 2021). Rows are parts of their values and joined in the
result without copies, where channels come last. Patches of one shape share a kernel.
"""

from __future__ import annotations

from dataclasses import replace

from edgec.compiler.ir import Graph
from edgec.compiler.macs import macs
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.session import MAX_RAM, Session
from edgec.compiler.units import show_bytes

from .patch_build import Builder
from .patch_regions import Plan, plans
from .plan import Schedule, rooms_of

BESIDE = 1024  # bytes of RAM that a bare-metal model takes beside its arena: its record and the stack
ROUNDS = 4  # regions of one graph
TRIED = 12  # plans that are laid out, of those that promise to fit


@graph_pass("patches", promise=close, needs=("layout",), nested=False)
def patches(g: Graph, *, session: Session, max_ram: int = 0, rows: int = 0, layers: int = 0) -> Graph:
    """Computes the layers that need most memory patch by patch until the arena has at most `max_ram` bytes (0: as many
    as the target has, or as --max-ram says). `rows` and `layers`: patches of so many rows of the result, that many
    kernels deep, whatever the budget; 0: chosen."""
    budget = max_ram or _told(session)
    if session.target is None or session.target.gpu or not (budget or rows):
        return g
    before, done = macs(g), False
    for _ in range(ROUNDS):
        found = _fitted(g, session, budget, rows, layers)
        if found is None:
            break
        g, plan = found
        done = True
        session.note(plan.said())
        if rows:
            break
    if rows and not done:
        session.note(f"no layers can be computed {rows} rows at a time where they lie")
    if done and before:
        session.note(f"patches compute {100 * (macs(g) / before - 1):.1f} % more multiply-accumulates in all")
    return g


def _told(session: Session) -> int:
    """The least of what the user and the target allow; 0: anything."""
    asked, there = session.settings.get(MAX_RAM), session.target.ram if session.target else None
    beside = BESIDE if session.target and session.target.microcontroller else 0
    limits = [int(asked) - beside] if isinstance(asked, (int, float)) else []
    return max(min([*limits, *([there] if there else [])], default=0), 0)


def _fitted(g: Graph, session: Session, budget: int, rows: int, layers: int) -> tuple[Graph, Plan] | None:
    """The graph with one more region in patches: the cheapest that fits, or that which helps most. None: none does."""
    now = arena_bytes(g, session)
    if budget and now <= budget and not rows:
        return None
    offers = plans(g, session.threads, now if rows else budget, rows, layers)
    build, best = Builder(session), None
    tried, failed = 0, None
    for plan in offers:
        if tried == TRIED:
            break
        if failed is not None and plan.whole >= failed:
            continue  # what needs as much does not fit either
        made = build.patched(g, plan)
        if made is None:
            continue
        tried, failed = tried + 1, plan.whole
        size = arena_bytes(made, session)
        if best is None or size < best[0]:
            best = size, made, plan
        if rows or size <= budget:
            break
    if best is None or (best[0] >= now and not rows) or not session.step("region", best[2].region.result.node):
        return None
    return best[1], replace(best[2], arena=(show_bytes(now), show_bytes(best[0])))


def arena_bytes(g: Graph, session: Session) -> int:
    """What the planner would need for a laid-out graph: more than there is where it does not fit the regions."""
    rooms = rooms_of(session)
    assert session.target is not None
    packed = Schedule(g, True, session.threads, session.target.spacing, rooms=rooms).packed
    return sum(room.size for room in rooms) + packed.missing if packed.missing else packed.bytes
