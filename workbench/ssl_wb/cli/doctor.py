"""``ssl-wb doctor``: checks the installation and says how to repair it."""

from __future__ import annotations

import importlib
import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ssl_wb
from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.cli.plugins import plugin_json
from ssl_wb.errors import ExitCode, WorkbenchError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from ssl_wb.plugin.registry import PluginRecord

__all__ = ["doctor"]

#: Extras for developing ssl-wb, whose libraries no command uses.
_DEVELOPMENT = ("test", "docs")
#: Kinds of plugin without which no recipe can be trained.
_TRAINED_WITH = ("masker", "objective", "backbone")
#: Bytes of shared memory below which a note is made: Docker gives 64 MB unless asked, and 4 workers that load 5 batches
#: of 256 clips of 2 seconds ahead need 640 MB.
LITTLE_SHARED_MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        message: what is wrong.
        hint: how to repair it.
        code: exit code it causes; 0 where training works anyway.
    """

    message: str
    hint: str
    code: int = 0


def doctor(as_json: Annotated[bool, JsonFlag] = False) -> None:
    """Check the installation: libraries, plugins, devices, and what prevents training.

    The exit code is 4 if plugins that training needs are missing, and 1 if anything else prevents training.
    """
    problems: list[Problem] = []
    torch_works = _check_torch(problems)
    records = _check_plugins(problems) if torch_works else []
    report = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "ssl_wb": {"version": ssl_wb.__version__, "installed": _distribution() is not None},
        "libraries": _check_libraries(problems),
        "torch_and_torchaudio_import": torch_works,
        "cpu": {"cores": _cores()},
        "shared_memory_bytes": _check_shared_memory(problems) if torch_works else None,
        "devices": _devices() if torch_works else [],
        "audio_formats": _check_soundfile(problems),
        "plugins": [plugin_json(record) for record in records],
        "problems": [asdict(problem) for problem in problems],
    }
    if as_json:
        echo_json(report)
    else:
        _print(report, problems)
    codes = [problem.code for problem in problems if problem.code]
    if codes:
        raise typer.Exit(min(codes))  # 1 before 4: without torch no plugin loads either


def _distribution() -> metadata.Distribution | None:
    """Return the installed metadata of ssl-wb; None in a checkout that is not installed."""
    try:
        return metadata.distribution("ssl-wb")
    except metadata.PackageNotFoundError:
        return None


def _requirements() -> list[Requirement]:
    """Return what the installed metadata of ssl-wb requires on this platform, extras included."""
    from packaging.requirements import Requirement

    distribution = _distribution()
    found = []
    for requirement in map(Requirement, (distribution.requires if distribution else None) or ()):
        # A marker that names an extra holds only for that extra; "" stands for an installation without extras.
        extras = ("", *re.findall(r"extra == ['\"]([^'\"]+)", str(requirement.marker)))
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras if extra not in _DEVELOPMENT
        ):
            found.append(requirement)
    return found


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _check_libraries(problems: list[Problem]) -> dict[str, str | None]:
    """Return the version of each library that ssl-wb requires, None where it is absent."""
    requirements = _requirements()
    versions = {requirement.name: _version(requirement.name) for requirement in requirements}
    # With a marker, for an extra or a platform, a library is optional: ssl-wb works without it.
    absent = [one.name for one in requirements if one.marker is None and versions[one.name] is None]
    if absent:
        problems.append(Problem(f"not installed: {', '.join(absent)}", _reinstall(), ExitCode.UNEXPECTED))
    for requirement in requirements:
        version = versions[requirement.name]
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            message = f"{requirement.name} {version} is installed, ssl-wb needs {requirement.specifier}"
            problems.append(Problem(message, f"run `pip install '{requirement.name}{requirement.specifier}'`"))
    return versions


def _reinstall() -> str:
    checkout = _checkout()
    return f"run `pip install -e .` in {checkout}" if checkout else "run `pip install --force-reinstall ssl-wb`"


def _checkout() -> Path | None:
    """Return the checkout that the package runs from, None for an installed wheel."""
    folder = Path(ssl_wb.__file__).parent.parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def _check_torch(problems: list[Problem]) -> bool:
    """Return whether torch and torchaudio import together; torchaudio is built for one torch and one CUDA."""
    for name in ("torch", "torchaudio"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as failure:
            versions = f"torch {_version('torch')}, torchaudio {_version('torchaudio')}"
            reason = " ".join(str(failure).split())
            message = f"{name} cannot be imported ({versions}): {type(failure).__name__}: {reason}"
            problems.append(Problem(message, _torch_remedy(), ExitCode.UNEXPECTED))
            return False
    return True


def _torch_remedy() -> str:
    pair = " ".join(f"'{one.name}{one.specifier}'" for one in _requirements() if one.name in ("torch", "torchaudio"))
    if not pair:
        return _reinstall()
    return f"the two must be built for each other: run `pip install --force-reinstall {pair}` as one command"


def _check_soundfile(problems: list[Problem]) -> list[str]:
    """Return the names of file formats that soundfile decodes."""
    try:
        import soundfile
    except (ImportError, OSError) as failure:
        message = f"soundfile cannot be imported: {type(failure).__name__}: {failure}"
        problems.append(Problem(message, "run `pip install --force-reinstall soundfile`", ExitCode.UNEXPECTED))
        return []
    return sorted(soundfile.available_formats())


def _cores() -> int:
    """Return the CPU cores this process may use; a container may have fewer than its machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_shared_memory(problems: list[Problem]) -> int | None:
    """Return the free bytes of shared memory, None where it is no file system; note it where they are few."""
    from ssl_wb.data.workers import free_shared_memory

    free = free_shared_memory()
    if free is not None and free < LITTLE_SHARED_MEMORY:
        message = f"/dev/shm has {free / 2**20:.0f} MB free, less than data workers may need for their batches"
        hint = "training then sends batches through pipes, which is slower; in Docker: `docker run --shm-size=2g`"
        problems.append(Problem(message, hint))
    return free


