"""SGLang's own verdict over command lines. Run by the Python of an environment that has SGLang: CASES VERDICTS.

Its parser, the resolution of all settings and its checks across flags, on a platform that says which GPU it
has: `override_platform`, which SGLang's own tests use.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(cases: Path, verdicts: Path) -> None:
    """Writes for each case the error, or an empty text."""
    asked = json.loads(cases.read_text())
    server_args: Any = importlib.import_module("sglang.srt.server_args")
    context: Any = importlib.import_module("sglang.srt.runtime_context")
    found = []
    with context.override_platform(**_facts(*asked["gpu"]["capability"])):
        for words in asked["cases"]:
            try:
                args = server_args.prepare_server_args([*words, "--device", "cuda"])
                args.resolve_once()
                args.check_server_args()
                found.append("")
            except (Exception, SystemExit) as error:  # noqa: BLE001  (the engine would not start)
                found.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    version = importlib.import_module("sglang.version").__version__
    verdicts.write_text(json.dumps({"version": version, "verdicts": found}))


def _facts(major: int, minor: int) -> dict[str, Any]:
    hopper = major == 9
    return {
        "is_cuda": True,
        "is_hip": False,
        "has_amx": False,
        "has_flashinfer": True,
        "is_sm90": hopper,
        "is_hopper_with_cuda_12_3": hopper,
        "is_sm100": not hopper,
        "is_sm100_or_sm110": not hopper,
        "is_blackwell": not hopper,
        "is_sm120": False,
        "device_sm": 10 * major + minor,
        "device_capability": (major, minor),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
