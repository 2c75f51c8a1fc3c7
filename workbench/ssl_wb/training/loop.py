"""The training loop: data, gradients, update, moving averages, metrics, checkpoints."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ssl_wb.data.dataset import CropDataset, UnreadableClips
from ssl_wb.data.loader import Batch, batches, resolve_workers
from ssl_wb.data.workers import StoppedWaitingError
from ssl_wb.errors import DivergedError, InterruptedRunError, RunFolderError
from ssl_wb.layers.parts import part
from ssl_wb.layers.processes import mean_over_processes
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.pretext.model import PretextModel, PretextOutput
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb.recipe.schema import Recipe
from ssl_wb.runs.checkpoint import find_checkpoint, load_newest, save_checkpoint
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.sharding import whole
from ssl_wb.training.gradient_cache import GradientCache
from ssl_wb.training.health import HealthMonitor
from ssl_wb.training.kernels import prepare_kernels
from ssl_wb.training.loop_state import Probes, StepResult, Window
from ssl_wb.training.optimizer import build_optimizer
from ssl_wb.training.reporting import Reporter
from ssl_wb.training.schedule import learning_rate
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
        folder: RunFolder,
        model: PretextModel,
        front_end: FrontEnd,
        dataset: CropDataset,
        accelerator: Accelerator,
        reporter: Reporter,
        steps: int,
        probes: Probes | None = None,
    ) -> None:
        self.recipe = recipe
        self._optimizer_options = optimizer.options
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
        self.step = 0
        self._window = Window()
        self._kept = 0  # the step of the last checkpoint; of step 0 there is nothing to keep
        self._unreadable: dict[int, str] = {}  # reasons by index
        # On a GPU work is queued, and reading a number waits for the whole queue; on the CPU it is there already.
        self._async_device = accelerator.device.type == "cuda"
        self._results: list[StepResult] = []  # not read yet
        self._waited = 0.0
        self._timed = 0  # steps since the time of the last logged line; not in a checkpoint, unlike the window
        self._since = time.perf_counter()
        self._signal = StopSignal(accelerator.device, accelerator.num_processes)

    def resume(self) -> None:
        """Load the last checkpoint that is sound; start from the beginning when there is none yet."""
        state = load_newest(self.folder.checkpoints, model=self.plain_model, optimizer=self.optimizer.optimizer)
        if state is not None:
            if state["data"] != self._data():
                raise RunFolderError(
                    f"{self.folder.path}: the data changed since the run began: {state['data']['clips']} clips then, "
                    f"{len(self.dataset)} now",
                    hint="restore the data, or start another run: the order of clips and the schedules depend on it",
                )
            self.step = self._kept = state["step"]
            self.monitor.counts = state["health_counts"]
            self._unreadable = {int(index): reason for index, reason in state.get("unreadable", {}).items()}
            self._window = Window(**state["window"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.is_main_process:
            self.folder.cut_metrics(self.step)

    def _data(self) -> dict[str, int]:
        """What the order of clips and every schedule depend on."""
        return {"clips": len(self.dataset), "steps": self.steps}

    def fit(self) -> None:
        """Train to the last step.

        Raises:
            DivergedError: the loss is no longer finite; the last checkpoint is from before.
            InterruptedRunError: SIGTERM came; a checkpoint was written.
            KeyboardInterrupt: Ctrl-C came; a checkpoint was written.
        """
        train = self.recipe.train
        every = max(1, steps_of(train.checkpoint_every, self.steps))
        loader = batches(
            self.dataset,
            seed=self.recipe.seed,
            first_sample=self.step * train.batch_size,
            global_batch=train.batch_size,
            steps=self.steps - self.step,
            accumulate=self.passes,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            workers=resolve_workers(self.recipe.data.workers),
            unreadable=UnreadableClips(self.dataset.clips.source, self._unreadable),
            stop=lambda: self._signal.number is not None,
        )
        self.model.train()
        self.reporter.start(self.step, self.steps)
        self._since = time.perf_counter()
        try:
            with self._signal.caught():
                if self.step == 0 and self._probe_due():
                    self._probe()  # the untrained encoder is the first point of the curve
                while self.step < self.steps:
                    self.update(loader)
                    self.reporter.advance(self.step)
                    stop = self._signal.asked()
                    due = self.step % every == 0 or self.step == self.steps
                    if stop or due or self._probe_due():
                        self._checkpoint(due=due)
                    if stop:
                        self._leave()
        except StoppedWaitingError:  # in the middle of a step, of which nothing is kept
            if self.passes == self.accelerator.num_processes == 1 and self.step != self._kept:
                self._checkpoint(due=False)
            self._leave()
        finally:
            loader.close()  # ends its workers, also where the traceback of an error keeps it
            self.reporter.close()

    def update(self, loader: Iterator[Batch]) -> None:
        """Do one optimiser step and, when due, log it."""
        train = self.recipe.train
        done = self.step + 1
        logged = done % train.log_every == 0 or done == self.steps or done == 1
        rate = learning_rate(self._optimizer_options, train, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        outputs = self._backward_all(loader, measure=logged)
        with part("clipping"):
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), train.grad_clip)
        if not self._async_device:
            self._check_norm(norm, self.step)
        with part("optimiser"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.step = done
        if not self.optimizer.step_was_skipped:  # fp16: the averages of weights that did not move would
            self.plain_model.after_step(done)
        loss = torch.stack([output.loss.detach() for output in outputs]).mean()
        self._results.append(StepResult(done, mean_over_processes(loss), norm))
        self._timed += 1
        if logged or not self._async_device:  # otherwise the GPU would idle while the host waits for the loss
            self._read_results()
        if logged:
            metrics: dict[str, list[Tensor | float]] = {}
            for output in outputs:
                for name, value in output.metrics.items():
                    metrics.setdefault(name, []).append(value)
            figures = {name: float(sum(values) / len(values)) for name, values in metrics.items()}
            self._log(figures, rate, float(norm))

    def _next(self, loader: Iterator[Batch]) -> Batch:
        """Wait for the next micro-batch and note how long it took."""
        began = time.perf_counter()
        with part("data"):
            batch = next(loader)
        self._waited += time.perf_counter() - began
        return batch

    def _backward_all(self, loader: Iterator[Batch], measure: bool) -> list[PretextOutput]:
        """Forward and backward of all micro-batches of a step, with one loss for each or one for all of them."""
        if self._cache is not None:
            batches = [self._next(loader) for _ in range(self.passes)]
            return [self._cache.backward(batches, step=self.step, measure=measure)]
        outputs = []
        for number in range(self.passes):
            last = number + 1 == self.passes
            outputs.append(
                self.training_step(
                    self._next(loader), step=self.step, measure=measure and last, passes=self.passes, last=last
                )
            )
        return outputs

    def _read_results(self) -> None:
        """Add the losses of the steps since the last call to the sums; stop at one that is not finite."""
        for result in self._results:
            self._check_norm(result.norm, result.step - 1)
            value = float(result.loss)
            self._check_finite("loss", value, result.step)
            self._window.loss += value
            self._window.steps += 1
            self._window.checkpoint_loss += value
            self._window.checkpoint_steps += 1
        self._results.clear()

    def _check_norm(self, norm: Tensor, step: int) -> None:
        """Stop at a gradient that is not finite; in fp16 the gradient scaler skips such a step and lowers its scale."""
        if self.accelerator.scaler is None:
            self._check_finite("gradient norm", float(norm), step)

    def _check_finite(self, what: str, value: float, step: int) -> None:
        """Stop before a value that is not finite reaches a checkpoint, and on the CPU before it reaches the weights.

        Raises:
            DivergedError: it is not finite.
        """
        if math.isfinite(value):
            return
        checkpoint = find_checkpoint(self.folder.checkpoints)
        kept = f"the last checkpoint is {checkpoint}" if checkpoint else "there was no checkpoint yet"
        raise DivergedError(
            f"{self.folder.path}: the {what} is {value} at step {step}; {kept}",
            hint="lower optimizer.lr, lengthen train.warmup, or set train.precision = 'fp32'",
        )

    def _log(self, figures: dict[str, float], rate: float, norm: float) -> None:
        """Write a line of metrics and check the health rules."""
        seconds = time.perf_counter() - self._since
        batch_size = self.recipe.train.batch_size
        row: dict[str, Any] = {
            "step": self.step,
            "samples_seen": self.step * batch_size,
            "loss": self._window.loss / self._window.steps,
            "learning_rate": rate,
            "gradient_norm": norm,
            **figures,
        }
        warnings = self.monitor.check(figures, self.step, self.steps)
        row["health"] = {"ailing": self.monitor.ailing(), "warnings": warnings}
        row["clips_per_second"] = self._timed * batch_size / max(seconds, 1e-9)
        row["data_wait_share"] = min(1.0, self._waited / max(seconds, 1e-9))
        if self.accelerator.is_main_process:
            self.folder.append_metrics(row)
            self.accelerator.log({k: v for k, v in row.items() if isinstance(v, float)}, step=self.step)
        self.reporter.measured(self.step, {k: v for k, v in row.items() if isinstance(v, float)})
        for warning in warnings:
            self.reporter.say(f"step {self.step}: {warning}")
        self._window.loss, self._window.steps = 0.0, 0
        self._waited, self._timed, self._since = 0.0, 0, time.perf_counter()

    def _checkpoint(self, *, due: bool) -> None:
        """Write a checkpoint; the best is the one of the best probe so far.

        Without probes a scheduled checkpoint is the best when the mean loss since the last scheduled one is the lowest
        so far. A checkpoint that only a signal or a probe caused leaves these sums open, so that the resumed run
        continues as if it had not stopped.
        """
        self._read_results()
        window, best = self._window, False
        if due:
            mean = window.checkpoint_loss / window.checkpoint_steps
            best = mean < window.best_loss and self._probes is None
            window.best_loss = min(mean, window.best_loss)
            window.checkpoint_loss, window.checkpoint_steps = 0.0, 0
        if self._probe_due():
            best = self._probe()
        if self._unreadable and self.accelerator.is_main_process:
            self.folder.write_json(self.folder.unreadable, list(self._unreadable.values()))
        # Under FSDP every process calls it: all contribute their shards, and the main process writes.
        if self.accelerator.is_main_process or self.recipe.train.strategy == "fsdp":
            save_checkpoint(
                self.folder.checkpoints,
                model=self.plain_model,
                optimizer=self.optimizer.optimizer,
                state={
                    "step": self.step,
                    "samples_seen": self.step * self.recipe.train.batch_size,
                    "data": self._data(),
                    "health_counts": self.monitor.counts,
                    "window": vars(window),
                    "unreadable": self._unreadable,
                    "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
                },
                best=best,
                keep=self.recipe.train.keep_checkpoints,
                write=self.accelerator.is_main_process,
            )
        self._kept = self.step
        self.accelerator.wait_for_everyone()

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
        self._since += time.perf_counter() - began  # probing does not count as training time
        return best

    def _leave(self) -> None:
        """End early, after a checkpoint.

        Raises:
            KeyboardInterrupt: Ctrl-C asked for it.
            InterruptedRunError: SIGTERM, or a signal to another process, asked for it.
        """
        command = f"ssl-wb train '{self.folder.recipe}' --resume --out '{self.folder.path}'"
        if self._signal.number == signal.SIGINT:
            self.reporter.say(f"interrupted at step {self.step} of {self.steps}; to go on: {command}")
            raise KeyboardInterrupt
        raise InterruptedRunError(
            f"{self.folder.path}: stopped at step {self.step} of {self.steps}", hint=f"to go on: {command}"
        )
