"""A run on one device here, or on several with torchrun, for as long as Slurm gives it.

``python -m cryoready.training.launch REQUEST`` is what torchrun starts on every device: REQUEST is
a JSON file with the arguments of `run.carry_out`.
"""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.devices import make_current
from cryoready.enhance.gpus import claimed_devices
from cryoready.training.allocation import Allocation
from cryoready.training.run import Report, carry_out
from cryoready.training.stop import NO_TIME, Stop, Stopped, at_once, signals_to, too_late
from cryoready.training.team import team_of_torchrun

ERROR, STOPPED, DONE = "error: ", "stopped", "done"  # begin a line of a process among several


def launch(request: Mapping[str, Any], *, gpus: int, requeue: bool, report: Report) -> None:
    """Carry out ``request``, on as many devices and nodes as its settings say.

    One device needs no other process. Several are started by torchrun (several nodes: one torchrun
    on each, by Slurm's srun); all but the first are silent.

    Parameters
    ----------
    request
        arguments of `run.carry_out`.
    gpus
        that the job was given, on all nodes; 0: all that there are.
    requeue
        whether a Slurm job that was stopped is to be put into the queue again, unless it was
        cancelled.
    report
        takes one line for the user.

    Raises
    ------
    CryoreadyError
        what stopped the run.
    Stopped
        if it was told to stop, or the job's time is up.
    """
    allocation = None
    with signals_to(too_late):
        try:
            with signals_to(at_once):
                allocation = Allocation.current(report)
                _carry_out(request, gpus, allocation.deadline if allocation else math.inf, report)
        except Stopped:
            states = Path(request["states"])
            allocation = allocation or Allocation.current(report)
            if allocation and allocation.in_vain(states):
                raise CryoreadyError(NO_TIME) from None
            report(f"stopped; {states} holds all that is needed to go on")
            if requeue and allocation:
                allocation.requeue(report)
            raise


def _carry_out(request: Mapping[str, Any], gpus: int, deadline: float, report: Report) -> None:
    """Here, or by a process for each device."""
    devices, nodes = request["settings"]["devices"], request["settings"]["nodes"]
    if gpus % nodes:
        raise CryoreadyError(
            f"train.nodes is {nodes}, but the resource gpu of train_network, which counts the GPUs "
            f"of all nodes, is {gpus}: make it a multiple (profile, set-resources)"
        )
    each = gpus // nodes if devices == "auto" else devices
    with claimed_devices("auto", each, report) as mine:
        number = len(mine) if devices == "auto" else devices
        if number * nodes == 1:
            make_current(mine[0])
            stop = Stop(deadline)
            with stop.heeding_signals():
                carry_out(**request, stop=stop, report=report, device=mine[0])
            return
        threads = max(1, request["threads"] // number)
        shared = {"deadline": deadline, "request": {**request, "threads": threads}}
        Path(request["states"]).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=request["states"]) as file:
            json.dump(shared, file)
            file.flush()
            os.fsync(file.fileno())  # other nodes are to read it
            command = _command(number, nodes, request["threads"], file.name)
            if nodes == 1:
                _run(command, _visible(mine), report, number)
            else:  # srun kills all at a signal; Slurm signals what it started by itself
                _run(command, {}, report, number * nodes, forwards=False)


def _visible(devices: Sequence[torch.device]) -> dict[str, str]:
    """The environment in which a process sees these GPUs only."""
    gpus = [device.index for device in devices if device.type == "cuda"]
    if not gpus:
        return {}
    name = "CUDA_VISIBLE_DEVICES"
    if name not in os.environ:
        return {name: ",".join(map(str, gpus))}
    seen = os.environ[name].split(",")
    return {name: ",".join(seen[k] for k in gpus)}


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
    srun.append("--kill-on-bad-exit=1")  # or the other nodes would wait for one that failed
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{port}"]
    return [*srun, *torchrun, f"--nnodes={nodes}", "--rdzv-id=cryoready", *meeting, *work]


def _run(
    command: list[str],
    variables: Mapping[str, str],
    report: Report,
    processes: int = 1,
    *,
    forwards: bool = True,
) -> None:
    """Run ``command``, hand on the lines it reports, and raise the error that it reports.

    Signals are handed on to it if it ``forwards`` them to those that it started. Without a signal
    here, all of its ``processes`` have to say that they stopped: where one has failed, torchrun
    stops the others, too. If one says that it is done, all is: torchrun fails if it is signalled
    afterwards.
    """
    # torchrun warns where the number of threads is not set
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **variables}
    errors, signalled, stopped, done = [], False, 0, False
    process: subprocess.Popen[str] | None = None

    def stop(*_: object) -> None:
        nonlocal signalled
        signalled = True
        if process and forwards:
            process.terminate()

    with signals_to(stop):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        with process:
            if signalled:  # before there was a process
                stop()
            for line in map(str.rstrip, process.stdout or ()):
                if line.startswith(ERROR):
                    errors.append(line.removeprefix(ERROR))
                elif line == STOPPED:
                    stopped += 1
                elif line == DONE:
                    done = True
                else:
                    report(line)
    if done:
        return
    if errors:
        raise CryoreadyError(errors[0])
    if process.returncode and (signalled or stopped == processes):
        raise Stopped
    if process.returncode:
        raise RuntimeError(f"{command} ended with exit status {process.returncode}")


def main() -> None:
    """One process among those of torchrun."""
    with signals_to(too_late):
        try:
            _take_part(**json.loads(Path(sys.argv[1]).read_text()))
            return
        except CryoreadyError as error:
            _say(f"{ERROR}{error}")
        except Stopped:
            _say(STOPPED)
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # the ordinary way waits, with NCCL, for the other processes


def _take_part(deadline: float, request: Mapping[str, Any]) -> None:
    """Train with the other processes of torchrun."""
    stop = Stop(deadline, together=True)
    with stop.heeding_signals(), team_of_torchrun() as (team, device):

        def report(line: str) -> None:
            if team.leads:
                _say(line)

        carry_out(**request, stop=stop, report=report, team=team, device=device)
        report(DONE)


def _say(line: str) -> None:
    """To the parent, in one piece: print's two would mix with those of other processes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
