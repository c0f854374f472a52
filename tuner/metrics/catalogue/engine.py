"""What an engine reports of a load level: queues, KV cache, prefix cache, speculative decoding. Pure."""

from tuner.metrics.catalogue.metric import Metric, by_name

QUEUES = by_name((
    Metric(
        name="engine_running_mean",
        unit="requests",
        label="mean running requests",
        meaning="requests that the engine runs at once, mean over the window",
    ),
    Metric(
        name="engine_running_max",
        unit="requests",
        label="most running requests",
        meaning="requests that the engine runs at once, most of any sample in the window",
    ),
    Metric(
        name="engine_waiting_mean",
        unit="requests",
        label="mean waiting requests",
        meaning="requests in the engine's queue, mean over the window",
    ),
    Metric(
        name="engine_waiting_max",
        unit="requests",
        label="most waiting requests",
        meaning="requests in the engine's queue, most of any sample in the window",
    ),
    Metric(
        name="engine_kv_cache_share_max",
        unit="share",
        label="highest share of the KV cache in use",
        meaning="share of the KV cache that requests hold, highest of any sample in the window",
    ),
    Metric(
        name="engine_preemptions",
        unit="requests",
        label="preemptions",
        meaning="requests that lost their KV cache within the window, to be computed again (SGLang: retracted)",
    ),
    Metric(
        name="engine_prefix_hit_share",
        unit="share",
        label="prefix cache hits",
        meaning="share of prompt tokens within the window that the prefix cache served",
    ),
    Metric(
        name="engine_draft_acceptance",
        unit="share",
        label="accepted share of draft tokens",
        meaning="share of draft tokens within the window that were accepted (speculative decoding only)",
    ),
))  # fmt: skip
# There only where an engine reports them: two pools.
ROLE_QUEUES = by_name((
    Metric(
        name="engine_prefill_queue_max",
        unit="requests",
        label="most requests in the prefill queue",
        meaning="requests that wait in the prefill pool, most of any sample (disaggregated serving only)",
    ),
    Metric(
        name="engine_decode_queue_max",
        unit="requests",
        label="most requests in the decode queue",
        meaning="requests that wait in the decode pool, most of any sample (disaggregated serving only)",
    ),
))  # fmt: skip
ENGINE = QUEUES | ROLE_QUEUES
