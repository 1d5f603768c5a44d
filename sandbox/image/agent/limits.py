"""What the user's code may use, and how each limit is put on it.

The host sends the limits after it has attached, not by environment, so that
one image of a running sandbox can be restored under any limits.

- Memory: an address-space limit on the Python kernel gives a MemoryError and
  keeps the state; the watchdog stands behind it. Programs map more than they
  touch, libraries above all, so the limit is set again before each cell from
  what is in use, with room for that; when memory gets short during a cell, the
  agent says how much the kernel may map and the kernel, which alone may change
  its limit, obeys a signal (tighten). gVisor enforces neither RLIMIT_DATA nor
  the limit of its inner memory cgroup.
- Processes: a pids cgroup where the sandbox may make one, which is under
  gVisor. On runc the cgroup tree is read-only and the engine's own limit
  holds; RLIMIT_NPROC would count the same uid in every sandbox there.
- Out of memory on the host's side, the kernels go first, never the agent.
"""

import os
import resource

# The agent must come to its looks at memory. gVisor takes no notice of this.
NICE = 5
USER = 1000  # uid and gid of the user's code; the image makes it

# pandas and matplotlib map this much that they never touch. A kernel that has
# not loaded them yet gets it on top of what it may use.
LIBRARIES = 400 << 20
# For one that has. Less than RESERVE: what it maps from then on keeps it below
# the limit, however late the watchdog looks.
SLACK = 24 << 20
# The kernel refuses itself more this far below the limit, so that the watchdog
# doesn't come first; half of it is for code that frees something.
RESERVE = 64 << 20
MIN_ROOM = RESERVE // 2

PAGE = os.sysconf("SC_PAGE_SIZE")

PIDS_CGROUP = "/sys/fs/cgroup/pids/kernels"
MEMORY_FILES = (
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",  # cgroup v1, and gVisor always
    "/sys/fs/cgroup/memory.current",  # cgroup v2
)
MEMORY_STATS = ("/sys/fs/cgroup/memory/memory.stat", "/sys/fs/cgroup/memory.stat")
OOM_EVENTS = (
    "/sys/fs/cgroup/memory/memory.oom_control",
    "/sys/fs/cgroup/memory.events",
)


class Limits:
    """The limits in force; zero is none."""

    def __init__(self):
        self.memory = 0
        self.pids = 0
        self.disk = 0
        self._pids_cgroup = _make_pids_cgroup()
        self._usage = _open_first(MEMORY_FILES)
        self._stat = _open_first(MEMORY_STATS)
        self._oom = _open_first(OOM_EVENTS)
        self._workspace_in_memory = os.stat("/workspace").st_dev != os.stat("/").st_dev

    def set(self, memory, pids, disk):
        self.memory, self.pids, self.disk = memory, pids, disk
        if self._pids_cgroup and pids:
            with open(f"{self._pids_cgroup}/pids.max", "w") as file:
                file.write(str(pids))

    def address_space(self, pid):
        """How much a kernel may map, so that it uses what is left and no more."""
        size, resident = _mapped(pid)
        return size + self.room() + max(LIBRARIES - (size - resident), SLACK)

    def tight_address_space(self, pid):
        """The same for one in the middle of a cell, without room for libraries."""
        room = self.room()
        return _mapped(pid)[0] + room

    def room(self):
        """Bytes of memory that a kernel may still take."""
        return max(self.memory - RESERVE - self.memory_used(), MIN_ROOM)

    def confine(self):
        """Makes the calling process the user's. For a child, before its exec."""
        if self._pids_cgroup:
            with open(f"{self._pids_cgroup}/cgroup.procs", "w") as file:
                file.write("0")
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(NICE)
        os.umask(0o022)
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)

    def memory_used(self):
        """Bytes of memory of the whole sandbox that count for the limit."""
        if self._usage is None:
            return 0
        used = int(os.pread(self._usage, 32, 0))
        # On runc the figure has file pages in it that the host can take back,
        # and the workspace, which is a file system in memory there.
        if self._stat is not None:
            stat = os.pread(self._stat, 8192, 0)
            used -= _field(stat, b"total_inactive_file") or _field(stat, b"inactive_file")
        if self._workspace_in_memory:
            used -= self.disk_used()
        return used

    def oom_kills(self):
        """How many processes of this sandbox the host's kernel killed for memory."""
        if self._oom is None:
            return 0
        return _field(os.pread(self._oom, 4096, 0), b"oom_kill")

    def disk_used(self):
        disk = os.statvfs("/workspace")
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def _mapped(pid):
    """Bytes that a process has mapped, and of these has in memory."""
    # Before each cell: an open file would ask the system six things more.
    file = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, resident = os.read(file, 256).split()[:2]
    finally:
        os.close(file)
    return int(size) * PAGE, int(resident) * PAGE


def _field(text, name):
    """A number from a file with a name and a number a line; 0 if it isn't there."""
    for line in text.splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0


def _open_first(paths):
    for path in paths:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return None


def _make_pids_cgroup():
    try:
        os.makedirs(PIDS_CGROUP, exist_ok=True)
    except OSError:
        return None
    return PIDS_CGROUP
