"""The bundle: the output folder of a build, as one archive; equal folders give equal bytes.

A gzipped tar of files, folders and links that stay inside. Names are sorted; times, owners and modes are fixed, so that
only content counts. Unpacking trusts nothing of it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from interlock.domain.errors import BuildFailed, DigestMismatch
from interlock.domain.hosts.appspec import APPSPEC, AppSpec, FileExists, parse_appspec, refuse_two_sources
from interlock.domain.hosts.released_files import ReleasedFile, ReleasedFiles, can_be_asked

SIZE_CAP = 4 * 1024 * 1024 * 1024
"""Bytes that a bundle may have when it is unpacked."""

ENTRY_CAP = 200_000
"""Files, folders and links that a bundle may have."""

_MTIME = 315532800  # 1980-01-01: the oldest time that every archive format can write
_READ_CAP = 1024 * 1024
_OVERHEAD = ENTRY_CAP * 2048  # headers and padding of the archive


def check(folder: Path) -> AppSpec:
    """Return the folder's AppSpec; BuildFailed if the folder cannot be a bundle."""
    path = folder / APPSPEC
    if path.is_symlink() or not path.is_file():
        raise _refusal(f"it has no {APPSPEC} at its top")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(f"{APPSPEC} is not UTF-8") from error
    spec = parse_appspec(text)
    for location in sorted(spec.locations):
        script = folder / location
        if not script.is_file() or not script.resolve().is_relative_to(folder.resolve()):
            raise _refusal(f"{APPSPEC} names the script {location}, which is not there")
    for mapping in spec.files:
        source = folder / mapping.source
        if not source.exists() or not source.resolve().is_relative_to(folder.resolve()):
            raise _refusal(f"{APPSPEC} names the source {mapping.source} of files, which is not there")
        if any(not str(path).isprintable() for path in (source, *source.rglob("*"))):
            raise _refusal(f"{mapping.source} has a file whose name is not printable, which files: cannot copy")
    files = (one.relative_to(folder).as_posix() for one in sorted(folder.rglob("*")) if not one.is_dir())
    refuse_two_sources(spec, list(files) if spec.files else [])
    return spec


def pack(folder: Path, destination: Path) -> None:
    """Write a folder that passes :func:`check` as a bundle; the scripts of its hooks become executable in it."""
    scripts = frozenset(_real_name(folder, location) for location in check(folder).locations)
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            with (
                gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as zipped,
                tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
            ):
                _write(archive, folder, scripts)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, destination)
    finally:
        Path(aside).unlink(missing_ok=True)


def unpack(bundle: Path, folder: Path, *, strip: int = 0, name: str = "") -> None:
    """Write the contents of a bundle to ``folder``, which must not exist or be empty; all of it or nothing.

    :param strip: so many folders around the contents are left out.
    :param name: what people call it; by default the name of its file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        contents = Path(aside) / "contents"
        contents.mkdir()
        try:
            with gzip.open(bundle, "rb") as zipped:
                _extract_all(name or bundle.name, _Meter(zipped), contents, strip)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
            raise _distrust(name or bundle.name, str(error)) from error
        os.replace(contents, folder)


def executables(bundle: bytes) -> frozenset[str]:
    """Return the names of the programs in a bundle: its files that may be executed."""
    try:
        with (
            gzip.open(io.BytesIO(bundle), "rb") as zipped,
            tarfile.open(fileobj=_metered(zipped), mode="r:") as archive,
        ):
            return frozenset(one.name for one in archive if one.isreg() and one.mode & stat.S_IXUSR)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise _distrust("The artifact", str(error)) from error


def list_files(bundle: Path) -> ReleasedFiles:
    """List what a bundle consists of, with digests, and where its AppSpec has it copied to.

    Files that the AppSpec places are not listed if what stands there already is retained.
    """
    files: dict[str, ReleasedFile] = {}
    links: dict[str, str] = {}
    appspec, unlisted = "", 0
    try:
        with (
            gzip.open(bundle, "rb") as zipped,
            tarfile.open(fileobj=_metered(zipped), mode="r:") as archive,
        ):
            for member in archive:
                if member.isdir():
                    continue
                if not can_be_asked(member.name) or not can_be_asked(member.linkname):
                    unlisted += 1
                elif member.issym():
                    links[member.name] = member.linkname
                elif source := archive.extractfile(member):
                    digest, start = _digest_of(source)
                    files[member.name] = ReleasedFile(path=member.name, sha256=digest, size=member.size)
                    appspec = start.decode() if member.name == APPSPEC else appspec
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise _distrust(bundle.name, str(error)) from error
    return ReleasedFiles(
        files=tuple(files.values()),
        links=links,
        placed=_placed(parse_appspec(appspec, installed=True), [*files, *links]),
        unlisted=unlisted,
    )


def _digest_of(source: IO[bytes]) -> tuple[str, bytes]:
    """Return the digest of a file, and its beginning."""
    start = chunk = source.read(_READ_CAP)
    digest = hashlib.sha256(chunk)
    while chunk := source.read(_READ_CAP):
        digest.update(chunk)
    return digest.hexdigest(), start


def _placed(spec: AppSpec, names: Iterable[str]) -> dict[str, str]:
    if spec.file_exists_behavior is FileExists.RETAIN:
        return {}
    found = ((mapping.target(name), name) for name in names for mapping in spec.files)
    return {target: name for target, name in found if target is not None}


def _real_name(folder: Path, location: str) -> str:
    """Return the name of the file that a hook's script is, if that is a link."""
    return (folder / location).resolve().relative_to(folder.resolve()).as_posix()