def _devices() -> list[dict[str, Any]]:
    """Describe each device: name, whether it computes bf16 natively, and the attention it would use."""
    import torch

    from ssl_wb.layers.attention import attention_name
    from ssl_wb.runs.device import bf16_is_native

    names = {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        names["mps"] = "Apple GPU"
    names["cpu"] = platform.processor() or platform.machine()
    devices = [(torch.device(text), name) for text, name in names.items()]
    return [
        {
            "device": str(device),
            "name": name,
            "bf16_native": bf16_is_native(device),
            "attention": attention_name(device, torch.bfloat16),  # as in a run in half precision
        }
        for device, name in devices
    ]


def _check_plugins(problems: list[Problem]) -> list[PluginRecord]:
    """Return the plugins; add a problem for each that does not work and each missing kind."""
    from ssl_wb.plugin.registry import load_registry, remedy

    try:
        records = list(load_registry().records)
    except WorkbenchError as failure:  # strict mode
        problems.append(Problem(failure.message, failure.hint, int(failure.exit_code)))
        return []
    _check_installation(problems)
    for record in records:
        if record.status in ("broken", "incompatible"):
            message = f"plugin {record.provider} is {record.status}: {record.error}"
            problems.append(Problem(message, remedy(record)))
    active = {record.kind for record in records if record.status == "active"}
    absent = [kind for kind in _TRAINED_WITH if kind not in active]
    if absent:
        hint = "see the plugins above" if records else _reinstall()
        problems.append(Problem(f"no working plugin of kind {', '.join(absent)}", hint, ExitCode.PLUGIN))
    return records


def _check_installation(problems: list[Problem]) -> None:
    """Add a problem if the checkout is not installed, or its entry points changed after it was."""
    checkout, distribution = _checkout(), _distribution()
    if distribution is None:
        message = "ssl-wb runs from a checkout that is not installed, so its plugins are not registered"
        problems.append(Problem(message, _reinstall()))
        return
    if checkout is None:
        return
    import tomli

    project = tomli.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    written = project.get("entry-points", {}).get("ssl_wb", {})
    installed = {entry_point.name for entry_point in distribution.entry_points if entry_point.group == "ssl_wb"}
    later = sorted(set(written) - installed)
    if later:
        message = f"registered in pyproject.toml since the checkout was installed: {', '.join(later)}"
        problems.append(Problem(message, _reinstall()))


def _print(report: dict[str, Any], problems: list[Problem]) -> None:
    stopped = any(problem.code for problem in problems)
    typer.echo("Training cannot start." if stopped else "Training can start.")
    for problem in problems:
        typer.echo(f"{'problem' if problem.code else 'note'}: {problem.message}\n  {problem.hint}")
    typer.echo("")
    installed = "" if report["ssl_wb"]["installed"] else " (not installed)"
    together = "import together" if report["torch_and_torchaudio_import"] else "do NOT import together"
    libraries = [f"{name} {version or '-'}" for name, version in report["libraries"].items()]
    rows = [
        ["ssl-wb", report["ssl_wb"]["version"] + installed],
        ["python", f"{report['python']}, {report['platform']}"],
        ["libraries", ", ".join(libraries)],
        ["torch", f"torch and torchaudio {together}"],
        ["cores", str(report["cpu"]["cores"])],
        *([["/dev/shm", f"{free / 2**20:.0f} MB free"]] if (free := report["shared_memory_bytes"]) is not None else []),
        *(
            [
                one["device"],
                f"{one['name']}; bf16 {'native' if one['bf16_native'] else 'emulated'}; {one['attention']} attention",
            ]
            for one in report["devices"]
        ),
        ["audio files", ", ".join(report["audio_formats"]) or "none"],
    ]
    echo_table(["WHAT", "FOUND"], rows)
    if report["plugins"]:
        typer.echo("")
        echo_table(
            ["PLUGIN", "FROM", "STATUS", "ERROR"],
            [
                [
                    f"{one['kind'] or '?'} {one['name']}",
                    f"{one['distribution']} {one['version']}",
                    one["status"],
                    one["error"] or "",
                ]
                for one in report["plugins"]
            ],
        )
