"""The options of `python -m loadgen`, and the workload that they describe."""

import argparse
import json
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loadgen.cli.request_options import merged, override_options, overrides
from loadgen.http.protocol import INSECURE
from loadgen.results.metrics import METRICS
from loadgen.results.stats import LIMITS
from loadgen.workload.strict import TOKENS_MAX
from loadgen.workload.workload import Workload
from loadgen.workload.yaml_file import read_mapping

EXAMPLES = """examples:
  python -m loadgen http://127.0.0.1:8000 --concurrency 1,2,4,8
  python -m loadgen $URL --concurrency 256 --requests 1024 --json out.json
  python -m loadgen $URL --rate 1000 --arrival constant --duration 60 --shards 2
  python -m loadgen $URL --concurrency auto --tier 'chat:ttft_p99_ms<=500'
  python -m loadgen $URL --workload trace.yaml --parquet records.parquet

Latencies count from when a request was due. A level marked "!" is invalid, for
the reasons given below the table.
"""

OPTIONS = {  # field of a workload → option, where the names differ
    "level_s": "duration",
    "level_max_s": "max-duration",
    "max_requests": "requests",
    "warmup_s": "warmup",
    "request_timeout_s": "timeout",
    "rate_per_s": "rate",
    "kind": "arrival",
}
DEFAULTS: dict[str, Any] = {
    "name": "command line",
    "input_tokens": 128,
    "output_tokens": 64,
    "level_s": 10.0,
    "warmup_s": 2.0,
}
_MAX_DURATION_FACTOR = 6  # on the duration, for levels that are extended
_COUNTED_MAX_S = 86400.0  # for levels that end after a number of requests
_TIER_METRICS = tuple(metric.name for metric in METRICS if metric.direction == "min")
_ARRIVAL_KINDS = ("closed", "constant", "poisson", "gamma", "ramp", "step", "trace", "adaptive")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m loadgen",
        usage="python -m loadgen URL [options]",
        description="Measures an OpenAI-compatible endpoint at one or more load levels.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("url", metavar="URL", help="http://HOST:PORT, with or without /v1 or a path")
    text = "workload in YAML or JSON; options override it"
    made.add_argument("--workload", type=Path, metavar="FILE", help=text)
    _load_options(made.add_argument_group("load"))
    _duration_options(made.add_argument_group("duration of a level"))
    _request_options(made.add_argument_group("requests"))
    override_options(made.add_argument_group("changes to the requests"))
    _output_options(made.add_argument_group("output"))
    return made


def _load_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    text = "closed loop: users, one level per value (default 1); auto: search"
    add("--concurrency", metavar="N,N", help=text)
    text = "open loop: requests per second, one level per value; auto: search"
    add("--rate", metavar="R,R", help=text)
    text = "open loop: arrival process (default poisson)"
    add("--arrival", choices=("constant", "poisson", "gamma"), help=text)
    text = "gamma arrivals: 1 is Poisson, less is burstier"
    add("--burstiness", type=float, metavar="B", help=text)
    text = "open loop: most requests in flight; the wait of others is latency"
    add("--max-concurrency", type=int, metavar="N", help=text)
    add("--levels", type=int, metavar="N", help="auto: most levels to measure (default 8)")
    add("--highest", type=float, metavar="LOAD", help="auto: highest load to try (default 1024)")
    text = "auto: find the highest load within NAME:METRIC<=LIMIT,…; repeatable"
    add("--tier", action="append", default=[], metavar="LIMITS", help=text)
    add("--shards", type=int, metavar="N", help="load generator processes (default 1)")


def _duration_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    text = "send N requests and wait for the responses"
    add("--requests", type=int, metavar="N", help=text)
    add("--duration", type=float, metavar="S", help="measured seconds (default 10)")
    add("--min-requests", type=int, metavar="N", help="extend until N requests are measured")
    text = "extend until throughput, TTFT and TPOT are known to ±P, such as 0.03"
    add("--precision", type=float, metavar="P", help=text)
    text = "longest level, seconds (default 6 × duration)"
    add("--max-duration", type=float, metavar="S", help=text)
    add("--warmup", type=float, metavar="S", help="shortest warm-up, seconds (default 2)")
    add("--timeout", type=float, metavar="S", help="of a request, seconds (default 120)")


