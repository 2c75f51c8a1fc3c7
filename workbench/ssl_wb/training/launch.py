"""Several processes for one run, started through Accelerate's launcher, and one error message for all of them."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ErrorHandler, record

from ssl_wb.errors import ExitCode, UsageError, WorkbenchError
from ssl_wb.plugin.fault import described

__all__ = ["Machines", "check_world", "is_launched", "launch", "run_recorded"]

#: Environment variable of processes that :func:`launch` started: their failures are reported by it.
LAUNCHED = "SSL_WB_LAUNCHED"
#: Seconds that processes get to end their step and write a checkpoint once they are told to stop.
GRACE = "120"
#: Exit codes of a run that was asked to stop: more often the consequence of another process' failure than a cause.
_STOPPED = (int(ExitCode.RESUMABLE), int(ExitCode.INTERRUPTED))


@dataclass(frozen=True)
class Machines:
    """Which processes a run has, and which of them this machine starts.

    Args:
        processes: processes on each machine.
        machines: machines of the run.
        rank: this machine's number, from 0.
        address: ``HOST:PORT`` of machine 0, where all meet; None on a single machine.
    """

    processes: int = 1
    machines: int = 1
    rank: int = 0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.processes < 1 or self.machines < 1:
            raise UsageError("--processes and --machines are at least 1")
        if not 0 <= self.rank < self.machines:
            raise UsageError(
                f"--rank {self.rank} is not one of {self.machines} machine{'' if self.machines == 1 else 's'}",
                hint="machines are numbered from 0; --machines says how many there are",
            )
        if self.machines > 1 and self.address is None:
            raise UsageError(
                f"--machines {self.machines} needs a place to meet", hint="--main-address HOST:PORT of machine 0"
            )
        if self.address is not None:
            self.place()

    @property
    def world(self) -> int:
        """Processes of the run on all machines."""
        return self.processes * self.machines

    def place(self) -> tuple[str, int]:
        """Return host and port where the processes meet; port 0 takes a free one of this machine."""
        if self.address is None:
            return "127.0.0.1", 0
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"--main-address {self.address!r} is not HOST:PORT", hint="for example 10.0.0.1:29500")
        return host.strip("[]"), int(port)


T = TypeVar("T")


@dataclass(frozen=True)
class _Failure:
    """Why one process ended: message, hint, exit code, traceback, and when (seconds)."""

    rank: int
    message: str
    hint: str
    code: int
    trace: str
    when: float


def is_launched() -> bool:
    """Whether this process is one of several that a launcher started (ours, Accelerate's, torchrun)."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def check_world(got: int, asked: int | None) -> None:
    """Fail unless the run has the requested number of processes.

    Args:
        got: processes of the run.
        asked: processes asked for; None where the command line does not say.

    Raises:
        UsageError: there are more or fewer, or `accelerate launch` was asked for several and started one.
    """
    if asked is not None and got != asked:
        raise UsageError(
            f"{asked} processes were asked for and {got} {'is' if got == 1 else 'are'} there",
            hint="give every machine the same --processes and --machines, and a launcher the same number",
        )
    # With several processes asked for but no GPUs, `accelerate launch` prepares their meeting place and then starts a
    # single process without a rank, in silence.
    alone = got == 1 and not is_launched()
    if alone and asked is None and {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys():
        raise UsageError(
            "several processes were asked of `accelerate launch` and 1 is there: it starts one on the CPU",
            hint="ssl-wb train RECIPE --processes N, or accelerate launch --multi_gpu with `--cpu` behind `train`",
        )


class _FailureFile(ErrorHandler):
    """Adds to torchelastic's error file what the error message of the whole run needs."""

    def record_exception(self, e: BaseException) -> None:
        """Write the file that torchelastic's agent, :func:`launch`, named for this process."""
        message, hint, code = f"{type(e).__name__}: {' '.join(str(e).split())}", "", int(ExitCode.UNEXPECTED)
        found = described(e) if isinstance(e, Exception) else e
        if isinstance(found, WorkbenchError):
            message, hint, code = found.message, found.hint, int(found.exit_code)
        trace = "".join(traceback.format_exception(e))
        failure = _Failure(int(os.environ["RANK"]), message, hint, code, trace, time.time())
        extra = {"py_callstack": trace, "timestamp": str(int(failure.when)), "failure": asdict(failure)}
        file = Path(os.environ["TORCHELASTIC_ERROR_FILE"])
        file.write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}), encoding="utf-8")


