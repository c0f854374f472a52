"""Makes the request source of a workload."""

from loadgen.prompts.base import Source
from loadgen.prompts.dataset import dataset_source, read_dataset
from loadgen.prompts.encoding import PromptEncoder, prompt_encoder
from loadgen.prompts.mixture import mixture_source
from loadgen.prompts.synthetic import synthetic_source
from loadgen.prompts.traces import read_trace, trace_source
from loadgen.workload.lengths import longest
from loadgen.workload.workload import Content, Workload


def build(workload: Workload, vocabulary: int) -> Source:
    """Raises BadWorkload for a file that can't be read or has invalid content."""
    parts: tuple[Content, ...] = workload.mixture or (workload,)
    traces = {
        i: read_trace(p.dataset) for i, p in enumerate(parts) if p.dataset and p.dataset.is_trace
    }
    slices = (*map(_longest_slice, parts), *(t.longest_input for t in traces.values()))
    encoder = prompt_encoder(workload, vocabulary, max(1, *slices))
    sources: list[Source] = [
        trace_source(traces[i], encoder, workload.seed)
        if i in traces
        else _source(part, encoder, workload, i)
        for i, part in enumerate(parts)
    ]
    if len(sources) == 1:
        return sources[0]
    return mixture_source(sources, [part.weight for part in workload.mixture], workload.seed)


def judged(workload: Workload) -> list[str]:
    """Reads all files of a workload, before any load. Returns a line for each that is used in part.

    Raises BadWorkload.
    """
    lines = []
    for part in workload.mixture or (workload,):
        if part.dataset is None:
            continue
        read = read_trace if part.dataset.is_trace else read_dataset
        left_out = {what: count for what, count in read(part.dataset).left_out.items() if count}
        if left_out:
            counts = ", ".join(f"{count:,} {what}" for what, count in left_out.items())
            lines.append(f"{part.dataset.path}: left out: {counts}")
    return lines


def _source(part: Content, encoder: PromptEncoder, workload: Workload, index: int) -> Source:
    if part.dataset is not None:
        return dataset_source(part, read_dataset(part.dataset).rows, encoder, workload.tokenizer)
    return synthetic_source(part, encoder, (workload.seed, index))


def _longest_slice(part: Content) -> int:
    """The most tokens that are cut from the token pool at once."""
    first = longest(part.input_tokens) if part.input_tokens is not None else 1
    later = longest(part.conversation.next_tokens) if part.conversation else 1
    return max(first, later)