def _request_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--endpoint", choices=("completions", "chat"), help="API route (default completions)")
    text = "form of the prompt (default token_ids; text for chat)"
    add("--prompt", choices=("token_ids", "text"), help=text)
    add("--input-tokens", type=int, metavar="N", help="prompt length (default 128)")
    add("--output-tokens", type=int, metavar="N", help="answer length (default 64)")
    text = "spread lengths: uniform between R and 1 times those (default 1)"
    add("--range-ratio", type=float, metavar="R", help=text)
    text = "tokenizer.json, for text prompts of exact lengths"
    add("--tokenizer", type=Path, metavar="FILE", help=text)
    add("--stop-at-eos", action="store_true", help="let the model end answers early")
    add("--model", metavar="NAME", help="default: the first model that the endpoint lists")
    text = "vocabulary size of the model (default 32000)"
    add("--vocabulary", type=vocabulary, default=32000, metavar="N", help=text)
    text = "sent as a bearer token (default $OPENAI_API_KEY)"
    add("--api-key", metavar="KEY", help=text)
    add("--insecure", action="store_true", help="do not check the TLS certificate")
    text = "seed of prompts, lengths and arrivals (default 0)"
    add("--seed", type=int, metavar="N", help=text)
    text = "repeat the prompts of an earlier run; 0: no salt (default: a new one for each run)"
    add("--prompt-salt", type=int, metavar="N", help=text)


def _output_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    text = "write all metrics; - for stdout, without the table"
    add("--json", type=Path, metavar="FILE", help=text)
    text = "write one row per request, with all event times"
    add("--parquet", type=Path, metavar="FILE", help=text)
    text = "rate of requests within ttft_ms<=500,tpot_ms<=50; repeatable"
    add("--goodput", action="append", default=[], metavar="LIMITS", help=text)


def vocabulary(text: str) -> int:
    """A number of token ids. Raises argparse's error."""
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 0 < int(text) <= TOKENS_MAX):
        raise argparse.ArgumentTypeError(f"expected 1 to {TOKENS_MAX:,}, got {text!r}")
    return int(text)


def url(args: argparse.Namespace) -> str:
    """The URL; `--insecure` becomes part of its scheme."""
    given = str(args.url)
    return given.replace("https://", f"{INSECURE}://", 1) if args.insecure else given


def api_key(args: argparse.Namespace) -> str | None:
    """The key of `--api-key` or the environment; None if it is empty."""
    return (args.api_key or os.environ.get("OPENAI_API_KEY", "")).strip() or None


def workload(args: argparse.Namespace) -> Workload:
    """Raises ValueError (pydantic's is one), or OSError for a file that can't be read."""
    fields = dict(DEFAULTS) if args.workload is None else _from_file(args.workload)
    given = {
        "endpoint": args.endpoint,
        "prompt": args.prompt,
        "input_tokens": args.input_tokens,
        "output_tokens": args.output_tokens,
        "tokenizer": args.tokenizer,
        "ignore_eos": False if args.stop_at_eos else None,
        "warmup_s": args.warmup,
        "level_s": args.duration,
        "level_max_s": args.max_duration,
        "max_requests": args.requests,
        "min_requests": args.min_requests,
        "precision": args.precision,
        "request_timeout_s": args.timeout,
        "shards": args.shards,
        "seed": args.seed,
        "prompt_salt": args.prompt_salt,
    }
    fields |= {name: value for name, value in given.items() if value is not None}
    fields |= _spread(args.range_ratio, fields)
    if changes := overrides(args):
        fields["request"] = merged(fields.get("request"), changes)
    arrival = _arrival(args)
    if arrival is not None or "arrival" not in fields:
        fields["arrival"] = arrival or {"kind": "closed", "concurrency": [1]}
    if fields.get("endpoint") == "chat" and args.prompt is None:
        fields["prompt"] = "text"
    if args.max_duration is None and (args.workload is None or args.duration or args.requests):
        fields["level_max_s"] = _max_duration_s(args, fields)
    return Workload.model_validate(fields)


