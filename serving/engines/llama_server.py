"""`llama-server` on top of the xllamacpp wheel: the same flags, the same server.

`wattfront engines install llamacpp` copies this file into the environment, whose Python runs it.
"""

import argparse
import os
import signal
import sys
from typing import Any, NoReturn

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
FLASH_ATTENTION = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


class LlamaParser(argparse.ArgumentParser):
    """Reports errors as llama.cpp does: one line that begins with `error`, exit code 1."""

    def error(self, message: str) -> NoReturn:
        """Exits, like that of ArgumentParser."""
        refuse(f"error while handling argument: {message}")


def refuse(line: str) -> NoReturn:
    """Exits with code 1 and a line on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.exit(1)


def parse(argv: list[str]) -> argparse.Namespace:
    """The flags of `llama-server` that Wattfront has knobs for; exits on any other."""
    parser = LlamaParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-m", "--model")
    parser.add_argument("-a", "--alias")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=0)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("-b", "--batch-size", type=int, default=2048)
    parser.add_argument("-ub", "--ubatch-size", type=int, default=512)
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("-tb", "--threads-batch", type=int)
    parser.add_argument("-ctk", "--cache-type-k", choices=CACHE_TYPES)
    parser.add_argument("-ctv", "--cache-type-v", choices=CACHE_TYPES)
    parser.add_argument("-fa", "--flash-attn", choices=FLASH_ATTENTION)
    parser.add_argument("-kvu", "--kv-unified", action="store_true")
    parser.add_argument("-ngl", "--n-gpu-layers", type=int)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--no-warmup", action="store_true")
    parser.add_argument("--no-webui", action="store_true")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        refuse(f"error: unknown argument: {unknown[0]}")
    if options.model is None and not options.version:
        refuse("error: --model is required")
    return options


def params(xllamacpp: Any, options: argparse.Namespace) -> Any:
    """The options as `xllamacpp.CommonParams`; an option that is not given keeps llama.cpp's default."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = options.model
    wanted.model_alias = {options.alias} if options.alias else set()
    if hasattr(wanted, "hostnames"):
        wanted.hostnames = [options.host]
    else:  # before 2026.10
        wanted.hostname = options.host
    wanted.port = options.port
    if key := os.environ.get("LLAMA_API_KEY"):
        wanted.api_keys = [key]
    wanted.n_ctx, wanted.n_parallel = options.ctx_size, options.parallel
    wanted.n_batch, wanted.n_ubatch = options.batch_size, options.ubatch_size
    wanted.kv_unified, wanted.endpoint_metrics = options.kv_unified, options.metrics
    wanted.warmup, wanted.ui = not options.no_warmup, not options.no_webui
    if options.threads:
        wanted.cpuparams.n_threads = options.threads
    if batch_threads := options.threads_batch or options.threads:
        wanted.cpuparams_batch.n_threads = batch_threads
    if options.cache_type_k:
        wanted.cache_type_k = cache_type(xllamacpp, options.cache_type_k)
    if options.cache_type_v:
        wanted.cache_type_v = cache_type(xllamacpp, options.cache_type_v)
    if options.flash_attn:
        name = f"LLAMA_FLASH_ATTN_TYPE_{FLASH_ATTENTION[options.flash_attn]}"
        wanted.flash_attn_type = xllamacpp.llama_flash_attn_type[name]
    if options.n_gpu_layers is not None:
        wanted.n_gpu_layers = options.n_gpu_layers
    return wanted


def cache_type(xllamacpp: Any, name: str) -> Any:
    """xllamacpp's constant for a data type of the KV cache."""
    return xllamacpp.ggml_type[f"GGML_TYPE_{name.upper()}"]


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    options = parse(sys.argv[1:])
    import xllamacpp

    if options.version:
        sys.stdout.write(f"version: xllamacpp {xllamacpp.__version__}\n")
        return
    try:
        server = xllamacpp.Server(params(xllamacpp, options))
    except RuntimeError as error:
        refuse(f"error: {error}")
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before the server starts threads: they inherit the mask, so that only `sigwait` gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
