"""Slurm with pyxis at the process edge: `srun`, `squeue` and `scancel`, over the daemon of `fake_runtime.py`.

A step is a container of that daemon: no child of `srun`, whose death does not end it. It has the variables that
`--export` names, and those that Slurm sets. Mode `lost`: squeue does not answer.
"""

import json
import os
import secrets
import socket
import sys
import time
from pathlib import Path

from fake_runtime import Client, fail, kill_all

HELP = "      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH\n"
SETS = {"SLURM_JOB_ID": "77", "SLURM_JOBID": "77", "CUDA_VISIBLE_DEVICES": "4,5"}


def step(folder: Path, words: list[str]) -> int:
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words if word[:2] == "--")
    if "container-image" not in given:
        fail("srun: unrecognized option '--container-image'", 1)
    at = next(i for i, word in enumerate(words) if not word.startswith("--"))
    names = given["export"].split(",")
    key = secrets.token_hex(8)
    part, home = folder / "containers" / f".part-{key}", folder / "containers" / key
    part.mkdir()
    labels = {"name": given["job-name"]}
    config = {"argv": words[at:], "labels": labels, "names": names, "given": given}
    (part / "config.json").write_text(json.dumps(config))
    part.rename(home)
    environ = {**{name: os.environ[name] for name in names if name in os.environ}, **SETS}
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(folder / "socket"))
        with link.makefile("rw") as stream:
            stream.write(json.dumps({"id": key, "environ": environ}) + "\n")
            stream.flush()
            stream.readline()
    code = Client(folder, ["srun"]).attached(home)
    home.rename(home.with_name(f".{key}"))
    return code


def main(name: str, folder: Path, words: list[str]) -> int:
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([name, *words]) + "\n")
    mode = (folder / "mode").read_text().strip() if (folder / "mode").exists() else ""
    homes = [
        home
        for home in sorted((folder / "containers").glob("[!.]*"))
        if not (home / "exit").exists()
    ]
    if name == "squeue":
        if mode == "lost":
            fail("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1)
        for home in homes:
            label = json.loads((home / "config.json").read_text())["labels"].get("name")
            sys.stdout.write(f"77.{home.name} {label}\n")
        return 0
    if name == "scancel":
        for home in homes:
            if f"77.{home.name}" in words:
                kill_all(home.name)
                while not (home / "exit").exists():
                    time.sleep(0.01)
                home.rename(home.with_name(f".{home.name}"))
        return 0
    if words in (["--help"], ["--version"]):
        sys.stdout.write(HELP if words == ["--help"] else "slurm 24.05.4\n")
        return 0
    return step(folder, words)
