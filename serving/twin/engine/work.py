"""FLOP and memory traffic of a step on one GPU, for the power model. Pure."""

from collections.abc import Callable

from serving.twin.engine.batch import Batch
from serving.twin.engine.power import Work
from serving.twin.tables.catalog import WEIGHT_BYTES, ModelFacts
from serving.twin.tables.steptime import StepTable


def work_of(facts: ModelFacts, table: StepTable, drafts: int) -> Callable[[Batch], Work]:
    """The work of a batch. `drafts`: draft tokens of a decoding request per step.

    FLOP: 2 per token and active parameter; 4 per token, attended token and hidden unit of each layer. Bytes:
    dense weights, the experts that any token of the step is routed to (uniform routing), and the KV cache of
    decoding requests. Work is spread evenly over the GPUs of the rank.
    """
    key = table.key
    expert = (
        (facts.parameters - facts.active_parameters) / (facts.experts - facts.experts_per_token)
        if facts.moe
        else 0.0
    )
    scale = WEIGHT_BYTES[key.weights] / key.gpus
    dense_bytes = (facts.parameters - facts.experts * expert) * scale * key.data
    expert_bytes = facts.experts * expert * scale
    miss = 1 - facts.experts_per_token / facts.experts if facts.moe else 0.0
    token_flop = 2 * facts.active_parameters / key.tensor
    attention_flop = 4 * facts.layers * facts.hidden / key.tensor
    kv_bytes, tokens_each = table.memory.kv_bytes_per_token, 1 + drafts

    def work(batch: Batch) -> Work:
        decoded, context = batch.decodes * tokens_each, batch.decodes * batch.context
        tokens = batch.prefill_tokens + decoded
        attended = batch.prefill_tokens * batch.attended + context * tokens_each
        flop = token_flop * tokens + attention_flop * attended
        touched = 1 - miss ** (tokens * key.data) if expert_bytes else 0.0
        read = dense_bytes + expert_bytes * touched + (context + batch.prefill_tokens) * kv_bytes
        return Work(flop, read)

    return work