def _write(archive: tarfile.TarFile, folder: Path, scripts: frozenset[str]) -> None:
    total = 0
    names = _names_in(folder)
    for number, path in enumerate(_entries(folder)):
        name = path.relative_to(folder).as_posix()
        info = _header(folder, path, name, executable=name in scripts)
        total += info.size
        if total > SIZE_CAP or number >= ENTRY_CAP:
            raise _refusal(f"it has more than {ENTRY_CAP} entries or {SIZE_CAP} bytes")
        if info.isreg():
            _refuse_names_outside(path, name, names)
            with open(path, "rb") as content:
                archive.addfile(info, content)
        else:
            archive.addfile(info)


def _names_in(folder: Path) -> Counter[tuple[int, int]]:
    """Count how many names each file has in the folder."""
    found = (path.lstat() for path in _entries(folder))
    return Counter((status.st_dev, status.st_ino) for status in found if stat.S_ISREG(status.st_mode))


def _refuse_names_outside(path: Path, name: str, names: Counter[tuple[int, int]]) -> None:
    """Refuse a file with a hard link elsewhere: it may belong to another user, or be changed there."""
    status = path.lstat()
    if status.st_nlink > names[status.st_dev, status.st_ino]:
        raise _refusal(f"{name} is a hard link to a file outside of the folder; copy the file instead")


def _entries(folder: Path) -> Iterator[Path]:
    """Give everything below the folder, sorted by name, folders before what is in them."""
    for entry in sorted(os.scandir(folder), key=lambda one: os.fsencode(one.name)):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))


