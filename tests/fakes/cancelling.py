"""Cancellation at a step of a task that a test has chosen."""

from __future__ import annotations

import trio


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task is about to take its n-th step."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int) -> None:
        self._task = task
        self._scope = scope
        self._left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()
