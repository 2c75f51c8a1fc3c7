"""The training loop: data, gradients, update, moving averages, metrics, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import torch
from accelerate import Accelerator

from ssl_wb.data.dataset import CropDataset, UnreadableClips, UnreadableDataError
from ssl_wb.data.loader import Batch, batches, resolve_workers
from ssl_wb.data.workers import StoppedWaitingError
from ssl_wb.errors import RunFolderError
from ssl_wb.layers.parts import part
from ssl_wb.layers.processes import gather_objects, mean_over_processes
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.pretext.model import PretextModel, PretextOutput
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb.recipe.schema import Recipe
from ssl_wb.runs.checkpoint import load_newest, save_checkpoint
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.sharding import whole
from ssl_wb.training.extension import Extension
from ssl_wb.training.gradient_cache import GradientCache
from ssl_wb.training.guard import LOWERED, StepGuard, first_not_finite
from ssl_wb.training.health import HealthMonitor
from ssl_wb.training.kernels import prepare_kernels
from ssl_wb.training.loop_state import Probes, Window
from ssl_wb.training.metrics_log import MetricsLog
from ssl_wb.training.optimizer import build_optimizer
from ssl_wb.training.reporting import Reporter
from ssl_wb.training.schedule import LearningRate
from ssl_wb.training.signals import StopSignal
from ssl_wb.training.step import TrainingStep

__all__ = ["Trainer"]


class Trainer:
    """Trains a pretext model in a run folder.

    Every number of a run follows from (recipe, data, number of processes): order and crops from (seed, samples seen),
    masks from (seed, step). So a resumed run continues as if it had not stopped.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        optimizer: PluginSelection[Optimiser],
        learning_rate: LearningRate,
        folder: RunFolder,
        model: PretextModel,
        front_end: FrontEnd,
        dataset: CropDataset,
        accelerator: Accelerator,
        reporter: Reporter,
        steps: int,
        probes: Probes | None = None,
        until: float | None = None,
        strict: bool = False,
    ) -> None:
        self.recipe = recipe
        self._learning_rate = learning_rate
        self.folder = folder
        self.accelerator = accelerator
        self.reporter = reporter
        self.dataset = dataset
        self.steps = steps
        self._probes = probes
        prepare_kernels(model, recipe.train, accelerator.device, accelerator.mixed_precision)
        self.model, self.optimizer = accelerator.prepare(model, build_optimizer(optimizer, model))
        self.plain_model: PretextModel = accelerator.unwrap_model(self.model)
        self.passes = recipe.train.passes(accelerator.num_processes)
        front_end = front_end.to(accelerator.device)
        self.training_step = TrainingStep(self.model, accelerator, front_end, recipe.train.batch_size)
        self._cache: GradientCache | None = None
        if recipe.train.micro_batch is not None and self.passes > 1:
            self._cache = GradientCache(self.plain_model, self.training_step)
        self.monitor = HealthMonitor(self.plain_model.health_rules())
        self._extension = Extension.read(folder.extended)
        self.step = 0
        self._window = Window()
        self._kept = 0  # the step of the last checkpoint; of step 0 there is nothing to keep
        self._unreadable = UnreadableClips(
            getattr(dataset, "clips", None),
            max_bad=0.0 if strict else recipe.data.max_bad,
            speaks=accelerator.is_main_process,
        )
        self._guard = StepGuard(self.plain_model, recipe, folder, dataset, reporter, write=accelerator.is_main_process)
        self._log = MetricsLog(folder, accelerator, reporter, self.monitor, recipe.train.batch_size, steps)
        self._signal = StopSignal(accelerator.device, accelerator.num_processes, until)

    def resume(self) -> None:
        """Load the last checkpoint that is sound; start from the beginning when there is none yet.

        Raises:
            RunFolderError: the data changed, no checkpoint is sound, or not all processes read the same one.
        """
        state = load_newest(self.folder.checkpoints, model=self.plain_model, optimizer=self.optimizer.optimizer)
        if state is not None:
            extends = self._extension is not None and self._extension.begins(state["data"], len(self.dataset))
            if state["data"] != self._data() and not extends:
                raise RunFolderError(
                    f"{self.folder.path}: the data changed since the run began: {state['data']['clips']} clips then, "
                    f"{len(self.dataset)} now",
                    hint="restore the data, or start another run: the order of clips and the schedules depend on it",
                )
            self._restore(state)
        if len(set(gather_objects(self.step))) > 1:
            raise RunFolderError(
                f"{self.folder.path}: the processes read different checkpoints; this one that of step {self.step}",
                hint="do all machines see the same folder? Resume again when they do",
            )
        if self.accelerator.is_main_process:
            # Without a checkpoint the scores of the untrained encoder are written anew, too.
            self.folder.cut_metrics(self.step if state is not None else -1)

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over the plain values of a checkpoint; those that version 0.1 did not write may be missing."""
        self.step = self._kept = state["step"]
        self.monitor.counts = state["health_counts"]
        self._unreadable.clips = {int(index): reason for index, reason in state.get("unreadable", {}).items()}
        self._window = Window(**state["window"])
        self._guard.row, self._guard.lowered = state.get("skipped_in_a_row", 0), state.get("lowered", False)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _data(self) -> dict[str, int]:
        """What the order of clips and every schedule depend on."""
        return {"clips": len(self.dataset), "steps": self.steps}

    def fit(self) -> None:
        """Train to the last step.

        Raises:
            DivergedError: losses or gradients are no longer finite, with a lower learning rate neither.
            UnreadableDataError: too many clips cannot be read.
            InterruptedRunError: SIGTERM or SIGUSR1 came, or the time is up; a checkpoint was written.
            KeyboardInterrupt: Ctrl-C came; a checkpoint was written. At a second one there was no time for it.
        """
        self.model.train()
        self.reporter.start(self.step, self.steps)
        self._log.restart()
        try:
            with self._signal.caught():
                if self.step == 0 and self._probe_due():
                    self._probe()  # the untrained encoder is the first point of the curve
                while self.step < self.steps:
                    with closing(self._loader()) as loader:  # closing ends its workers, also after an error
                        self._train_until_back(loader)
        except StoppedWaitingError:  # in the middle of a step, of which nothing is kept
            if self.passes == self.accelerator.num_processes == 1 and self.step != self._kept:
                self._checkpoint(due=False)
            self._signal.leave(self.folder, self.step, self.steps, self.reporter)
        except UnreadableDataError:
            self._write_unreadable()
            raise
        finally:
            self.reporter.close()

    def _loader(self) -> Generator[Batch, None, None]:
        """Load the clips of the steps that are left."""
        train = self.recipe.train
        return batches(
            self.dataset,
            seed=self.recipe.seed,
            first_sample=self.step * train.batch_size,
            global_batch=train.batch_size,
            steps=self.steps - self.step,
            accumulate=self.passes,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            workers=resolve_workers(self.recipe.data.workers),
            unreadable=self._unreadable,
            stop=lambda: self._signal.wanted,
        )

    def _train_until_back(self, loader: Iterator[Batch]) -> None:
        """Train to the last step, or until the run goes back to an older checkpoint."""
        every = max(1, steps_of(self.recipe.train.checkpoint_every, self.steps))
        while self.step < self.steps:
            self.update(loader)
            if self._guard.exhausted:
                self._go_back()
                return
            self.reporter.advance(self.step)
            stop, unreadable = self._signal.asked(news=bool(self._unreadable.fresh))
            if unreadable:
                self._unreadable.share(self.step * self.recipe.train.batch_size)
            due = self.step % every == 0 or self.step == self.steps
            if stop or due or self._probe_due():
                self._checkpoint(due=due)
            if stop:
                self._signal.leave(self.folder, self.step, self.steps, self.reporter)

    def update(self, loader: Iterator[Batch]) -> None:
        """Do one optimiser step and, when due, log it.

        Nothing moves in a step whose loss or gradient is not finite; all processes see the same numbers and decide
        alike. The host waits for these two numbers, as it does for the gradient scaler of fp16.
        """
        train = self.recipe.train
        done = self.step + 1
        logged = done % train.log_every == 0 or done == self.steps or done == 1
        rate = self._learning_rate(self.step, self.steps)
        if self._extension is not None:
            rate = self._extension.learning_rate(self._learning_rate, train, self.step)
        rate *= LOWERED if self._guard.lowered else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._guard.begin()
        outputs = self._backward_all(loader, measure=logged)
        with part("clipping"):
            norm = whole(self.accelerator.clip_grad_norm_(self.model.parameters(), train.grad_clip))
        means = torch.stack([output.loss.detach() for output in outputs]).mean()
        both = torch.stack([means, norm.detach().to(means)])
        loss, norm_of_all = mean_over_processes(both).tolist()  # not finite if that of one process is not
        fault = first_not_finite(loss, norm_of_all if self.accelerator.scaler is None else None)
        with part("optimiser"):
            if fault is None or self.accelerator.scaler is not None:  # the scaler skips the step itself and is lowered
                self.optimizer.step()
            self.optimizer.zero_grad()
        self.step = done
        self._log.step_done()
        if fault is not None or self.optimizer.step_was_skipped:
            self._guard.undo()
        else:
            self.plain_model.after_step(done)
        if fault is not None:
            self._guard.skip(done, *fault, loss=loss, norm=norm_of_all)
            if done == self.steps == self._guard.row:  # none was taken
                raise self._guard.diverged()
            return
        self._guard.row = 0
        self._window.add(loss)
        if logged:
            self._log.write(done, outputs, self._window, rate=rate, norm=float(norm))

    def _go_back(self) -> None:
        """Go back to the last checkpoint from before the skipped steps, with a lower learning rate; once.

        Raises:
            DivergedError: that was done before, or there is none.
        """
        state = None
        if not self._guard.lowered:
            state = load_newest(
                self.folder.checkpoints,
                model=self.plain_model,
                optimizer=self.optimizer.optimizer,
                accept=lambda state: not state.get("skipped_in_a_row", 0),
            )
        if state is None:
            raise self._guard.diverged()
        back = f"back to step {state['step']}, from there on with {LOWERED:g} times the learning rate"
        self.reporter.say(f"{self._guard.fault}, {self._guard.row} in a row: {back}")
        self._restore(state)
        self._guard.lowered = True
        self.accelerator.wait_for_everyone()  # all have read it before one writes again
        if self.accelerator.is_main_process:
            self.folder.cut_metrics(self.step)

    def _backward_all(self, loader: Iterator[Batch], measure: bool) -> list[PretextOutput]:
        """Forward and backward of all micro-batches of a step, with one loss for each or one for all of them."""
        if self._cache is not None:
            batches = [self._log.next_of(loader) for _ in range(self.passes)]
            return [self._cache.backward(batches, step=self.step, measure=measure)]
        outputs = []
        for number in range(self.passes):
            last = number + 1 == self.passes
            outputs.append(
                self.training_step(
                    self._log.next_of(loader), step=self.step, measure=measure and last, passes=self.passes, last=last
                )
            )
        return outputs

    def _checkpoint(self, *, due: bool) -> None:
        """Write a checkpoint; the best is the one of the best probe so far.

        Without probes a scheduled checkpoint is the best when the mean loss since the last scheduled one is the lowest
        so far. A checkpoint that only a signal or a probe caused leaves these sums open, so that the resumed run
        continues as if it had not stopped.
        """
        best = due and self._window.lowest_of_checkpoints() and self._probes is None
        if self._probe_due():
            best = self._probe()
        self._write_unreadable()
        # Under FSDP every process calls it: all contribute their shards, and the main process writes.
        if self.accelerator.is_main_process or self.recipe.train.strategy == "fsdp":
            save_checkpoint(
                self.folder.checkpoints,
                model=self.plain_model,
                optimizer=self.optimizer.optimizer,
                state=self._state(),
                best=best,
                # The last one from before skipped steps stays: the run may go back to it.
                keep=self.recipe.train.keep_checkpoints + self._guard.row,
                write=self.accelerator.is_main_process,
            )
        self._kept = self.step
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        """Return the plain values of a checkpoint."""
        return {
            "step": self.step,
            "samples_seen": self.step * self.recipe.train.batch_size,
            "data": self._data(),
            "health_counts": self.monitor.counts,
            "window": vars(self._window),
            "unreadable": self._unreadable.clips,
            "skipped_in_a_row": self._guard.row,
            "lowered": self._guard.lowered,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
        }

    def _write_unreadable(self) -> None:
        """List the clips that could not be read in ``unreadable.json``."""
        if self._unreadable.clips and self.accelerator.is_main_process:
            self.folder.write_json(self.folder.unreadable, list(self._unreadable.clips.values()))

    def _probe_due(self) -> bool:
        return self._probes is not None and self._probes.due(self.step)

    def _probe(self) -> bool:
        """Score the encoder on the main process and return whether it is the best so far."""
        began = time.perf_counter()
        backbone = self.plain_model.backbone.state_dict()
        weights = {name: whole(value.detach()) for name, value in backbone.items()}  # FSDP: collective
        best = False
        if self._probes is not None and self.accelerator.is_main_process:
            figures, selection_score = self._probes(weights, self.step)
            best = self.step > 0 and selection_score is not None and selection_score > self._window.best_probe
            if best and selection_score is not None:
                self._window.best_probe = selection_score
            seen = self.step * self.recipe.train.batch_size
            self.folder.append_metrics({"step": self.step, "samples_seen": seen, "probe": figures, "best": best})
            self.accelerator.log({f"probe/{name}": value for name, value in figures.items()}, step=self.step)
            self.reporter.probed(self.step, figures, best=best)
        self._log.leave_out(time.perf_counter() - began)
        return best
