"""What users type, and what they mistype: values, overrides, YAML, JSON lines, URLs, command lines."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tuner.config.compose import conf_dir
from tuner.config.fields import ANY, every
from tuner.config.study import StudyConfig

CONF = conf_dir()
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "fleet")
OPTIONS = {group: sorted(p.stem for p in (CONF / group).glob("*.yaml")) for group in GROUPS}
PATHS = [row.path for row in every(StudyConfig)]
NAMES = (
    "llamacpp",
    "vllm",
    "external",
    "standard",
    "premium",
    "premum",
    "x",
    "0",
    "gpu",
    "a.b",
    "é",
)

NUMBERS: list[Any] = [0, 1, -1, 2, 7, 0.5, 1e-300, 1e23, 10**23, 10**400, -(10**23), 2**63, 65536]
NUMBERS += [float("inf"), float("-inf"), float("nan")]
WORDS = [
    "",
    " ",
    "x",
    "auto",
    "é",
    "\u2028",
    "\x85",
    "a" * 300,
    "../x",
    "/",
    "/etc/passwd",
    "~",
    "~x",
]
WORDS += [
    "http://a:99999",
    "http://a:0",
    "postgresql://h/d",
    "odd://h",
    "sqlite:///x?y",
    "a\nb",
    "\x00",
]
SCALARS: st.SearchStrategy[Any] = (
    st.sampled_from(NUMBERS)
    | st.sampled_from(WORDS)
    | st.booleans()
    | st.none()
    | st.text(max_size=6)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("kind", "type", "low", "high", "a")), inner, max_size=3)
    ),
    max_leaves=4,
)

# As Hydra's grammar sees them.
TYPED = [
    "inf",
    "nan",
    "-inf",
    "1e23",
    "1" + "0" * 23,
    "1" * 5000,
    "-1",
    "0",
    "true",
    "null",
    "",
    "[]",
]
TYPED += [
    "{}",
    "[1,2]",
    "{a: 1}",
    "'x'",
    '"x"',
    "${x}",
    "${oc.env:NOSUCH}",
    "${engine}",
    "a b",
    "*",
    "é",
]
TYPED += ["glob(nosuch*)", "glob(*)", "range(1,3)", "range(0,1,0)", "range(0,inf)", "range(0,1e12)"]
TYPED += [
    "choice(a,b)",
    "a,b",
    "interval(0,1)",
    "int(x)",
    "shuffle(1,2)",
    "sort(3,1)",
    "???",
    "1_000",
]
TYPED += [
    "\\",
    "$",
    "${",
    "}",
    "[",
    "'",
    '"',
    "(",
    "=",
    "@",
    "_target_",
    "\udc80",
    "\u2028",
    "${.x}",
]
TYPED += ["{kind: poisson, rate_per_s: [1]}", "{type: int, low: 0, high: 999999999999}", "[{a: b}]"]
ODD_KEYS = [
    "",
    ".",
    "..",
    "é",
    "a[0]",
    "hydra",
    "hydra.run.dir",
    "hydra.searchpath",
    "defaults",
    "fleet",
]
ODD_KEYS += [
    "workload.arrival.tiers.x.ttft_p99_ms",
    "slo.tiers",
    "engine.",
    ".engine",
    "_self_",
    "name",
]


@st.composite
def paths(draw: st.DrawFn) -> str:
    """A path of a setting, with names where the model leaves them free."""
    steps = draw(st.sampled_from(PATHS)).split(".")
    return ".".join(draw(st.sampled_from(NAMES)) if step == ANY else step for step in steps)


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """One word of a command line that Hydra parses."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(TYPED) | st.text(max_size=8))
    if kind <= 3:
        group = draw(st.sampled_from(GROUPS))
        option = draw(st.sampled_from(OPTIONS[group]) | st.sampled_from(TYPED))
        suffix = draw(st.sampled_from(["", "", "", "", "@x", "@_global_", "/y"]))
        return f"{group}{suffix}={option}"
    key = draw(paths() | paths() | st.sampled_from(ODD_KEYS))
    prefix = draw(st.sampled_from(["", "", "", "", "+", "++", "~", "+++"]))
    return f"{prefix}{key}={draw(st.sampled_from(TYPED))}"


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """A file with one thing wrong: bytes put in, cut out, doubled, swapped."""
    content = text.encode()
    at = draw(st.integers(0, len(content)))
    to = draw(st.integers(at, min(len(content), at + 40)))
    odd = draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=4))
    match draw(st.integers(0, 4)):
        case 0:
            return content[:at] + odd + content[at:]
        case 1:
            return content[:at] + content[to:]
        case 2:
            return content[:to] + content[at:]
        case 3:
            return content[:at]
        case _:
            return content[:at] + odd + content[to:]


