"""The command line, and the workload that it asks for."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loadgen.http.protocol import INSECURE
from loadgen.workload.workload import Workload

EXAMPLE = """examples:
  python -m loadgen http://127.0.0.1:8000 --concurrency 1,2,4,8 --input-tokens 512
  python -m loadgen http://127.0.0.1:8000 --concurrency 256 --requests 1024 --json out.json
  python -m loadgen http://127.0.0.1:8000 --rate 1000 --arrival constant --duration 60 --shards 2
  python -m loadgen http://127.0.0.1:8000 --concurrency auto --tier 'chat:ttft_p99_ms<=500'
  python -m loadgen http://127.0.0.1:8000 --workload trace.yaml --parquet records.parquet

Latencies count from when a request was due. A line marked ! is not to be trusted: why stands below.
"""

OPTIONS = {  # where an option is not called as its field
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
_LONGEST_S = 6  # times the duration, where more requests or more precision are asked for
_COUNTED_MAX_S = 86400.0  # a level that is counted in requests has no time of its own
_SIZES = ("closed", "constant", "poisson", "gamma", "ramp", "step", "trace", "adaptive")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m loadgen",
        description="Drives an OpenAI-compatible endpoint over a ladder of load levels.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("url", help="http://HOST:PORT, with or without /v1 or another path")
    made.add_argument("--workload", type=Path, metavar="FILE", help="YAML or JSON; options go over")
    _load_options(made.add_argument_group("load"))
    _length_options(made.add_argument_group("length of a level"))
    _request_options(made.add_argument_group("requests"))
    _output_options(made.add_argument_group("output"))
    return made


def _load_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--concurrency", metavar="N,N", help="closed loop: users of each level (1); auto: a search")
    add(
        "--rate", metavar="R,R", help="open loop: requests per second of each level; auto: a search"
    )
    add("--arrival", choices=("constant", "poisson", "gamma"), help="of an open loop (poisson)")
    add("--burstiness", type=float, metavar="B", help="gamma: 1 is Poisson, less is burstier")
    add("--max-concurrency", type=int, metavar="N", help="open loop: more wait, and that counts")
    add("--levels", type=int, metavar="N", help="auto: at most so many (8)")
    add("--highest", type=float, metavar="LOAD", help="auto: not above (1024)")
    tier = "auto: look for the highest load that keeps NAME:METRIC<=LIMIT,…; repeatable"
    add("--tier", action="append", default=[], metavar="LIMITS", help=tier)
    add("--shards", type=int, metavar="N", help="processes that share the load (1)")


def _length_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--requests", type=int, metavar="N", help="send so many, and wait for their answers")
    add("--duration", type=float, metavar="S", help="time measured at each level (10)")
    add("--min-requests", type=int, metavar="N", help="go on until so many were measured")
    add("--precision", type=float, metavar="P", help="go on until all is known to ±P, say 0.03")
    add("--max-duration", type=float, metavar="S", help="... but not longer (6 times the duration)")
    add("--warmup", type=float, metavar="S", help="the least that is cut off (2)")
    add("--timeout", type=float, metavar="S", help="of a request (120)")


def _request_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--endpoint", choices=("completions", "chat"))
    add("--prompt", choices=("token_ids", "text"), help="token_ids (exact lengths); text for chat")
    add("--input-tokens", type=int, metavar="N", help="128")
    add("--output-tokens", type=int, metavar="N", help="64")
    add("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json: text of exact lengths")
    add("--stop-at-eos", action="store_true", help="answers may end early")
    add("--model", help="the first that the endpoint lists, if not given")
    add("--vocabulary", type=int, default=32000, metavar="N", help="of the model (32000)")
    add("--api-key", help="sent as a bearer token (else $OPENAI_API_KEY)")
    add("--insecure", action="store_true", help="https with whatever certificate")
    add("--seed", type=int)


def _output_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--json", type=Path, metavar="FILE", help="all figures; - for stdout, and no table")
    add("--parquet", type=Path, metavar="FILE", help="one row a request, with every event's time")
    add("--goodput", action="append", default=[], metavar="LIMIT", help="ttft_ms<=500, tpot_ms<=50")


def url(args: argparse.Namespace) -> str:
    given = str(args.url)
    return given.replace("https://", f"{INSECURE}://", 1) if args.insecure else given


def api_key(args: argparse.Namespace) -> str | None:
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
    }
    fields |= {name: value for name, value in given.items() if value is not None}
    arrival = _arrival(args)
    if arrival is not None or "arrival" not in fields:
        fields["arrival"] = arrival or {"kind": "closed", "concurrency": [1]}
    if fields.get("endpoint") == "chat" and args.prompt is None:
        fields["prompt"] = "text"
    if args.max_duration is None and (args.workload is None or args.duration or args.requests):
        fields["level_max_s"] = _longest_s(args, fields)
    return Workload.model_validate(fields)


def _longest_s(args: argparse.Namespace, fields: dict[str, Any]) -> float:
    if args.requests is not None and args.duration is None:
        return _COUNTED_MAX_S
    level_s = float(fields.get("level_s", DEFAULTS["level_s"]))
    return level_s if args.requests is not None else _LONGEST_S * level_s


def _arrival(args: argparse.Namespace) -> dict[str, Any] | None:
    opened = {"max_concurrency": args.max_concurrency} if args.max_concurrency is not None else {}
    if args.rate is not None and args.concurrency is not None:
        raise ValueError("--rate and --concurrency: an open loop or a closed one, not both")
    if args.rate is None and (args.arrival or opened):
        raise ValueError(f"--{'arrival' if args.arrival else 'max-concurrency'} goes with --rate")
    if (args.arrival == "gamma") != (args.burstiness is not None):
        raise ValueError("--arrival gamma and --burstiness go together")
    if "auto" in (args.rate, args.concurrency):
        loop = (args.arrival or "poisson") if args.rate else "closed"
        found = {"highest": args.highest, "levels": args.levels, "tiers": tiers(args) or None}
        chosen = {name: value for name, value in found.items() if value is not None}
        return {"kind": "adaptive", "loop": loop} | chosen | opened
    if args.rate is not None:
        made: dict[str, Any] = {"kind": args.arrival or "poisson", "rate_per_s": _rates(args.rate)}
        shape = {"burstiness": args.burstiness} if args.burstiness is not None else {}
        return made | shape | opened
    if args.concurrency is not None:
        steps = numbers("--concurrency", args.concurrency, int)
        return {"kind": "closed", "concurrency": steps}
    return None


def _rates(text: str) -> list[int] | list[float]:
    return numbers("--rate", text, float)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected the fields of a workload, as in input_tokens: 128")
    return {"name": path.stem} | data


def numbers(option: str, value: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    try:
        return [kind(word) for word in value.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers as in 1,2,4: {value!r}") from None


def limits(option: str, text: str) -> dict[str, float]:
    """`ttft_p99_ms<=500,tpot_p50_ms<=50`"""
    made = {}
    for word in text.split(","):
        name, mark, value = word.partition("<=")
        try:
            made[name.strip()] = float(value)
        except ValueError:
            mark = ""
        if not mark:
            raise ValueError(f"{option}: expected METRIC<=NUMBER: {word!r}")
    return made


def tiers(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    made = {}
    for text in args.tier:
        name, mark, rest = text.partition(":")
        if not mark:
            raise ValueError(f"--tier: expected NAME:METRIC<=LIMIT: {text!r}")
        made[name] = limits("--tier", rest)
    return made


def complaint(error: ValueError | OSError) -> str:
    """One line, in the words of the command line."""
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    keys = [str(k) for k in first["loc"] if k not in ("arrival", *_SIZES)]
    if not keys or (isinstance(first["loc"][-1], int) and len(keys) > 2):
        return first["msg"].removeprefix("Value error, ")
    option = OPTIONS.get(keys[0], keys[0]).replace("_", "-")
    return f"--{option}: {first['msg'].lower()} (got {json.dumps(first['input'], default=str)})"