def run_recorded(function: Callable[[], T]) -> T | None:
    """Call a function; in a process that :func:`launch` started, record its failure for it instead of raising it.

    Raises:
        SystemExit: the function failed in such a process, with the exit code of its failure.
    """
    if LAUNCHED not in os.environ or not is_launched():
        return function()
    try:
        return record(function, _FailureFile())()
    except KeyboardInterrupt:
        raise SystemExit(int(ExitCode.INTERRUPTED)) from None
    except WorkbenchError as error:
        raise SystemExit(int(error.exit_code)) from error
    except Exception as error:
        raise SystemExit(int(ExitCode.UNEXPECTED)) from error


# More than fifty lines, most of them what each failure of the launcher means for the user.
def launch(words: Sequence[str], machines: Machines, module: str = "ssl_wb") -> None:
    """Run ``python -m MODULE WORDS`` in this machine's processes of a run and wait for them.

    SIGTERM and Ctrl-C reach every process; each ends its step and writes a checkpoint, as on one process.

    Args:
        words: arguments of the command; every process gets the same.
        machines: how many processes, where.
        module: what they run; it calls :func:`run_recorded`.

    Raises:
        UsageError: the place to meet is taken.
        WorkbenchError: a process failed; its message, hint and exit code, once for all processes.
        KeyboardInterrupt: Ctrl-C stopped the run.
    """
    import torch.distributed.run  # noqa: F401  (has every logger that is to be quiet)
    from torch.distributed.elastic.multiprocessing import SignalException

    # The agent logs every process' exit code and a table of them; the failure is reported once, below. Each of its
    # loggers has a level of its own.
    for name in [each for each in logging.root.manager.loggerDict if each.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = {
        LAUNCHED: "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", GRACE),
    }
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    with tempfile.TemporaryDirectory(prefix="ssl-wb-") as name:
        logs = Path(name)  # the agent has an error file for each process below it
        try:
            with _notice_as_stop():
                _accelerate(module, words, machines, logs)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            _raise_failure(_read_failures(logs), machines, codes)
        except SignalException as error:
            _raise_failure(_read_failures(logs), machines, {}, stopped_by=error.sigval)
        except ConnectionError as error:  # of the launcher, before anything runs
            raise UsageError(f"--main-address {machines.address}: {error}", hint="take another port") from error
        except (RuntimeError, TimeoutError) as error:
            if machines.machines == 1:
                raise
            raise UsageError(
                f"the {machines.machines} machines did not meet at {machines.address}: {' '.join(str(error).split())}",
                hint="start the same command on every machine, with its own --rank",
            ) from error
        finally:
            for key, value in before.items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value


