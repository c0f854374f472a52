"""How a NIM dies: as the engine inside, vLLM or SGLang, or for want of a profile."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS
from serving.engines.deaths.sglang import SGLANG
from serving.engines.deaths.vllm import VLLM
from serving.errors import BadFlags

NIM = DeathTable(
    deaths=(
        Death(
            r"No (compatible|valid|matching) profiles?",
            BadFlags,
            "Choose a model_profile that list-model-profiles shows as compatible with these GPUs.",
            "NIM documentation",
            "2.1",
            phase="start",
        ),
        Death(
            r"^nim[\w-]*(?: [\w-]+)*: error: ",
            *(BadFlags, FLAGS, "argparse", "2.1"),
            phase="start",
        ),
        *VLLM.deaths,
        *SGLANG.deaths,
    ),
    phases=(*VLLM.phases, *SGLANG.phases),
    remedies=VLLM.remedies,
)
