"""A sweep trains what is not complete, resumes what was killed, retries once what failed, and hides nothing."""

from __future__ import annotations

import json
import shutil

import pytest
from sweep_texts import TINY, HereExecutor, write

from ssl_wb.cli.main import run
from ssl_wb.errors import RecipeError, RunFolderError, UsageError
from ssl_wb.sweep.drive import Drive
from ssl_wb.sweep.executor import Job
from ssl_wb.sweep.load import Changes, load_sweep
from ssl_wb.sweep.state import Progress, State, clear_unstarted, progress_of
from ssl_wb.training.loop import Trainer
from ssl_wb.workflows import sweep as workflow
from ssl_wb.workflows.sweep import run_sweep

NAMES = ["masker=random_seed=0", "masker=dwm_seed=0", "masker=random_seed=1", "masker=dwm_seed=1"]


class Killed(BaseException):
    """What no part of the workbench catches."""


def steps_logged(folder, name):
    return [json.loads(line)["step"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep whose process is killed three times, in the middle of runs, and started again with the same call."""
    place = tmp_path_factory.mktemp("sweep")
    file, folder, updates = write(place, TINY.replace("seeds = [0, 1]", "seeds = [0]")), place / "out", []
    original = Trainer.update

    def update(self, loader):
        original(self, loader)
        updates.append((self.folder.path.name, self.step))
        if len(updates) in (3, 6, 10):
            raise Killed

    said, kills = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", update)
        for _ in range(10):
            try:
                result = run_sweep(file, out=folder, cpu=True, executor=HereExecutor(), say=said.append)
                break
            except Killed:
                kills += 1
    assert kills == 3
    return file, folder, result, updates, said


def test_a_sweep_that_is_killed_goes_on_with_the_same_line(trained):
    _, folder, result, updates, said = trained
    assert result.exit_code == 0
    assert {name: one.state for name, one in result.outcomes.items()} == dict.fromkeys(NAMES[:2], "complete")
    for name in NAMES[:2]:
        assert steps_logged(folder, name) == [1, 2, 3, 4, 5, 6]  # none twice
    # Of each kill, the one or two steps since the last checkpoint are done again, and nothing else.
    assert len(updates) <= 2 * 6 + 3 * 2
    assert any("goes on at step 2" in line for line in said)


def test_complete_runs_are_not_touched_again(trained):
    file, folder, _, _, _ = trained
    executor = HereExecutor()
    result = run_sweep(file, out=folder, cpu=True, executor=executor)
    assert executor.started == []
    assert result.exit_code == 0
    assert not any(one.trained for one in result.outcomes.values())


def test_runs_of_other_recipes_are_refused_before_anything_is_trained(trained):
    file, folder, _, _, _ = trained
    executor = HereExecutor()
    with pytest.raises(UsageError, match=r"2 of 2 runs were started with another recipe") as caught:
        run_sweep(file, changes=Changes(settings=("optimizer.lr=0.5",)), out=folder, executor=executor)
    assert "optimizer.lr is 0.002 in the run and 0.5 in the sweep" in str(caught.value)
    assert executor.started == []


def test_results_are_written_as_json_and_markdown(trained):
    _, folder, _, _, _ = trained
    values = json.loads((folder / "results.json").read_text())
    assert set(values["runs"]) == set(NAMES[:2])
    assert values["comparison"] is None  # these runs have no probes
    assert "2 of 2 runs are complete, 0 failed." in (folder / "results.md").read_text()
    assert [one["name"] for one in json.loads((folder / "sweep.json").read_text())["runs"]] == NAMES[:2]


class FakeExecutor:
    """Ends jobs with given exit codes, and completes the run where the code is 0."""

    def __init__(self, complete, codes):
        self.complete, self.codes, self.started, self.waiting = complete, codes, [], []

    def submit(self, job: Job) -> None:
        self.started.append(job.name)
        code = self.codes.get(job.name, [0]).pop(0) if self.codes.get(job.name) else 0
        if code == 0:
            self.complete.add(job.name)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(f"a line\nerror: it broke with {code}\n", encoding="utf-8")
        self.waiting.append((job, code))

    def wait(self, seconds):
        return self.waiting.pop(0) if self.waiting else None

    def stop(self):
        ended, self.waiting = [(job, 75) for job, _ in self.waiting], []
        return ended


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A drive whose runs end as they are told to."""
    complete: set[str] = set()

    def state(path, *, probes):
        return Progress(State.COMPLETE if path.name in complete else State.ABSENT)

    monkeypatch.setattr("ssl_wb.sweep.drive.progress_of", state)
    monkeypatch.setattr("ssl_wb.sweep.drive.POLL", 0.01)

    def make(codes=None, **options):
        executor = FakeExecutor(complete, codes or {})
        cells = load_sweep(write(tmp_path)).cells
        return Drive(cells, tmp_path / "out", executor, say=lambda line: None, **options), executor

    return make


def test_what_failed_is_tried_once_more_after_the_others(drive):
    driven, executor = drive({NAMES[0]: [1]})
    outcomes = driven.run()
    assert executor.started == [*NAMES, NAMES[0]]
    assert {one.state for one in outcomes.values()} == {"complete"}
    assert outcomes[NAMES[0]].attempts == 2


def test_what_fails_twice_does_not_keep_the_others_and_is_told(drive):
    driven, executor = drive({NAMES[1]: [5, 5]})
    outcomes = driven.run()
    assert executor.started.count(NAMES[1]) == 2
    assert [name for name, one in outcomes.items() if one.state == "complete"] == [NAMES[0], *NAMES[2:]]
    failed = outcomes[NAMES[1]]
    assert (failed.state, failed.code) == ("failed", 5)
    assert "it broke with 5" in failed.message
    result = workflow.SweepResult(None, driven.folder, outcomes, None)
    assert result.exit_code == 5


def test_a_run_that_was_asked_to_stop_is_not_a_failure(drive):
    driven, executor = drive({NAMES[0]: [75]})
    outcomes = driven.run()
    assert outcomes[NAMES[0]].state == "stopped"
    assert executor.started.count(NAMES[0]) == 1
    assert workflow.SweepResult(None, driven.folder, outcomes, None).exit_code == 75


def test_when_the_budget_is_used_up_running_ones_are_stopped_and_seeds_are_balanced(drive, monkeypatch):
    clock = iter([0.0, *[0.0] * 6, *[99.0] * 20])
    driven, executor = drive(seconds=10.0)
    monkeypatch.setattr("ssl_wb.sweep.drive.time.monotonic", lambda: next(clock))
    outcomes = driven.run()
    assert executor.started == NAMES[: len(executor.started)]
    assert executor.started
    assert "to do" in {one.state for one in outcomes.values()}
    assert workflow.SweepResult(None, driven.folder, outcomes, None).exit_code == 75


def test_several_workers_start_several_runs(drive):
    driven, executor = drive(workers=3)
    most = 0
    submit = executor.submit

    def counted(job):
        nonlocal most
        submit(job)
        most = max(most, len(executor.waiting))

    executor.submit = counted
    driven.run()
    assert most == 3


def test_a_run_of_another_process_is_waited_for_and_not_trained(drive, monkeypatch, tmp_path):
    driven, executor = drive()
    looks = []

    def state(path, *, probes):
        if path.name == NAMES[0]:
            looks.append(1)
            return Progress(State.RUNNING if len(looks) < 4 else State.COMPLETE)
        return Progress(State.COMPLETE if path.name in executor.complete else State.ABSENT)

    monkeypatch.setattr("ssl_wb.sweep.drive.progress_of", state)
    outcomes = driven.run()
    assert NAMES[0] not in executor.started
    assert {one.state for one in outcomes.values()} == {"complete"}


def test_running_ones_are_stopped_when_the_sweep_is(drive):
    driven, executor = drive()
    executor.wait = lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        driven.run()
    assert driven.outcomes[NAMES[0]].state == "stopped"


def test_what_a_killed_start_left_is_removed_and_nothing_else(tmp_path):
    left = tmp_path / "left"
    (left / "checkpoints").mkdir(parents=True)
    (left / "recipe.toml").touch()
    assert progress_of(left, probes=0).state is State.ABSENT
    clear_unstarted(left)
    assert not left.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"holds 'thesis.tex' and is no run"):
        clear_unstarted(mine)
    assert (mine / "thesis.tex").is_file()


def test_folders_that_hold_something_else_are_refused(tmp_path):
    file, folder = write(tmp_path), tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").touch()
    with pytest.raises(RunFolderError, match=r"holds 'notes.txt' and is no folder of a sweep"):
        run_sweep(file, out=folder, executor=HereExecutor())


def test_data_that_is_not_there_is_told_before_the_first_run(tmp_path):
    text = TINY.replace("[set]", '[set]\n"data.train" = "nowhere"')
    with pytest.raises(RecipeError, match="no such folder or file"):
        run_sweep(write(tmp_path, text), out=tmp_path / "out", executor=HereExecutor())
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="no audio to train on"):
        run_sweep("masking-small", out=tmp_path / "out", executor=HereExecutor())


