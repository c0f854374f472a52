"""From a workload to the source of its requests."""

from loadgen.content.base import Source
from loadgen.workload import Workload


def build(workload: Workload, vocabulary: int) -> Source:
    from loadgen import prompts
    from loadgen.content.base import Ask

    made = (
        prompts.token_ids(workload.input_tokens, vocabulary, workload.seed)
        if workload.prompt == "token_ids"
        else prompts.text(workload.input_tokens, workload.seed)
    )

    class S:
        size = None
        due_s = None
        multi_turn = False
        longest_tokens = 0

        def first(self, number):
            return Ask(made.encoded(number), workload.output_tokens, workload.input_tokens)

        def next(self, ask, answer):
            return None

    return S()
