"""Tables are found or the reason is one line; a user's own override the shipped ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.twin.errors import DoesNotFit, NoTable
from serving.twin.tables import library
from serving.twin.tables.catalog import KV_BYTES, MODELS, SYSTEMS, WEIGHT_BYTES, checkpoint
from serving.twin.tables.library import AXES, PARTS, Library, TableEntry, TableFile
from serving.twin.tables.steptime import Memory, TableKey

KNOWN = TableKey("b300_sxm", "vllm", "llama-3.1-70b", "nvfp4", "fp8", 4, 1, 1)
FIVE_MB = 5_000_000


@pytest.fixture(scope="module")
def shipped() -> Library:
    return Library.shipped()


def a_file(system: str = "b300_sxm", seconds: float = 0.001) -> TableFile:
    """A file with one table, all parts of which take `seconds`."""
    axes = {name: [1.0, 2.0] for names in AXES.values() for name in names}
    arrays = {
        part: np.full((1, *(2 for _ in AXES[part])), seconds, dtype=np.float32) for part in PARTS
    }
    key, memory = replace(KNOWN, system=system), Memory(1, 2, 3, 4, 5, 6, 7)
    entry = TableEntry(key, (0, 0, 0, 0, 0), memory, 0.0, "a note")
    return TableFile(system, "vllm", "by hand", axes, arrays, (entry,), ())


def test_files_round_trip() -> None:
    content = library.encode(a_file())
    read = library.decode(content)
    assert read.entries == a_file().entries
    assert library.encode(read) == content
    table = read.table(read.entries[0])
    assert table.version == "by hand; a note"
    assert table.step_s(0, 0, 2, 100) == pytest.approx(0.002)


def test_shipped_tables_cover_every_system_framework_and_model(shipped: Library) -> None:
    keys = shipped.keys()
    assert {key.system for key in keys} == set(SYSTEMS)
    assert {key.framework for key in keys} == {"vllm", "sglang", "trtllm"}
    assert {key.model for key in keys} == set(MODELS)
    assert {key.weights for key in keys} <= set(WEIGHT_BYTES)
    assert {key.kv for key in keys} == set(KV_BYTES)
    assert shipped.version("b300_sxm", "vllm") == "aiconfigurator-core 0.12.0: vllm 0.24.0"
    assert shipped.find(model="llama-3.1-8b", system="h200_sxm", framework="sglang")
    assert Library.shipped() is shipped


def test_shipped_files_are_small() -> None:
    folder = Path(library.__file__).parent / "data"
    assert sum(path.stat().st_size for path in folder.glob("*.npz")) < FIVE_MB


def test_every_shipped_table_is_plausible(shipped: Library) -> None:
    """Step times grow with work, from tenths of a millisecond."""
    for key in shipped.keys()[::23]:
        table = shipped.table(key)
        one, many = table.step_s(0, 0, 1, 1000), table.step_s(0, 0, 256, 8000)
        assert 1e-4 < one < many < 3, key
        assert table.step_s(8192, 4096, 0, 0) > table.step_s(512, 256, 0, 0) > 1e-4, key
        assert table.memory.weights_bytes < SYSTEMS[key.system].memory_bytes, key
        assert table.memory.kv_bytes_per_token > 0, key


def test_block_scaled_fp8_on_vllm_is_no_slower_than_bf16(shipped: Library) -> None:
    """The database's own rows are 4 to 8 times slower: they are substituted, and `version` names it."""
    for system in SYSTEMS:
        for model in ("qwen3-32b", "llama-3.1-8b"):
            block = TableKey(system, "vllm", model, "fp8_block", "fp8", 1, 1, 1)
            table = shipped.table(block)
            assert "stand in" in table.version
            plain = shipped.table(replace(block, weights="bf16"))
            assert table.step_s(0, 0, 64, 2000) < plain.step_s(0, 0, 64, 2000)


def test_memory_agrees_with_the_catalog(shipped: Library) -> None:
    """The database's memory model against layers × heads of config.json."""
    for key in shipped.find():
        facts, memory = MODELS[key.model], shipped.memory(key)
        # Within 10 %: the database counts scales in GLM-5's cache.
        if key.tensor == 1:
            near = pytest.approx(facts.kv_bytes_per_token(key.kv), rel=0.1)
            assert memory.kv_bytes_per_token == near, key
        if key.gpus == 1:
            # Embeddings stay bf16: a third of the smallest model at 4 bits.
            expected = facts.parameters * WEIGHT_BYTES[key.weights]
            assert memory.weights_bytes == pytest.approx(expected, rel=0.35), key


def test_a_missing_table_names_the_reason_and_the_nearest(shipped: Library) -> None:
    with pytest.raises(NoTable, match=r"not among the tables\); nearest: tensor=") as found:
        shipped.table(replace(KNOWN, tensor=16))
    assert "\n" not in str(found.value)
    with pytest.raises(NoTable, match="no measurements"):
        shipped.table(TableKey("h200_sxm", "vllm", "llama-3.1-8b", "nvfp4", "bf16", 1, 1, 1))
    with pytest.raises(NoTable, match="no step-time tables of tgi on b300_sxm"):
        shipped.version("b300_sxm", "tgi")


def test_weights_that_do_not_fit_are_a_separate_error(shipped: Library) -> None:
    with pytest.raises(DoesNotFit, match="weights of 657 GiB a GPU, which has 269 GiB"):
        shipped.table(TableKey("b300_sxm", "sglang", "deepseek-r1", "fp8_block", "fp8", 1, 1, 1))


def test_a_users_own_tables_override_the_shipped_ones(tmp_path: Path, shipped: Library) -> None:
    (tmp_path / "mine.npz").write_bytes(library.encode(a_file(seconds=9.0)))
    (tmp_path / "other.npz").write_bytes(library.encode(a_file("gb300")))
    mine = Library.with_folder(tmp_path)
    assert mine.table(KNOWN).step_s(0, 0, 1, 1) == pytest.approx(18.0)
    assert mine.find(system="gb300") == [replace(KNOWN, system="gb300")]
    assert len(mine.keys()) == len(shipped.keys()) + 1


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(NoTable, match=r"broken\.npz is not a file of step-time tables"):
        Library.with_folder(tmp_path)


def test_checkpoints_are_found_by_their_hub_id() -> None:
    found = checkpoint("meta-llama/llama-3.3-70b-instruct")
    assert found is not None
    assert (found[0].key, found[1]) == ("llama-3.1-70b", "bf16")
    assert checkpoint("nobody/nothing") is None
