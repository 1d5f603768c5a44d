"""Files of /workspace, in and out, with the rights of the user.

Everything is opened as uid 1000, so no trick of the user's code gets the agent
to read or write what that code couldn't. Paths are walked folder by folder,
each opened relative to the one before and none through a link, so that a link
put in place at the wrong moment leads nowhere. Only regular files are
read; a pipe or a device is refused without waiting on it.
"""

import contextlib
import errno
import os
import re
import secrets
import stat

import limits

WORKSPACE = "/workspace"
TEMPORARY = ".threadbook-"  # begins the names of what is ours: files that are still arriving

MAX_PATH = 1024  # bytes
MAX_DEPTH = 32  # folders that a listing goes down
MAX_LISTED = 1000
MAX_LISTED_BYTES = 512 << 10  # of their paths together, so that they fit a line
MAX_VISITED = 20_000  # entries that a listing looks at, so that it can't take long

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Without O_DIRECTORY: with it gVisor follows a link in spite of O_NOFOLLOW.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_CODES = {
    errno.ENOENT: "not_found",
    errno.ELOOP: "bad_path",
    errno.ENOTDIR: "bad_path",
    errno.EISDIR: "bad_path",
    errno.ENAMETOOLONG: "bad_path",
    errno.EINVAL: "bad_path",
    errno.ENXIO: "bad_path",
    errno.EACCES: "bad_path",
    errno.EPERM: "bad_path",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
}


class Refused(Exception):
    """A file operation that can't be done; code is a word of the protocol."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def _told():
    """Tells the failure of a step as Refused."""
    try:
        yield
    except OSError as err:
        code = _CODES.get(err.errno, "failed")
        raise Refused(code, err.strerror or str(err)) from None


@contextlib.contextmanager
def _as_user():
    """Runs a step with the rights of the user.

    Only the effective ids change: the user's code may signal or trace the
    agent no more than before.
    """
    os.setegid(limits.USER)
    os.seteuid(limits.USER)
    try:
        with _told():
            yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _split(path):
    """The folders and the name of a path under /workspace."""
    try:
        size = len(path.encode())
    except (AttributeError, UnicodeEncodeError):
        raise Refused("bad_path", "the path is not text") from None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if size > MAX_PATH or _CONTROL.search(path) or path.startswith("/") or ".." in parts:
        raise Refused("bad_path", "the path leaves /workspace or is too long")
    return parts


def _enter(name, outer=None):
    """Opens a folder in a folder, if it is one and no link to one."""
    folder = os.open(name, _READ, dir_fd=outer)
    if not stat.S_ISDIR(os.fstat(folder).st_mode):
        os.close(folder)
        raise NotADirectoryError(errno.ENOTDIR, "not a folder")
    return folder


def _open_folder(parts, *, make=False):
    """Opens a folder under /workspace, going through no link."""
    folder = _enter(WORKSPACE)
    for part in parts:
        outer = folder
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=outer)
            folder = _enter(part, outer)
        finally:
            os.close(outer)
    return folder


def listing(path):
    """The regular files under a folder, sorted by path, and whether there are more."""
    parts = _split(path)
    found, size, budget = [], 0, _Budget(MAX_VISITED)
    with _as_user():
        prefix = "".join(f"{part}/" for part in parts)
        for file in _walk(_open_folder(parts), prefix, len(parts), budget):
            size += len(file["path"].encode())
            if len(found) == MAX_LISTED or size > MAX_LISTED_BYTES:
                return found, True
            found.append(file)
    return found, budget.spent


class _Budget:
    def __init__(self, left):
        self.left, self.spent = left, False

    def take(self, entries):
        """At most as many of the entries as are left."""
        for entry in entries:
            if self.left == 0:
                self.spent = True
                return
            self.left -= 1
            yield entry


def _walk(folder, prefix, depth, budget):
    """Yields the files under an open folder, in order, and closes it."""
    try:
        with os.scandir(folder) as entries:
            found = [(_sort_key(entry), entry) for entry in budget.take(entries)]
        for _, entry in sorted(found, key=lambda pair: pair[0]):
            with contextlib.suppress(OSError):
                if not _can_be_named(prefix + entry.name) or entry.name.startswith(TEMPORARY):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth < MAX_DEPTH:
                        inner = _enter(entry.name, folder)
                        yield from _walk(inner, f"{prefix}{entry.name}/", depth + 1, budget)
                elif entry.is_file(follow_symlinks=False):
                    info = entry.stat(follow_symlinks=False)
                    yield {
                        "path": prefix + entry.name,
                        "size": info.st_size,
                        "mtime": info.st_mtime,
                    }
    finally:
        os.close(folder)


def _can_be_named(path):
    """Whether a path can be shown and asked for: text, on one line, not endless."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_PATH and not _CONTROL.search(path)


def _sort_key(entry):
    # Whole paths are in order when a folder sorts with the slash after its name.
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name


class Incoming:
    """A file on its way in: complete under another name, then renamed."""

    def __init__(self, path, size):
        *folders, self._name = _split(path) or [""]
        if not self._name:
            raise Refused("bad_path", "the path names no file")
        self._left = size
        self._temporary = TEMPORARY + secrets.token_hex(8)
        with _as_user():
            self._folder = _open_folder(folders, make=True)
            try:
                self._file = os.open(self._temporary, _CREATE, 0o644, dir_fd=self._folder)
            except OSError:
                os.close(self._folder)
                raise

    def write(self, data):
        self._left -= len(data)
        if self._left < 0:
            raise Refused("failed", "more bytes than were announced")
        with _told():
            while data:
                data = data[os.write(self._file, data) :]

    def finish(self):
        """Puts the file in its place."""
        if self._left:
            raise Refused("failed", f"{self._left} bytes of the file are missing")
        with _as_user():
            os.replace(
                self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
        self._close()

    def abandon(self):
        """Removes what has come so far."""
        with contextlib.suppress(Refused), _as_user():
            os.unlink(self._temporary, dir_fd=self._folder)
        self._close()

    def _close(self):
        os.close(self._file)
        os.close(self._folder)


class Outgoing:
    """A file on its way out: as many bytes as it had when it was opened."""

    def __init__(self, path, limit):
        *folders, name = _split(path) or [""]
        with _as_user():
            folder = _open_folder(folders)
            try:
                self._file = os.open(name or ".", _READ, dir_fd=folder)
            finally:
                os.close(folder)
        info = os.fstat(self._file)
        self.size = self._left = info.st_size
        if not stat.S_ISREG(info.st_mode):
            self.close()
            raise Refused("bad_path", "not a regular file")
        if self.size > limit:
            self.close()
            raise Refused("too_large", f"{self.size} bytes")

    def read(self, most):
        """The next bytes; empty at the end."""
        data = os.read(self._file, min(most, self._left))
        self._left -= len(data)
        if not data and self._left:
            raise Refused("failed", "the file became shorter while it was read")
        return data

    def close(self):
        os.close(self._file)


def create(folder, name):
    """Makes a file of the user's for output, new and for writing alone."""
    with _as_user():
        parent = _open_folder([folder], make=True)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            return os.open(name, _CREATE, 0o644, dir_fd=parent)
        finally:
            os.close(parent)
