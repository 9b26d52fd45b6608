"""A run on one device here, or on several with torchrun.

``python -m cryoready.training.launch REQUEST`` is what torchrun starts on every device: REQUEST is
a JSON file with the arguments of `run.carry_out`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cryoready.core.errors import CryoreadyError
from cryoready.training.run import Report, carry_out
from cryoready.training.team import team_of_torchrun

ERROR = "error: "


def launch(request: Mapping[str, Any], *, report: Report) -> None:
    """Carry out ``request``, on as many devices and nodes as its settings say.

    One device needs no other process. Several are started by torchrun (several nodes: one torchrun
    on each, by Slurm's srun); all but the first are silent.

    Raises
    ------
    CryoreadyError
        what stopped the run.
    """
    devices, nodes = request["settings"]["devices"], request["settings"]["nodes"]
    if devices == "auto":
        devices = max(1, torch.cuda.device_count())
    if devices * nodes == 1:
        carry_out(**request, report=report)
        return
    if 0 < torch.cuda.device_count() < devices:
        raise CryoreadyError(
            f"train.devices is {devices}, but there are {torch.cuda.device_count()} GPUs here"
        )
    shared = {**request, "threads": max(1, request["threads"] // devices)}
    Path(request["states"]).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=request["states"]) as file:
        json.dump(shared, file)
        file.flush()
        _run(_command(devices, nodes, request["threads"], file.name), report)


def _command(devices: int, nodes: int, threads: int, request: str) -> list[str]:
    """The processes of all devices, which find each other at this host; ``threads`` for a node."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={devices}"]
    work = ["-m", "cryoready.training.launch", request]
    if nodes == 1:
        return [*torchrun, "--standalone", *work]
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    # --overlap: this script is itself a step of the same allocation
    srun = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    srun.append(f"--cpus-per-task={threads}")  # which srun does not take from the allocation
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{port}"]
    return [*srun, *torchrun, f"--nnodes={nodes}", "--rdzv-id=cryoready", *meeting, *work]


def _run(command: list[str], report: Report) -> None:
    """Run ``command``, hand on the lines it reports, and raise the error that it reports."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # torchrun warns where it is not set
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        errors = []
        for line in process.stdout or ():
            if line.startswith(ERROR):
                errors.append(line.removeprefix(ERROR).rstrip())
            else:
                report(line.rstrip())
    if errors:
        raise CryoreadyError(errors[0])
    if process.returncode:
        raise RuntimeError(f"{command} ended with exit status {process.returncode}")


def main() -> None:
    """One process among those of torchrun."""
    request = json.loads(Path(sys.argv[1]).read_text())
    with team_of_torchrun() as (team, device):

        def report(line: str) -> None:
            if team.leads:
                print(line, flush=True)

        try:
            carry_out(**request, report=report, team=team, device=device)
        except CryoreadyError as error:
            print(f"{ERROR}{error}", flush=True)
            raise SystemExit(1) from error


if __name__ == "__main__":
    main()