@contextmanager
def _notice_as_stop() -> Iterator[None]:
    """Take SIGUSR1, Slurm's notice, for SIGTERM, which the agent hands on to the processes; the first would end it."""
    if not hasattr(signal, "SIGUSR1"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _accelerate(module: str, words: Sequence[str], machines: Machines, logs: Path) -> None:
    """Hand over to Accelerate's launcher of several processes.

    Its command `accelerate launch` is left out for two reasons: it starts a single process where there is no GPU, and
    it mixes in the user's default configuration (DeepSpeed, FP8, another number of processes).
    """
    from accelerate.commands.launch import launch_command_parser, multi_gpu_launcher

    host, port = machines.place()
    options = {
        "num_processes": machines.world,
        "num_machines": machines.machines,
        "machine_rank": machines.rank,
        "main_process_ip": host,
        "main_process_port": port,
        "mixed_precision": "no",  # a word the launcher needs; the recipe's is given to Accelerator itself
        "dynamo_backend": "no",
        "log_dir": logs,
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    parsed = launch_command_parser().parse_args(
        ["--multi_gpu", "--same_network", *arguments, "--module", module, *words]
    )
    parsed.num_cpu_threads_per_process = os.environ.get("OMP_NUM_THREADS") or threads_each(machines.processes)
    multi_gpu_launcher(parsed)


def threads_each(processes: int) -> int:
    """Return the threads of each process when ``processes`` share this machine's cores."""
    # Contention costs three to five times, so never more threads than cores.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


class _TraceError(Exception):
    """A process' traceback, shown above the failure with --debug."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _read_failures(logs: Path) -> list[_Failure]:
    """Read the error files of all processes.

    ``ChildFailedError`` carries those of the processes that ended first. Others may have ended later with the cause:
    where a process is gone, its neighbours notice a broken connection, and sometimes before the agent does.
    """
    found = []
    for path in logs.rglob("error.json"):
        message = json.loads(path.read_text(encoding="utf-8"))["message"]
        if isinstance(message, dict) and "failure" in message["extraInfo"]:
            found.append(_Failure(**message["extraInfo"]["failure"]))
    return found


def _raise_failure(
    failures: Sequence[_Failure], machines: Machines, codes: Mapping[int, int], stopped_by: Any = None
) -> NoReturn:
    """Raise the failure that was the cause, whichever process it was in.

    Args:
        failures: what the processes recorded.
        machines: how many there are.
        codes: exit codes of the processes that failed, negative for signals.
        stopped_by: the signal that stopped the run.
    """
    if failures:
        first = min(failures, key=_order)
        killed = {rank: code for rank, code in codes.items() if code < 0}
        if first.code == ExitCode.UNEXPECTED and killed:  # the others noticed that one was gone
            raise _killed(killed)
        if first.code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        raise _error(first, machines) from _TraceError(first.trace)
    # A process that Ctrl-C ended records nothing: its exit code says it.
    if stopped_by == signal.SIGINT or set(codes.values()) == {int(ExitCode.INTERRUPTED)}:
        raise KeyboardInterrupt
    if stopped_by is not None:  # before training began: there is nothing to resume
        raise SystemExit(128 + int(stopped_by))
    raise _killed(codes)


def _order(failure: _Failure) -> tuple[int, float]:
    """Sort causes before consequences: an expected failure, then an unexpected one, then a stop; the earliest first."""
    kind = 2 if failure.code in _STOPPED else int(failure.code == ExitCode.UNEXPECTED)
    return kind, failure.when


def _error(failure: _Failure, machines: Machines) -> WorkbenchError:
    """Turn a recorded failure into an error with its exit code."""
    message, hint = failure.message, failure.hint
    if failure.code == ExitCode.UNEXPECTED:
        message = f"unexpected error in process {failure.rank}: {message}"
        hint = "rerun with --debug for the traceback"
    elif failure.code == ExitCode.RESUMABLE and machines.machines == 1:
        hint += f" --processes {machines.processes}"
    error = WorkbenchError(message, hint=hint)
    error.exit_code = ExitCode(failure.code)
    return error


def _killed(codes: Mapping[int, int]) -> WorkbenchError:
    """Describe processes that ended without an error file."""
    ends = []
    for rank, code in sorted(codes.items()):
        ends.append(f"process {rank} " + (f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"))
    error = WorkbenchError(
        f"{', '.join(ends) or 'a process'} ended without an error message",
        hint="SIGKILL often means that memory ran out: lower train.batch_size, or raise train.accumulate",
    )
    error.exit_code = ExitCode.UNEXPECTED
    return error
