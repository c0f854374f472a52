"""From a workload to the source of its requests."""

from loadgen.prompts.base import Source
from loadgen.prompts.dataset import dataset_rows, read_dataset
from loadgen.prompts.encoding import Writer, writer_of
from loadgen.prompts.mixture import mixture
from loadgen.prompts.synthetic import synthetic
from loadgen.prompts.traces import read_trace, replay
from loadgen.workload.lengths import most
from loadgen.workload.workload import Content, Workload


def build(workload: Workload, vocabulary: int) -> Source:
    """Raises BadWorkload: a file that can't be read, or holds what it should not."""
    parts: tuple[Content, ...] = workload.mixture or (workload,)
    traces = {
        i: read_trace(p.dataset) for i, p in enumerate(parts) if p.dataset and p.dataset.is_trace
    }
    longest = max([1, *map(_longest_slice, parts), *(t.longest_input for t in traces.values())])
    writer = writer_of(workload, vocabulary, longest)
    sources: list[Source] = [
        replay(traces[i], writer, workload.seed)
        if i in traces
        else _source(part, writer, workload, i)
        for i, part in enumerate(parts)
    ]
    if len(sources) == 1:
        return sources[0]
    return mixture(sources, [part.weight for part in workload.mixture], workload.seed)


def _source(part: Content, writer: Writer, workload: Workload, index: int) -> Source:
    if part.dataset is not None:
        return read_dataset(part, dataset_rows(part.dataset), writer, workload.tokenizer)
    return synthetic(part, writer, (workload.seed, index))


def _longest_slice(part: Content) -> int:
    longest = most(part.input_tokens) if part.input_tokens is not None else 1
    following = most(part.conversation.next_tokens) if part.conversation else 1
    return max(longest, following)
