"""The environment that a child process gets: variables by name, never all of ours. Pure."""

import itertools
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

PROXIES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
)
# For every process. A pattern never covers a secret: those are passed only where their whole name is given.
COMMON = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "HOSTNAME", "TZ"),
    *("LANG", "LANGUAGE", "LC_*", "TMPDIR", "TMP", "TEMP", "XDG_*"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_*", "TCMALLOC_*"),
    *PROXIES,
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHONFAULTHANDLER", "PYTHONWARNINGS"),
    *("PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUTF8"),
    *("WATTFRONT_*", "PYENV_*", "CONDA_*"),
)
# For engines of any kind: accelerators, communication, numerics and compilers.
ACCELERATED = (
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NVIDIA_*", "NVCC_*", "NVTE_*", "HIP_*", "HSA_*", "ROCR_*"),
    *("NCCL_*", "NVSHMEM_*", "UCX_*", "UCC_*", "NIXL_*", "GLOO_*", "FI_*", "IBV_*", "RDMAV_*"),
    *("MLX5_*", "OMPI_MCA_*", "MC_*", "MOONCAKE_*", "LMCACHE_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*"),
    *("TORCH*", "PYTORCH_*", "TRITON_*", "FLASHINFER_*", "DG_*", "CUTE_*", "CUTLASS_*", "TVM_*"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPATH", "LIBRARY_PATH", "MAX_JOBS"),
    *("HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "TOKENIZERS_*", "SAFETENSORS_*", "MODELSCOPE_*"),
)
# For our own Python programs: they have to find the modules that we run from.
PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
# For pip: its index, cache and options (credentials of a private index among them), and compilers.
PIP = ("PIP_*", "NETRC", "CC", "CXX", "CFLAGS", "CUDA_*", "MAX_JOBS")
# For the local Ray, whose workers pass on to engines, meters and load generators what these need.
RAY = ("RAY_*", "RAY_AUTH_TOKEN", "SERVE_*", "TUNE_*", "OMP_NUM_THREADS", *PYTHON)
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

_SECRET_WORDS = frozenset(
    ["SECRET", "SECRETS", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY"]
)
_SECRET_ENDS = frozenset(["KEY", "TOKEN", "KGKEY"])
_SECRET_PAIRS = frozenset(["ACCESS_KEY", "API_KEY", "PRIVATE_KEY", "CONNECTION_STRING"])
# These say where a secret is, not what it is.
_PLACES = frozenset(["PATH", "FILE", "DIR", "HOME", "URL", "ENDPOINT"])
# Ray gives every worker OMP_NUM_THREADS=1: an engine must start as from the command line that is shown for it.
_BY_NAME_ONLY = frozenset({"OMP_NUM_THREADS"})
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*:[^/?#\s]*(?=@)")
_PARAMETER = re.compile(r"(?<=[?&])((?:ssl)?password|passwd|token|secret|api_?key)=[^&#\s]+", re.I)
# Options such as --api-key, --hf-token and --admin-api-key, and not --ssl-keyfile or --max-num-batched-tokens.
_SECRET_OPTION = re.compile(r"--?(?:\w+[-_])*(?:api[-_]?key|token|password|passwd|secret)", re.I)
LEAST_SECRET = 6  # characters: a shorter value would be found in every text


def names_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret: HF_TOKEN, AWS_ACCESS_KEY_ID, DB_PASSWORD."""
    words = name.upper().split("_")
    if words[-1] in _PLACES:
        return False
    pairs = {"_".join(pair) for pair in itertools.pairwise(words)}
    passwords = any(word.endswith("PASSWORD") for word in words)
    return passwords or bool(
        _SECRET_WORDS & {*words} or _SECRET_PAIRS & pairs or words[-1] in _SECRET_ENDS
    )


def inherited(environ: Mapping[str, str], *names: Iterable[str]) -> dict[str, str]:
    """The part of `environ` that a child gets: COMMON, and what the names and patterns cover."""
    return covered(environ, COMMON, *names)


def covered(environ: Mapping[str, str], *names: Iterable[str]) -> dict[str, str]:
    """The part of `environ` that the names and patterns cover."""
    patterns = {each for group in names for each in group}
    globs = [each for each in patterns if each.endswith("*")]
    return {
        name: value
        for name, value in environ.items()
        if name in patterns
        or (
            not (name in _BY_NAME_ONLY or names_secret(name))
            and any(fnmatchcase(name, glob) for glob in globs)
        )
    }


def secret_values(environ: Mapping[str, str], names: Iterable[str] = ()) -> tuple[str, ...]:
    """The secrets of an environment, longest first: those by name, and the values of `names`."""
    also = {*names}
    found = {value for name, value in environ.items() if name in also or names_secret(name)}
    return tuple(
        sorted((each for each in found if len(each) >= LEAST_SECRET), key=len, reverse=True)
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the secrets, and without the passwords of any URL in it."""
    for each in secrets:
        text = text.replace(each, "***")
    return _PARAMETER.sub(r"\1=***", _USERINFO.sub("***", text))


def has_password(url: str) -> bool:
    """Whether the URL has a password before its host or in its query."""
    return bool(_USERINFO.search(url) or _PARAMETER.search(url))


def secret_option(arguments: Iterable[str]) -> str:
    """The first option that is followed by a secret, as `--api-key VALUE` or `--api-key=VALUE`; else empty."""
    words = [*arguments, "--"]
    for word, after in itertools.pairwise(words):
        option, given, value = word.partition("=")
        if _SECRET_OPTION.fullmatch(option) and (value if given else not after.startswith("-")):
            return option
    return ""