def _spread(ratio: float | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The lengths that are plain numbers, spread. Raises ValueError."""
    if ratio is None:
        return {}
    if not 0 < ratio <= 1:
        raise ValueError(f"--range-ratio: expected more than 0 and at most 1, got {ratio:g}")
    plain = {
        name: fields[name]
        for name in ("input_tokens", "output_tokens")
        if isinstance(fields.get(name), int)
    }
    if not plain:
        raise ValueError("--range-ratio: the workload has no plain lengths to spread")
    return {
        name: {"kind": "range_ratio", "tokens": tokens, "ratio": ratio}
        for name, tokens in plain.items()
    }


def _max_duration_s(args: argparse.Namespace, fields: dict[str, Any]) -> float:
    if args.requests is not None and args.duration is None:
        return _COUNTED_MAX_S
    level_s = float(fields.get("level_s", DEFAULTS["level_s"]))
    return level_s if args.requests is not None else _MAX_DURATION_FACTOR * level_s


def _arrival(args: argparse.Namespace) -> dict[str, Any] | None:
    limit = {"max_concurrency": args.max_concurrency} if args.max_concurrency is not None else {}
    if args.rate is not None and args.concurrency is not None:
        raise ValueError("--rate and --concurrency exclude each other: open loop or closed loop")
    if args.rate is None and (args.arrival or limit):
        raise ValueError(f"--{'arrival' if args.arrival else 'max-concurrency'} requires --rate")
    if (args.arrival == "gamma") != (args.burstiness is not None):
        raise ValueError("--arrival gamma and --burstiness go together")
    if "auto" not in (args.rate, args.concurrency):
        search = {"--tier": args.tier, "--levels": args.levels, "--highest": args.highest}
        if unused := [option for option, value in search.items() if value]:
            raise ValueError(f"{unused[0]} requires --concurrency auto or --rate auto")
    if "auto" in (args.rate, args.concurrency):
        loop = (args.arrival or "poisson") if args.rate else "closed"
        search = {"highest": args.highest, "levels": args.levels, "tiers": tiers(args) or None}
        chosen = {name: value for name, value in search.items() if value is not None}
        return {"kind": "adaptive", "loop": loop} | chosen | limit
    if args.rate is not None:
        rates = numbers("--rate", args.rate, float)
        made: dict[str, Any] = {"kind": args.arrival or "poisson", "rate_per_s": rates}
        shape = {"burstiness": args.burstiness} if args.burstiness is not None else {}
        return made | shape | limit
    if args.concurrency is not None:
        users = numbers("--concurrency", args.concurrency, int)
        return {"kind": "closed", "concurrency": users}
    return None


def _from_file(path: Path) -> dict[str, Any]:
    return {"name": path.stem} | read_mapping(path)


def numbers(option: str, value: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    """`1,2,4`. Raises ValueError with the option's name."""
    try:
        return [kind(word) for word in value.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers such as 1,2,4, got {value!r}") from None


def limits(option: str, text: str, known: Collection[str]) -> dict[str, float]:
    """`ttft_p99_ms<=500,tpot_p50_ms<=50`. Raises ValueError with the option's name."""
    made = {}
    for word in text.split(","):
        name, mark, value = (part.strip() for part in word.partition("<="))
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not mark or not math.isfinite(limit) or limit < 0:
            raise ValueError(f"{option}: expected METRIC<=NUMBER, got {word!r}")
        if name not in known:
            raise ValueError(f"{option}: there is no {name!r}; metrics: {', '.join(known)}")
        made[name] = limit
    return made


def goodput_limits(args: argparse.Namespace) -> dict[str, float]:
    """The limits of all `--goodput` together. Raises ValueError."""
    each = [limits("--goodput", text, LIMITS) for text in args.goodput]
    return {name: limit for found in each for name, limit in found.items()}


def tiers(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The limits of each `--tier NAME:LIMITS`, by name."""
    made = {}
    for text in args.tier:
        name, mark, rest = text.partition(":")
        if not mark:
            raise ValueError(f"--tier: expected NAME:METRIC<=LIMIT, got {text!r}")
        made[name] = limits("--tier", rest, _TIER_METRICS)
    return made


def error_line(error: ValueError | OSError) -> str:
    """The message of an error in one line, with the option that it is about."""
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    keys = [str(k) for k in first["loc"] if k not in ("arrival", *_ARRIVAL_KINDS)]
    if not keys or (isinstance(first["loc"][-1], int) and len(keys) > 2):
        return first["msg"].removeprefix("Value error, ")
    option = OPTIONS.get(keys[0], keys[0]).replace("_", "-")
    return f"--{option}: {first['msg'].lower()} (got {json.dumps(first['input'], default=str)})"
