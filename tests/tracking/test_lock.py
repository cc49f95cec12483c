import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grandrounds.errors import UserError
from grandrounds.tracking import lock

LOCK = """
schema: '2.0'
stages:
  curate:
    cmd: python -m tasks.curate
    deps:
    - {path: tasks/curate.py, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, size: 3}
    outs:
    - {path: data/curated/train.parquet, hash: md5, md5: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, size: 5}
    - {path: data/curated/images, hash: md5, md5: cccccccccccccccccccccccccccccccc.dir, size: 9, nfiles: 2}
  predict@base:
    cmd: python -m tasks.predict base
    outs:
    - {path: data/predictions/base.parquet, hash: md5, md5: dddddddddddddddddddddddddddddddd}
"""
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8
)


def test_who_writes_a_path(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    found = lock.read(tmp_path)
    assert found.out("./data/curated/images/").md5 == "c" * 32 + ".dir"
    assert found.producer("data/curated/images/a.png") == "curate"
    assert found.producer("data/curated") is None and found.producer("tasks/curate.py") is None
    assert found.parts("data/predictions") == ["data/predictions/base.parquet"]
    assert found.parts("data/pred") == []
    assert found.stages["curate"].deps["tasks/curate.py"].md5 == "a" * 32


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tree=st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=20), min_size=1, max_size=5))
def test_folder_md5_is_dvcs_own(tree: dict[tuple[str, str], bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    root = tmp_path_factory.mktemp("tree")
    for (folder, name), data in tree.items():
        if folder in (".", "..") or name in (".", ".."):
            continue
        (root / "out" / folder).mkdir(parents=True, exist_ok=True)
        (root / "out" / folder / name).write_bytes(data)
    if not (root / "out").exists():
        return
    system = LocalFileSystem()
    _, _, made = build(HashFileDB(system, str(root / "cache")), str(root / "out"), system, "md5")
    assert lock.digest("out", root).md5 == made.hash_info.value


def test_digest_is_what_dvc_repro_records(tmp_path: Path) -> None:
    cmd = "mkdir -p out/sub && echo a > out/b && echo c > out/sub/d && echo e > f"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {cmd}\n    outs: [out, f]\n")
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    recorded = lock.read(tmp_path)
    for path in ("out", "f"):
        assert lock.digest(path, tmp_path, lock.Lock({})) == recorded.out(path)


def test_a_changed_small_file_is_hashed_anew_and_a_large_one_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    file = tmp_path / "data/curated/train.parquet"
    file.parent.mkdir(parents=True)
    file.write_text("five!")
    assert lock.digest("data/curated/train.parquet", tmp_path).md5 != "b" * 32
    monkeypatch.setattr(lock, "SMALL", 1)
    assert lock.digest("data/curated/train.parquet", tmp_path).md5 == "b" * 32
    file.write_text("another size")
    assert lock.digest("data/curated/train.parquet", tmp_path).md5 != "b" * 32


def test_half_written_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC writes in place: a cut-off md5 is no record, and a file that never becomes whole is an error."""
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)
    (tmp_path / "dvc.lock").write_text(LOCK[: LOCK.index("d" * 32) + 10] + "}")
    assert lock.read(tmp_path).out("data/predictions/base.parquet") is None
    (tmp_path / "dvc.lock").write_text(LOCK[: LOCK.index("d" * 32) + 10])
    with pytest.raises(UserError, match=r"dvc\.lock.*git checkout"):
        lock.read(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    assert lock.read(tmp_path).stages == {}
