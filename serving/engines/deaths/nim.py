"""How a NIM dies: as the engine inside, vLLM or SGLang, or for want of a profile or of rights."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS
from serving.engines.deaths.sglang import SGLANG
from serving.engines.deaths.vllm import VLLM
from serving.errors import BadFlags, GpuOccupied, ModelGated, Unsupported

PROFILE = "Choose a model_profile that list-model-profiles shows as compatible with these GPUs."
HARDWARE = (
    "Use GPUs for which the image has a profile (list-model-profiles shows them), or an image without model "
    "and model.source in place of its profiles."
)
RIGHTS = (
    "Set NGC_API_KEY on every node to a key of an account that accepted the model's terms on NGC; for "
    "models of Hugging Face, HF_TOKEN."
)
REGION = (
    "Fetch the model's files elsewhere and give their path: NGC does not serve them to this region."
)
READ = "2026-11-30"

NIM = DeathTable(
    deaths=(
        # --- rights
        Death(
            r"HTTP status client error \(451 ",
            *(ModelGated, REGION, "nim-sdk; video-search-and-summarization#1470", READ),
            phase="load",
        ),
        Death(
            r"HTTP status client error \(40[13] |^Authentication Error|: Authentication Error|"
            r"Permission error: The requested operation requires permissions",
            *(ModelGated, RIGHTS, "nim-sdk; nim-deploy#178, NemoClaw#3333", READ),
            phase="load",
        ),
        # --- profiles
        Death(
            r"compatible profile\(s\) that are currently not",
            GpuOccupied,
            "End the process that holds the GPU's memory (nvidia-smi names it): a profile fits this GPU, but "
            "not its free memory.",
            "nimlib ngc_profile.py",
            "1.0",
            phase="start",
        ),
        Death(
            r"Could not find a profile that is currently runnable",
            *(Unsupported, HARDWARE, "nimlib utils.py", "1.0"),
            phase="start",
        ),
        Death(
            r"No (compatible|valid|matching) profiles?|NIMProfileIDNotFound|"
            r"Could not match a profile in manifest|Not all of the provided profiles are supported",
            *(BadFlags, PROFILE, "nimlib nim_sdk.py; nim-deploy#178, k8s-nim-operator#407", "2.1"),
            phase="start",
        ),
        # --- flags
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
