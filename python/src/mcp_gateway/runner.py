"""Where functions run: plain ones on threads, async ones on a loop of their own.

The protocol is on neither, so a function that never ends holds up nothing but its own thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

THREADS = 64
_SPARE = 4


class Stopped(BaseException):
    """Raised inside a plain function that went on long after its call was cancelled."""


class _Worker(threading.Thread):
    def __init__(self, pool: Threads) -> None:
        super().__init__(name="tool", daemon=True)
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._pool = pool
        self._guard = threading.Lock()
        self._job: Callable[[], None] | None = None
        self._poisoned = False

    def run(self) -> None:
        # `Stopped` comes at any bytecode, so it may also come just after the job it was meant for.
        # A thread that was stopped takes no other job.
        with contextlib.suppress(Stopped):
            while (job := self.jobs.get()) is not None:
                with self._guard:
                    self._job = job
                try:
                    job()
                except Stopped:
                    pass
                except BaseException:  # jobs tell their own failures; this is a fault of ours
                    traceback.print_exc()
                with self._guard:
                    self._job = None
                    if self._poisoned:
                        break
                del job
                if not self._pool.spare(self):
                    break
        self._pool.gone(self)

    def stop(self, job: Callable[[], None]) -> bool:
        with self._guard:
            if self._job is not job or self.ident is None:
                return False
            import ctypes

            self._poisoned = True
            raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.ident), ctypes.py_object(Stopped)
            )
            return bool(raised == 1)


class Threads:
    """A pool that grows to ``limit``, reuses the thread that was busy last, and never waits."""

    def __init__(self, limit: int = THREADS) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    def run(self, job: Callable[[], None]) -> _Worker | None:
        """Starts ``job``, or gives nothing if every thread is busy."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            if worker is None:
                if len(self._all) >= self.limit:
                    self._all = {w for w in self._all if w.is_alive()}
                    if len(self._all) >= self.limit:
                        return None
                worker = _Worker(self)
                worker.start()
                self._all.add(worker)
        worker.jobs.put(job)
        return worker

    def spare(self, worker: _Worker) -> bool:
        with self._lock:
            if len(self._idle) >= _SPARE:
                return False
            self._idle.append(worker)
            return True

    def gone(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)

    @property
    def busy(self) -> int:
        with self._lock:
            return len(self._all) - len(self._idle)


class Runner:
    """Threads and a loop. A program that has a loop already gives it, since what its functions
    use (connections, locks) may belong to it."""

    def __init__(self, *, limit: int = THREADS, loop: asyncio.AbstractEventLoop | None = None):
        self.threads = Threads(limit)
        self._loop = loop
        self._own = loop is None
        self._lock = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._turn, name="loop", daemon=True)
                thread.start()
            return self._loop

    def _turn(self) -> None:
        import asyncio

        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        while not loop.is_closed():
            try:
                loop.run_forever()
                return
            except BaseException as error:
                # A task that a function left behind called `sys.exit`: the loop goes on.
                sys.stderr.write(f"mcp-gateway: a task ended with {error!r}\n")

    def finish(self, seconds: float) -> None:
        """Cancels what is left on our own loop and gives it this long to end."""
        with self._lock:
            loop = self._loop if self._own else None
        if loop is None:
            return
        import asyncio

        done = threading.Event()

        async def cancel() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            done.set()

        loop.call_soon_threadsafe(lambda: loop.create_task(cancel()))
        done.wait(seconds)
