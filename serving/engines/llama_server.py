"""`llama-server` for environments that have llama.cpp only as the xllamacpp wheel: same flags, same HTTP server.

Copied into the environment by `wattfront engines install llamacpp` and run by its Python; imported by nobody.
"""

import argparse
import signal
import sys


def parse(argv: list[str]) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> None:
            sys.stderr.write(f"error: invalid argument: {message}\n")
            sys.exit(1)

    parser = Parser(prog="llama-server", allow_abbrev=False)
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
    types = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
    parser.add_argument("-ctk", "--cache-type-k", choices=types)
    parser.add_argument("-ctv", "--cache-type-v", choices=types)
    parser.add_argument("-fa", "--flash-attn", choices=["on", "off", "auto"])
    parser.add_argument("-kvu", "--kv-unified", action="store_true")
    parser.add_argument("-ngl", "--n-gpu-layers", type=int)
    parser.add_argument("--metrics", action="store_true")
    return parser.parse_args(argv)


def main() -> None:
    options = parse(sys.argv[1:])
    import xllamacpp

    if options.version:
        sys.stdout.write(f"version: {getattr(xllamacpp, 'BUILD_INFO', 'unknown')}\n")
        return
    if options.model is None:
        sys.stderr.write("error: invalid argument: --model is required\n")
        sys.exit(1)
    server = xllamacpp.Server(params(xllamacpp, options))
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def params(xllamacpp: object, options: argparse.Namespace) -> object:
    wanted = xllamacpp.CommonParams()  # type: ignore[attr-defined]
    wanted.model.path = options.model
    wanted.model_alias = {options.alias} if options.alias else set()
    wanted.hostnames, wanted.port = [options.host], options.port
    wanted.n_ctx, wanted.n_parallel = options.ctx_size, options.parallel
    wanted.n_batch, wanted.n_ubatch = options.batch_size, options.ubatch_size
    wanted.kv_unified, wanted.endpoint_metrics = options.kv_unified, options.metrics
    if options.threads:
        wanted.cpuparams.n_threads = options.threads
        wanted.cpuparams_batch.n_threads = options.threads_batch or options.threads
    elif options.threads_batch:
        wanted.cpuparams_batch.n_threads = options.threads_batch
    kinds = xllamacpp.ggml_type  # type: ignore[attr-defined]
    if options.cache_type_k:
        wanted.cache_type_k = kinds[f"GGML_TYPE_{options.cache_type_k.upper()}"]
    if options.cache_type_v:
        wanted.cache_type_v = kinds[f"GGML_TYPE_{options.cache_type_v.upper()}"]
    if options.flash_attn:
        names = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
        choices = xllamacpp.llama_flash_attn_type  # type: ignore[attr-defined]
        wanted.flash_attn_type = choices[f"LLAMA_FLASH_ATTN_TYPE_{names[options.flash_attn]}"]
    if options.n_gpu_layers is not None:
        wanted.n_gpu_layers = options.n_gpu_layers
    return wanted


if __name__ == "__main__":
    # Before any thread of the server exists, so that all of them inherit it and `sigwait` gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