BOMB = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (97 + i, 97 + i, b",".join([b"*%c" % (96 + i)] * 9)) for i in range(1, 12)
)
ODD_BYTES = [
    b"\t",
    b"\n\t",
    b"\0",
    b"\xe9",
    b"\xff",
    b"\xef\xbb\xbf",
    b"*x",
    b"&x ",
    b"<<: 3\n",
    b"!!python/x ",
]
ODD_BYTES += [
    b"[",
    b"{",
    b"}",
    b'"',
    b"'",
    b": ",
    b"- ",
    b"---\n",
    b"...\n",
    b"%YAML 9\n",
    b"${",
    b"? ",
    b"\r",
]
ODD_BYTES += [
    b"\n# @package _x_ y z\n",
    b"\ndefaults: [x]\n",
    b"&a [*a]",
    b"[" * 200,
    b'"\\ud800"',
    b"1" * 5000,
]
ODD_BYTES += [
    BOMB,
    b"\n  - ",
    b".inf",
    b".nan",
    b"1e999",
    b"!!binary x",
    b"2001-99-99",
    b'"\\UFFFFFFFF"',
]

ROW: dict[str, Any] = {"prompt": "Tell me of rivers.", "output_tokens": 4}
TALK: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "4"},
        {"role": "user", "content": "and then?"},
    ],
    "max_tokens": 4,
}
TRACE = {"timestamp": 0, "input_length": 20, "output_length": 4, "hash_ids": [0, 1]}
SHAREGPT = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b c"}]}]


@st.composite
def json_rows(draw: st.DrawFn, row: dict[str, Any]) -> str:
    """Three JSON lines, the middle one with another value somewhere."""
    changed = json.loads(json.dumps(row))
    key = draw(st.sampled_from(sorted(changed)))
    changed[key] = draw(VALUES)
    if isinstance(row[key], list) and draw(st.booleans()):
        changed[key] = [*row[key], draw(VALUES)]
    whole = json.dumps(row)
    middle = json.dumps(changed, ensure_ascii=draw(st.booleans())).encode(errors="replace").decode()
    return f"{whole}\n{middle}\n{whole}\n"


ADDRESSES = ["http://127.0.0.1:1", "127.0.0.1:1", "http://a:99999", "http://a:0", "http://a:x", "-"]
ADDRESSES += [
    "ftp://a",
    "http://",
    "http://a/ b",
    "http://a?x",
    "http://u:p@a",
    "https://a#f",
    "//a",
    "",
]
ADDRESSES += ["http://a\r\nX: y", "http://" + "a" * 70 + ".b", "http://a:-1", "http://a:8000/v1/"]
ADDRESSES += ["http://é", "http://[::1", "\udc80"]
URLS = st.sampled_from(ADDRESSES) | st.text(max_size=12)


def options(table: dict[str, Sequence[str]]) -> st.SearchStrategy[list[str]]:
    """Up to four options of a table, each with one of its values or an odd one; () stands for a flag."""

    def one(name: str) -> st.SearchStrategy[list[str]]:
        values = table[name]
        if not values:
            return st.just([name])
        odd = [
            "inf",
            "nan",
            "1e23",
            "1" + "0" * 23,
            "-1",
            "0",
            "",
            "x",
            "1,2",
            "é",
            "\udc80",
            "1" * 5000,
        ]
        return st.sampled_from([*values, *values, *odd]).map(lambda value: [name, value])

    each = st.sampled_from(sorted(table)).flatmap(one)
    return st.lists(each, max_size=4).map(lambda words: [word for pair in words for word in pair])
