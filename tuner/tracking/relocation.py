"""Artifacts of the database beside a study: found there wherever the folder is copied or moved to.

MLflow resolves a relative location when it is written, so that the database holds absolute ones.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

KNOWN = "select 1 from sqlite_master where type = 'table' and name = 'experiments'"
BUSY_S = 10.0  # how long another process may hold the database


def experiment_id(database: Path, experiment: str) -> str | None:
    """The id of an experiment, without MLflow; None where there is none. Raises sqlite3.Error."""
    if database.is_symlink() or not database.is_file():
        return None
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, timeout=BUSY_S, uri=True)) as base:
        if base.execute(KNOWN).fetchone() is None:
            return None
        query = "select experiment_id from experiments where name = ?"
        found = base.execute(query, (experiment,)).fetchone()
    return None if found is None else str(found[0])


def relocate(database: Path, experiment: str, artifacts: Path) -> bool:
    """Makes the experiment's locations those of `artifacts`. Returns whether they were elsewhere.

    Raises sqlite3.Error.
    """
    if database.is_symlink() or not database.is_file() or not database.stat().st_size:
        return False
    here = artifacts.absolute().as_uri()
    with closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as base:
        if base.execute(KNOWN).fetchone() is None:  # not migrated yet
            return False
        found = base.execute(
            "select experiment_id, artifact_location from experiments where name = ?", (experiment,)
        ).fetchone()
        if found is None or found[1] == here:
            return False
        number, there = found
        base.execute("begin immediate")
        base.execute(
            "update experiments set artifact_location = ? where experiment_id = ?", (here, number)
        )
        base.execute(
            "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
            " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
            (here, len(there) + 1, number, len(there) + 1, f"{there}/"),
        )
        base.execute("commit")
    return True
