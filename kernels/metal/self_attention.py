"""Host of a layer's self-attention: the views of a step and one launch, planned once for all steps of a window."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from reference.arguments import check_self_attention
from reference.contract import Prefix
from reference.heads import merge_heads, stack_heads, unstack

from .engine import Engine
from .prefix_attention import Attend, attention_plan


class Plan(NamedTuple):
    """The attention of one kind of call, and the last position and first query row that fit its arrays."""

    attend: Attend
    last_position: int
    last_query_row: int


def self_attention(
    engine: Engine, qkv: mx.array, cache: mx.array, position: int, prefix: Prefix, scale: float, rows: slice,
    query_row: int,
) -> tuple[mx.array, mx.array]:  # fmt: skip
    """Put keys and values into a cache and attend to it and to a prefix; see `reference.contract.Ops.self_attention`.

    It does the same as `reference.self_attention.composed`, whose parts would each check at every step what does not
    change.
    """
    prefix_q, prefix_k, prefix_v, gate = prefix
    key = (
        "self_attention", qkv.shape, qkv.dtype, cache.shape, cache.dtype, rows.start, rows.stop, rows.step,
        prefix_q.shape, prefix_q.dtype, prefix_k.shape, prefix_k.dtype, prefix_v.shape, prefix_v.dtype,
        (gate.shape, gate.dtype) if isinstance(gate, mx.array) else None,
    )  # fmt: skip
    plan: Plan | None = engine.known(engine.plans, key)
    if plan is None or not (0 <= position <= plan.last_position and 0 <= query_row <= plan.last_query_row):
        check_self_attention(qkv, cache, position, prefix, rows, query_row)
    steps = qkv.shape[1]
    parts, length = stack_heads(qkv, cache.shape[2], cache.shape[4]), position + steps
    q, kv = mx.split(parts, [1])
    q = q.squeeze(0)
    cache[:, rows, :, position:length] = kv
    k, v = unstack(cache[:, rows])
    own = Prefix(prefix_q[:, :, query_row : query_row + steps], prefix_k, prefix_v, gate)
    if plan is None:
        attend = attention_plan(engine, q, k, v, own, scale, length)
        plan = Plan(attend, cache.shape[3] - steps, prefix_q.shape[2] - steps)
        engine.keep(engine.plans, key, plan)
    return merge_heads(plan.attend(q, k, v, own, scale, length)), cache
