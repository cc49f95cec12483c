"""Archives and folders that want out, or that want the disk: refused, and nothing is ever unpacked."""

import os
import stat
import zipfile
from pathlib import Path

import layouts
import pytest

from grandrounds.errors import UserError
from grandrounds.sources import store as module
from grandrounds.sources.store import Refused, Store


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    return info


@pytest.mark.parametrize(
    ("info", "content", "words"),
    [
        (entry("../../outside.png"), b"x", "leaves the folder"),
        (entry("/etc/passwd"), b"x", "leaves the folder"),
        (entry("..\\outside.png"), b"x", "leaves the folder"),
        (entry("C:/outside.png"), b"x", "leaves the folder"),
        (entry("a.png", stat.S_IFLNK | 0o777), b"../../outside", "is a link"),
        (entry("bomb.png"), b"\0" * (17 << 20), "as bombs are"),
    ],
)
def test_a_hostile_entry_condemns_its_archive(
    info: zipfile.ZipInfo, content: bytes, words: str, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    root.mkdir()
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        archive.writestr("fine.png", b"fine")
        archive.writestr(info, content)
    with Store(root) as store, pytest.raises(UserError, match=words) as caught:
        store.find("fine.png")
    assert "images.zip: entry '" in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["images.zip", "source"]  # nothing was unpacked


def test_the_total_of_an_archive_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.zipped(tmp_path / "images.zip", {f"{n}.png": os.urandom(1000) for n in range(5)})
    monkeypatch.setattr(module, "TOTAL", 4000)
    with Store(tmp_path) as store, pytest.raises(UserError, match="all entries together"):
        store.find("0.png")


def test_a_damaged_archive_and_a_damaged_entry(tmp_path: Path) -> None:
    layouts.zipped(tmp_path / "images.zip", {"a.png": os.urandom(4000)})
    whole = (tmp_path / "images.zip").read_bytes()
    (tmp_path / "images.zip").write_bytes(whole[:100] + bytes(50) + whole[150:])
    with Store(tmp_path) as store, pytest.raises(Refused, match=r"'images\.zip/a\.png' cannot be read"):
        store.read(store.find("a.png"), 10**6)
    (tmp_path / "images.zip").write_bytes(whole[:2000])
    with Store(tmp_path) as store, pytest.raises(UserError, match="not a whole zip archive"):
        store.find("a.png")


def test_an_entry_is_read_to_a_limit(tmp_path: Path) -> None:
    layouts.zipped(tmp_path / "images.zip", {"a.png": bytes(100)})
    with Store(tmp_path) as store:
        assert store.read("images.zip/a.png", 100) == bytes(100)
        with pytest.raises(Refused, match="more than 99 bytes"):
            store.read("images.zip/a.png", 99)


def test_references_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "source"
    (root / "images").mkdir(parents=True)
    (root / "images/a.png").write_bytes(b"a")
    (root / "images/link.png").symlink_to(tmp_path / "secret.png")
    (root / "images/own.png").symlink_to(root / "images/a.png")
    with Store(root) as store:
        for reference in ("../secret.png", str(tmp_path / "secret.png"), "images/../../secret.png", "..\\secret.png"):
            with pytest.raises(Refused, match="leaves the folder"):
                store.find(reference)
        with pytest.raises(Refused, match=r"no file 'link\.png'"):
            store.find("link.png")
        assert store.read(store.find("own.png"), 9) == b"a"
    with Store(root, links=True) as store:
        assert store.read(store.find("link.png"), 9) == b"secret"


def test_a_reference_means_one_file(tmp_path: Path) -> None:
    for name in ("one/source.jpg", "two/source.jpg", "two/[a].jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    layouts.zipped(tmp_path / "imgs.zip", {"imgs/one/source.jpg": b"packed", "imgs/three.jpg": b"3"})
    with Store(tmp_path) as store:
        assert store.find("one/source.jpg") == "one/source.jpg"  # the unpacked one
        assert store.find("./two\\source.jpg") == "two/source.jpg"
        assert store.find("[a].jpg") == "two/[a].jpg"
        assert store.read(store.find("three.jpg"), 9) == b"3"
        with pytest.raises(Refused, match=r"may be one/source\.jpg or two/source\.jpg"):
            store.find("source.jpg")
        with pytest.raises(Refused, match=r"no file 'wo/source\.jpg'"):
            store.find("wo/source.jpg")


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not found"):
        Store(tmp_path / "nowhere")
