"""A training stage on several devices: the stage starts its own processes, of which the first tracks and writes."""

import os
import subprocess
import sys
from collections.abc import Sequence

from grandrounds.errors import UserError
from grandrounds.params import Compute

STAGES = ("adapt", "grpo")


def wanted(stage: str, compute: Compute) -> bool:
    """Whether the stage is to be started again, as one process a device."""
    return stage in STAGES and compute.launch != "plain" and "RANK" not in os.environ


def command(stage: str, arguments: Sequence[str], compute: Compute) -> list[str]:
    """torchrun with the same `python -m tasks.<stage> <item>`."""
    where = ["--standalone"]
    if compute.machines > 1:
        number = os.environ.get("GRANDROUNDS_MACHINE", "")
        if not number.isdecimal() or int(number) >= compute.machines:
            raise UserError(
                f"GRANDROUNDS_MACHINE: this machine's number, 0 to {compute.machines - 1}, is wanted, not {number!r}"
            )
        host, _, port = compute.address.rpartition(":")
        where = ["--nnodes", str(compute.machines), "--node-rank", number, "--master-addr", host, "--master-port", port]
    run = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(compute.processes)]
    return [*run, "-m", f"tasks.{stage}", *arguments]


def run(stage: str, arguments: Sequence[str], compute: Compute) -> int:
    """Run the processes to their end; their exit code. Interrupted, they are told so and waited for."""
    children = subprocess.Popen(command(stage, arguments, compute))
    try:
        return children.wait()
    except KeyboardInterrupt:
        children.terminate()
        children.wait()
        raise
