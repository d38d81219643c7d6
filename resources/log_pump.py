"""A program between a process and its log file, through which every line passes the mask.

A process of its own: what a killed process wrote last still arrives, a library that fills the pipe while it holds
Python's lock waits and does not stand still for ever, and the file never holds what the mask would have removed.

    python -S -m resources.log_pump FILE END DONE

reads its standard input and writes to FILE and to its standard output. Behind the word END everything before it is in
place, which a byte on the file descriptor DONE says; it ends when nobody can write to it any more. Only the standard
library is needed, so it starts in milliseconds.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from resources.secrets import process_mask

CHUNK_BYTES = 65536
# A line longer than this is written in parts.
LINE_BYTES = 1_000_000
# Kept back of a part, beside the longest secret: enough for a name and an address before it.
OVERLAP = 1000
_DONE = b"."


class LogPump:
    """A running pump: what is written to `input` lands, masked, in a file.

    Args:
        file: Appended to.
        environment: Whose secrets are masked; this process's own by default.
        mirror: A file descriptor that gets the masked lines too.
    """

    def __init__(self, file: Path, environment: Mapping[str, str] | None = None, mirror: int | None = None) -> None:
        reader, self.input = os.pipe()
        self._done, done = os.pipe()
        self._end = os.urandom(16).hex()
        arguments = [sys.executable, "-S", "-m", "resources.log_pump", str(file.absolute()), self._end, str(done)]
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=reader,
                stdout=subprocess.DEVNULL if mirror is None else mirror,
                stderr=subprocess.DEVNULL,
                pass_fds=[done],
                cwd=Path(__file__).parents[1],
                env=None if environment is None else dict(environment),
                # The signals that end what it listens to are not for it.
                start_new_session=True,
            )
        finally:
            os.close(reader)
            os.close(done)

    def finish(self, seconds: float) -> bool:
        """Return once everything written so far is in the file; False when that took too long, or the pump is dead.

        A child of the writer may hold the pipe for longer, and may go on writing to it.
        """
        if self.input < 0:
            return True
        deadline = time.monotonic() + seconds
        try:
            # The pipe is full while the mirror stands still, and a write would wait for it without end.
            _, room, _ = select.select([], [self.input], [], seconds)
            if room:
                os.write(self.input, self._end.encode())
        except BrokenPipeError:
            pass
        finally:
            os.close(self.input)
            self.input = -1
        ready, _, _ = select.select([self._done], [], [], max(deadline - time.monotonic(), 0.0))
        is_done = bool(ready) and os.read(self._done, 1) == _DONE
        os.close(self._done)
        return is_done

    def stop(self, seconds: float) -> None:
        """`finish`, then end the pump, which has nothing left to wait for."""
        self.finish(seconds)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Writer:
    """Writes masked text to every target; one that fails is given up, so that the process behind is never held up."""

    def __init__(self, *targets: int) -> None:
        self._targets = list(targets)
        self._mask = process_mask()

    def lines(self, data: bytes) -> None:
        """Write whole lines."""
        masked = [self._mask.text(line) for line in data.decode(errors="surrogateescape").splitlines(keepends=True)]
        self._write("".join(masked))

    def part(self, data: bytes) -> bytes:
        """Write the beginning of a long line; returns what has to wait for the rest, masked already."""
        text = self._mask.text(data.decode(errors="surrogateescape"))
        kept = self._mask.longest + OVERLAP
        self._write(text[:-kept])
        return text[-kept:].encode(errors="surrogateescape")

    def _write(self, text: str) -> None:
        data = text.encode(errors="surrogateescape")
        for target in self._targets[:]:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
            except OSError:
                # A full disk, or a terminal that is gone.
                self._targets.remove(target)


def pump(file: Path, end: bytes, done: int) -> None:
    """Do the work until the input ends."""
    writer = _Writer(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), sys.stdout.fileno())
    waiting = b""
    while data := os.read(sys.stdin.fileno(), CHUNK_BYTES):
        waiting += data
        if end in waiting:
            before, _, waiting = waiting.partition(end)
            writer.lines(before)
            with suppress(BrokenPipeError):  # Who asked may have given up waiting.
                os.write(done, _DONE)
            os.close(done)
        if whole := max(waiting.rfind(b"\n"), waiting.rfind(b"\r")) + 1:
            writer.lines(waiting[:whole])
            waiting = waiting[whole:]
        if len(waiting) > LINE_BYTES:
            waiting = writer.part(waiting)
    writer.lines(waiting)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pump(Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]))