def _header(folder: Path, path: Path, name: str, *, executable: bool) -> tarfile.TarInfo:
    """Describe one entry by name, kind and content only."""
    status = path.lstat()
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = _MTIME, 0o644
    if stat.S_ISDIR(status.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, _link(folder, path), 0o777
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        if executable or status.st_mode & stat.S_IXUSR:
            info.mode = 0o755
    else:
        raise _refusal(f"{name} is neither a file nor a folder nor a link")
    return info


def _link(folder: Path, path: Path) -> str:
    """Return the target of a link, if the whole path stays inside the folder."""
    target = os.readlink(path)
    if not _stays_inside(path.relative_to(folder).as_posix(), target):
        raise _refusal(f"{path.relative_to(folder)} is a link that leaves the folder: {target}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _refusal(f"{path.relative_to(folder)} is a link that leaves the folder through another link")
    return target


def _stays_inside(name: str, target: str) -> bool:
    if target.startswith("/"):
        return False
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


def _extract_all(bundle: str, stream: Any, contents: Path, strip: int) -> None:
    inner = Stripped(bundle, strip)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for number, member in enumerate(archive):
            if number >= ENTRY_CAP:
                raise _distrust(bundle, f"it has more than {ENTRY_CAP} entries")
            if (name := inner.name(member.name, is_folder=member.isdir())) is not None:
                member.name = name
                _extract(bundle, archive, member, contents)
    while stream.read(_READ_CAP):  # gzip's checksum stands at its end
        pass


class Stripped:
    """The names of an archive's entries without the folders around them, which are the same for all."""

    def __init__(self, bundle: str, strip: int) -> None:
        self._bundle, self._strip = bundle, strip
        self._around: tuple[str, ...] | None = None

    def name(self, name: str, *, is_folder: bool) -> str | None:
        """Return the name of an entry; None: it is one of the folders around the contents."""
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
            raise _distrust(self._bundle, f"{name!r} is not a name inside it")
        around, inside = parts[: self._strip], parts[self._strip :]
        if self._around is None and len(around) == self._strip:
            self._around = around
        if around != (self._around or around)[: len(around)] or (not inside and not is_folder):
            where = "/".join(self._around or ()) or "a folder"
            raise _distrust(self._bundle, f"{name!r} is not below {where}, which is left out")
        return "/".join(inside) if inside else None


def _extract(bundle: str, archive: tarfile.TarFile, member: tarfile.TarInfo, contents: Path) -> None:
    """Write one entry, if a bundle may have its kind and its path."""
    target = place(bundle, member.name, contents, is_folder=member.isdir())
    if member.isdir():
        target.mkdir(mode=0o755, exist_ok=True)
    elif target.exists():
        raise _distrust(bundle, f"{member.name!r} is contained twice")
    elif member.issym() and _stays_inside(member.name, member.linkname):
        os.symlink(member.linkname, target)
    elif member.isreg() and not member.issparse() and (source := archive.extractfile(member)):
        with source, open(target, "xb") as file:
            shutil.copyfileobj(source, file)
        os.chmod(target, 0o755 if member.mode & stat.S_IXUSR else 0o644)
    else:
        raise _distrust(bundle, f"{member.name!r} is a device, a hard link, or a link that leaves it")


def place(bundle: str, name: str, contents: Path, *, is_folder: bool = False) -> Path:
    """Return where an entry goes, its parent made; never through a link or a file that came before it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise _distrust(bundle, f"{name!r} is not a name inside it")
    found = contents
    for part in parts[:-1]:
        found = found / part
        if found.is_symlink() or (found.exists() and not found.is_dir()):
            raise _distrust(bundle, f"{name!r} goes through a path that is not a folder")
    found.mkdir(parents=True, exist_ok=True)
    target = found / parts[-1]
    if target.is_symlink() or (is_folder and target.is_file()):
        raise _distrust(bundle, f"{name!r} is contained twice")
    return target


def _metered(zipped: gzip.GzipFile) -> Any:
    return _Meter(zipped)


class _Meter:
    """A stream that gives only so many bytes, a little at a time: gzip can hide any amount in a few of them."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        if size > _READ_CAP:
            raise tarfile.ReadError("it needs more memory than a bundle may use")
        if self._stream.tell() + size > SIZE_CAP + _OVERHEAD:
            raise tarfile.ReadError(f"it has more than {SIZE_CAP} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        if position > SIZE_CAP + _OVERHEAD:
            raise tarfile.ReadError(f"it has more than {SIZE_CAP} bytes")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _refusal(what: str) -> BuildFailed:
    return BuildFailed(
        f"The output of the build is not a bundle of Interlock: {what}.",
        rule=f"a bundle has an {APPSPEC}, the scripts that it names, and files, folders and links that stay inside",
        who="the service's team",
        next_step="correct the build, or output in the service's YAML",
    )


def _distrust(bundle: str, what: str) -> DigestMismatch:
    return DigestMismatch(
        f"{bundle} is not a bundle of Interlock: {what}.",
        rule="a bundle has only files, folders and links that stay inside",
        next_step="build the release again",
    )
