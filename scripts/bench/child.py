"""Runs one program and measures it: seconds, peak memory, and what the rest of the machine did meanwhile."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# What changes an allocator or a thread pool: neither side may inherit it by accident.
OURS = ("MALLOC_", "OMP_", "MKL_", "KMP_", "GOMP_", "RAYON_", "LD_PRELOAD")


class Failed(Exception):
    """A program that did not do its work, in one message for the user."""


@dataclass
class Finished:
    """What a child took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """ru_maxrss: the largest resident set, mapped weights included."""
    others: float
    """Cores that everything else on the machine used meanwhile."""
    watched: float | None
    """Seconds until the watched file had its first whole line."""


def busy() -> float:
    """Core seconds that the machine has worked since it started; what a hypervisor took away counts as work."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def wait_until_quiet(limit: float, quiet_seconds: float = 2, patience: float = 600) -> None:
    """Returns when the machine has used less than `limit` cores for some seconds, or after `patience` seconds."""
    begun = quiet_since = last_time = time.monotonic()
    last = busy()
    told = False
    while True:
        time.sleep(0.5)
        now, used = time.monotonic(), busy()
        if (used - last) / (now - last_time) > limit:
            quiet_since = now
        last, last_time = used, now
        if now - quiet_since >= quiet_seconds:
            return
        if now - begun > patience:
            print(f"  not quiet after {patience:.0f} s: going on", file=sys.stderr)
            return
        if now - begun > 15 and not told:
            print("  waiting for a quiet machine (--no-wait does not)", file=sys.stderr)
            told = True


def run(command: list[str], log: Path, threads: int, environment: dict[str, str] | None = None,
        watch: Path | None = None) -> Finished:
    """Runs a command with `threads` cores to its end; its output goes to `log`."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    variables |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                  "RAYON_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", **(environment or {})}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    busy_before, started = busy(), time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 env=variables)
        os.sched_setaffinity(child.pid, cores)
        # When memory runs out, this child goes and no other program.
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000", encoding="ascii")
        watched = None
        try:
            # Polling would cost a little of the machine, so it is done only where it is needed.
            while watch is not None and watched is None and os.waitid(
                    os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if watch.is_file() and b"\n" in watch.read_bytes():
                    watched = time.monotonic() - started
                else:
                    time.sleep(0.002)
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
    seconds = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    if child.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
        killed = " (killed: out of memory?)" if child.returncode == -9 else ""
        raise Failed(f"{Path(command[0]).name} ended with {child.returncode}{killed}; see {log}\n    " + "\n    ".join(lines))
    others = max(0.0, busy() - busy_before - cpu) / seconds
    return Finished(seconds, cpu, usage.ru_maxrss * 1024, others, watched)
