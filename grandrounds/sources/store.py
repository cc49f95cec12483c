"""The files of a source by name: those of a folder, and the members of the zip archives in it.

Nothing is ever unpacked: a member is read straight from its archive, one at a time and never beyond a limit, so no
entry can be written outside the folder, and a bomb costs no disk. An archive that tries either is refused whole, since
nothing else in it deserves trust. Links out of the folder are not followed. Pickles and code have no reader here.
"""

import stat
import zipfile
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from grandrounds.errors import UserError

MEMBER = 4 << 30  # bytes that one member of an archive may say it has
TOTAL = 256 << 30  # and all of an archive; PMC-VQA's pictures are 19 GB
RATIO, BOMB = 200, 16 << 20  # packed more tightly than this, and larger than that: a bomb, not a picture or a table
IGNORED = ("__MACOSX",)


class Refused(Exception):
    """One row, or one picture of it, that cannot be used. `column` may be "", the reason is one line."""

    def __init__(self, reason: str, column: str = "") -> None:
        super().__init__(reason)
        self.reason, self.column = " ".join(reason.split()), column

    def at(self, column: str) -> "Refused":
        """The same of a named column, unless one is named."""
        return Refused(self.reason, self.column or column)


class Store:
    """Files under `root`, which may also be one file. Names are relative, with `/`; `a.zip/b.png` is in an archive.

    `links`: follow links out of the folder, as the hub's own cache has them.
    """

    def __init__(self, root: Path, *, links: bool = False) -> None:
        if not root.exists():
            raise UserError(f"{root}: not found; check the path, or fetch the data first (docs/your-own-data.md)")
        self.only = root.name if root.is_file() else ""
        self.root, self._links = (root.parent if self.only else root).resolve(), links
        self._archives: dict[str, zipfile.ZipFile] = {}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    @cached_property
    def names(self) -> list[str]:
        """All files, sorted. Raises UserError for an archive that is broken or hostile."""
        found = []
        for path in [self.root / self.only] if _is_zip(self.only) else sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            leaves = path.is_symlink() and not self._links and not path.resolve().is_relative_to(self.root)
            if leaves or not path.is_file() or _ignored(name):
                continue
            found += [f"{name}/{member}" for member in self._members(name)] if _is_zip(name) else [name]
        return found

    def tables(self, patterns: tuple[str, ...]) -> list[str]:
        """Names that match one of the globs, as a whole path or as its end; the one file when the source is one."""
        if self.only and not _is_zip(self.only):
            return [self.only]
        return [name for name in self.names if any(PurePosixPath(name).match(pattern) for pattern in patterns)]

    def open(self, name: str) -> BinaryIO:
        """A file to read from, to be closed by the caller."""
        archive, member = self._place(name)
        return archive.open(member) if archive else (self.root / name).open("rb")  # type: ignore[return-value]

    def read(self, name: str, limit: int) -> bytes:
        """A whole file. Raises Refused beyond `limit` bytes, or where an archive's checksum is wrong."""
        try:
            with self.open(name) as file:
                content = file.read(limit + 1)
                while len(content) <= limit and (more := file.read(limit + 1 - len(content))):
                    content += more
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise Refused(f"'{name}' cannot be read: {error}") from None
        if len(content) > limit:
            raise Refused(f"'{name}' has more than {limit} bytes")
        return content

    def path(self, name: str) -> Path:
        """A file on disk, for readers that need one. Raises Refused for one in an archive."""
        if self._place(name)[0]:
            raise Refused(f"'{name}' stands in an archive; unpack it")
        return self.root / name

    def find(self, reference: str) -> str:
        """The name that a table's reference means: the file whose path is, or ends with, what the table says.

        Raises Refused when there is none, or more than one; one outside an archive goes before one in it.
        """
        wanted = PurePosixPath(reference.strip().replace("\\", "/"))
        if wanted.is_absolute() or ".." in wanted.parts or PureWindowsPath(reference).drive:
            raise Refused(f"'{reference}' leaves the folder of the source")
        found = [name for name in self._by_file.get(wanted.name, ()) if f"/{name}".endswith(f"/{wanted}")]
        found = [name for name in found if name == str(wanted)] or found
        found = [name for name in found if not self._place(name)[0]] or found
        if not found:
            raise Refused(f"there is no file '{reference}' in the source")
        if len(found) > 1:
            raise Refused(f"'{reference}' may be {found[0]} or {found[1]}; give more of its path")
        return found[0]

    @cached_property
    def _by_file(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for name in self.names:
            out.setdefault(name.rpartition("/")[2], []).append(name)
        return out

    def _place(self, name: str) -> tuple[zipfile.ZipFile | None, str]:
        """The archive that a name points into, and the member; None for a file on disk."""
        self.names  # noqa: B018  # opens the archives
        for archive, opened in self._archives.items():
            if name.startswith(archive + "/"):
                return opened, name[len(archive) + 1 :]
        return None, name

    def _members(self, name: str) -> list[str]:
        try:
            archive = zipfile.ZipFile(self.root / name)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{self.root / name}: not a whole zip archive ({error}); fetch it again") from None
        self._archives[name] = archive
        total = 0
        for member in archive.infolist():
            total += member.file_size
            reason = _hostile(member) or (total > TOTAL and f"all entries together say more than {TOTAL >> 30} GiB")
            if reason:
                raise UserError(f"{self.root / name}: entry '{member.filename}': {reason}; do not use this archive")
        return sorted(each.filename for each in archive.infolist() if not each.is_dir() and not _ignored(each.filename))


def _hostile(member: zipfile.ZipInfo) -> str:
    """Why an entry of an archive is not to be trusted, or ""."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(member.filename).drive:
        return "leaves the folder that it would be unpacked to"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > MEMBER:
        return f"says that it has more than {MEMBER >> 30} GiB"
    if member.file_size > BOMB and member.file_size > RATIO * max(member.compress_size, 1):
        return f"is packed to less than 1/{RATIO} of its size, as bombs are"
    return ""


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def _ignored(name: str) -> bool:
    return any(part.startswith(".") or part in IGNORED for part in name.split("/"))
