"""A twin server whose step time is a formula: `python -m tests.serving.twin.server.stub JSON -- ARGV`.

JSON: fields of `Formula`.
"""

import json
import sys
from dataclasses import dataclass

from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import Assembled, scheduler_config
from serving.twin.frameworks.dialects import DIALECTS, EngineInfo
from serving.twin.frameworks.flags import parse
from serving.twin.server.server import serve
from serving.twin.tables.steptime import TableKey
from tests.serving.twin.emulations import LinearStepTime, emulation_of


@dataclass(frozen=True)
class Formula:
    base_s: float = 0.002
    prompt_s: float = 1e-6
    decode_s: float = 0.0
    blocks: int = 20_000
    start_scale: float = 0.0


def main(formula: Formula, argv: list[str]) -> int:
    setup = parse(argv)
    emulation = emulation_of(
        scheduler_config(setup, acceptance=0.7),
        blocks=formula.blocks,
        block_tokens=setup.block_tokens,
        prefix_caching=setup.prefix_caching,
        ranks=setup.data,
        times=LinearStepTime(formula.base_s, formula.prompt_s, formula.decode_s),
    )
    key = TableKey("b300_sxm", setup.framework, "stub", "bf16", "bf16", setup.tensor, setup.data, 1)
    tokens = formula.blocks * setup.block_tokens
    assembled = Assembled(emulation, tokens, 70e9, "a formula", key)
    config = TwinConfig(system="b300_sxm", start_scale=formula.start_scale)
    info = EngineInfo(setup, tokens, 70e9, "a formula", config.start_scale * assembled.start_s)
    try:
        return serve(assembled, DIALECTS[setup.framework], info, config)
    except OSError as error:
        print(f"OSError: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main(Formula(**json.loads(sys.argv[1])), sys.argv[3:]))
