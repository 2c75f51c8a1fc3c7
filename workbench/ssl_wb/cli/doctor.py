"""``ssl-wb doctor``: what is installed, what works, and what to do about what does not."""

from __future__ import annotations

import importlib
import os
import platform
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
    from ssl_wb.plugin.registry import PluginRecord

__all__ = ["doctor"]

#: Training cannot do without these.
REQUIRED = (
    *("torch", "torchaudio", "accelerate", "pluggy", "pydantic", "tomli", "tomli-w", "typer", "rich"),
    *("soundfile", "numpy", "safetensors", "scikit-learn"),
)
#: Used where they are: xformers on CUDA, matplotlib for pictures, the others by an extra of ssl-wb.
OPTIONAL = ("xformers", "matplotlib", "audiomentations", "datasets", "pyarrow", "tensorboard")

#: Kinds of plugin without which no recipe can be trained.
_TRAINED_WITH = ("masker", "objective", "backbone")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: what.
        hint: what to do about it.
        code: exit code it causes; 0 where training works all the same.
    """

    message: str
    hint: str
    code: int = 0


def doctor(as_json: Annotated[bool, JsonFlag] = False) -> None:
    """Say what is installed, which plugins load and why not, and what the machine offers.

    Leaves with 4 when plugins that training needs are missing, with 1 when anything else prevents training.
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
        raise typer.Exit(min(codes))  # 1 says more than 4: without torch no plugin loads either


def _distribution() -> metadata.Distribution | None:
    """Return what pip knows of ssl-wb; None in a checkout that is not installed."""
    try:
        return metadata.distribution("ssl-wb")
    except metadata.PackageNotFoundError:
        return None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _check_libraries(problems: list[Problem]) -> dict[str, str | None]:
    """Return the version of each library, None where it is absent."""
    versions = {library: _version(library) for library in (*REQUIRED, *OPTIONAL)}
    absent = [library for library in REQUIRED if versions[library] is None]
    if absent:
        problems.append(Problem(f"not installed: {', '.join(absent)}", _reinstall(), ExitCode.UNEXPECTED))
    return versions


def _reinstall() -> str:
    checkout = _checkout()
    return f"run `pip install -e .` in {checkout}" if checkout else "run `pip install --force-reinstall ssl-wb`"


def _checkout() -> Path | None:
    """Return the checkout that the package runs from, None for an installed wheel."""
    folder = Path(ssl_wb.__file__).parent.parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def _check_torch(problems: list[Problem]) -> bool:
    """Say whether torch and torchaudio import together; each is built for one torch and one CUDA."""
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
    distribution = _distribution()
    needed = (distribution.requires if distribution else None) or []
    pair = " ".join(
        f"'{requirement}'" for requirement in needed if requirement.startswith(("torch<", "torch>", "torchaudio"))
    )
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
            "attention": attention_name(device, torch.bfloat16),  # what a run in half precision uses
        }
        for device, name in devices
    ]


def _check_plugins(problems: list[Problem]) -> list[PluginRecord]:
    """Return the plugins, after noting those that do not work and those that are missing."""
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
    """Note a checkout that is not installed, or was before its pyproject.toml registered more plugins."""
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


def _native(native: bool) -> str:
    return "native" if native else "emulated"


def _print(report: dict[str, Any], problems: list[Problem]) -> None:
    installed = "" if report["ssl_wb"]["installed"] else " (not installed)"
    together = "import together" if report["torch_and_torchaudio_import"] else "do NOT import together"
    libraries = [f"{name} {version or '-'}" for name, version in report["libraries"].items()]
    rows = [
        ["ssl-wb", report["ssl_wb"]["version"] + installed],
        ["python", f"{report['python']}, {report['platform']}"],
        ["libraries", ", ".join(libraries)],
        ["torch", f"torch and torchaudio {together}"],
        ["cores", str(report["cpu"]["cores"])],
        *(
            [
                one["device"],
                f"{one['name']}; bf16 {_native(one['bf16_native'])}; {one['attention']} attention",
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
    typer.echo("")
    for problem in problems:
        typer.echo(f"{'problem' if problem.code else 'note'}: {problem.message}\n  {problem.hint}")
    if not any(problem.code for problem in problems):
        typer.echo("Training can start.")