def test_a_dry_run_shows_every_run_and_trains_nothing(tmp_path, capsys, trained):
    file, folder, _, _, _ = trained
    assert run(["sweep", str(file), "--dry-run", "--cpu", "--out", str(tmp_path / "none")]) == 0
    out = capsys.readouterr().out
    for name in NAMES[:2]:
        assert name in out
    assert "all 2 runs" in out
    assert "measured here by 3 steps" in out
    assert not (tmp_path / "none").exists()
    assert run(["sweep", str(file), "--dry-run", "--cpu", "--json", "--out", str(folder)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in values["runs"]] == ["complete"] * 2
    assert [one["steps"] for one in values["runs"]] == [6] * 2
    assert values["seconds"] == 0.0
    assert all(one["disk_bytes"] > 0 and one["memory_bytes"] > 0 for one in values["runs"])


def test_a_damaged_pointer_is_no_complete_run(trained, tmp_path):
    _, folder, _, _, _ = trained
    copy = tmp_path / NAMES[0]
    shutil.copytree(folder / NAMES[0], copy)
    assert progress_of(copy, probes=0).state is State.COMPLETE
    assert progress_of(copy, probes=1).state is State.STARTED  # without results
    (copy / "results.json").write_text(json.dumps([{"role": "encoder"}, {"role": "baseline"}]))
    assert progress_of(copy, probes=1).state is State.COMPLETE
    assert progress_of(copy, probes=2).state is State.STARTED  # one of the probes failed
    (copy / "checkpoints" / "last").write_text("step-99\n")
    assert progress_of(copy, probes=0).state is State.STARTED


def test_bad_options_of_the_command(tmp_path, capsys):
    assert run(["sweep", str(write(tmp_path)), "--budget", "0"]) == 2
    assert "expected hours above 0" in capsys.readouterr().err
    assert run(["sweep", str(write(tmp_path)), "--workers", "0"]) == 2
    assert run(["sweep", "nothing-like-it"]) == 2
    assert "no file and no shipped sweep" in capsys.readouterr().err
