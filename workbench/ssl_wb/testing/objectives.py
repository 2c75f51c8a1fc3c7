"""The checks of an objective."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ssl_wb.plugin.contract_checks import check_gradients, check_needs, check_output, refuse
from ssl_wb.plugin.objective import ModelShapes, Objective, ObjectiveOutput, StepState
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.devices import CUDA, on_cuda, to_cuda
from ssl_wb.testing.options_checks import common_checks
from ssl_wb.testing.steps import ROWS, SHAPES, rows_of, step_state

__all__ = ["CHECKS", "check_objective"]

#: What two computations of one loss may differ by, relative to it.
TOLERANCE = 1e-4

CHECKS: Checks[_Objective] = Checks("objective", common_checks())


@dataclass(frozen=True)
class _Objective(Subject[Objective]):
    """An objective under test, and the sizes of its model where the caller gives them."""

    given: ModelShapes | None = None

    @cached_property
    def shapes(self) -> ModelShapes:
        """Sizes that it accepts: a teacher that sees the masked patches, or else one that sees all."""
        if self.given is not None:
            return self.given
        try:
            self.build(SHAPES)
        except ValueError:
            return replace(SHAPES, teacher_sees="all")
        return SHAPES

    def objective(self) -> Objective:
        """Build it, in training."""
        return self.build(self.shapes).train()

    def state(self, objective: Objective, **changes: Any) -> StepState:
        """Return a step with what the objective needs, and nothing else."""
        return step_state(self.shapes, objective.needs, **changes)


def check_objective(
    plugin: type[Objective],
    options: Mapping[str, Any] | None = None,
    *,
    shapes: ModelShapes | None = None,
    skip: Collection[str] = (),
) -> None:
    """Hold an objective to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        shapes: sizes of the model; small ones with two views unless given.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Objective(plugin, options or {}, shapes), skip)


def _student(state: StepState) -> dict[str, Tensor]:
    """Return what the student computed of the first view, by name."""
    view = state.views[0]
    parts = {"latents": view.latents, "pooled": view.pooled, "features": view.features, "prediction": view.prediction}
    return {name: part for name, part in parts.items() if part is not None}


def _loss(objective: Objective, state: StepState) -> float:
    torch.manual_seed(0)
    return float(check_output(objective, state, objective(state)).loss.detach())


def _far(first: float, second: float) -> bool:
    return not abs(first - second) <= TOLERANCE * max(1.0, abs(first))


@CHECKS
def needs(subject: _Objective) -> None:
    """It names its needs among those that the model knows, and reads nothing of the step that it did not name."""
    objective = subject.objective()
    check_needs(objective)
    try:
        objective(subject.state(objective))
    except (AttributeError, TypeError, IndexError) as error:
        if "NoneType" not in str(error) and not isinstance(error, IndexError):
            raise
        refuse(objective, "name in `needs` all that it reads of the step", f"{type(error).__name__}: {error}")


@CHECKS
def output(subject: _Objective) -> None:
    """It returns an ObjectiveOutput: a float32 scalar as loss, scalar metrics, and a prediction [B, Nm, D] per view
    where it ``provides`` one, and only there.
    """
    objective = subject.objective()
    state = subject.state(objective, step=0)
    made = check_output(objective, state, objective(state))
    if made.loss.dtype != torch.float32:
        refuse(objective, "return a float32 scalar as loss", str(made.loss.dtype).removeprefix("torch."))
    if (made.prediction is not None) != ("prediction" in objective.provides):
        said = "has it in `provides`" if made.prediction is None else "does not name it in `provides`"
        refuse(objective, "return a prediction just where `provides` names it", f"it {said}")


@CHECKS
def gradients(subject: _Objective) -> None:
    """The gradient of its loss reaches each of its trained parameters, and what the student computed."""
    objective = subject.objective()
    state = subject.state(objective)
    objective(state).loss.backward()
    check_gradients(objective)
    reached = [name for name, part in _student(state).items() if part.grad is not None and bool(part.grad.any())]
    if not reached:
        refuse(objective, "pass a gradient to what the student computed", f"none to {', '.join(_student(state))}")


@CHECKS
def detached(subject: _Objective) -> None:
    """Metrics have no gradient: they would keep the whole step in memory."""
    objective = subject.objective()
    state = subject.state(objective, measure=True)
    for name, value in objective(state).metrics.items():
        if isinstance(value, Tensor) and value.requires_grad:
            refuse(objective, "detach its metrics", f"{name!r} with a gradient")


@CHECKS
def finite(subject: _Objective) -> None:
    """Loss, metrics and gradients are finite for noise, for silence and where everything is 0."""
    for sound in ("noise", "silence", "zero"):
        objective = subject.objective()
        state = subject.state(objective, sound=sound, measure=True)
        made = objective(state)
        made.loss.backward()
        figures: dict[str, Any] = {"the loss": made.loss, **made.metrics}
        figures |= {f"the gradient of {name}": part.grad for name, part in _student(state).items()}
        figures |= {f"the gradient of {name}": each.grad for name, each in objective.named_parameters()}
        for name, value in figures.items():
            if value is not None and not bool(torch.as_tensor(value).isfinite().all()):
                refuse(objective, f"be finite: for {sound}", f"{name} is not")


@CHECKS
def one_clip(subject: _Objective) -> None:
    """It works on a batch of one clip, unless it ``contrasts`` clips."""
    objective = subject.objective()
    if not objective.contrasts:
        state = subject.state(objective, rows=1, measure=True)
        check_output(objective, state, objective(state))


@CHECKS
def autocast(subject: _Objective) -> None:
    """Under bf16 autocast its loss is a finite float32 scalar: it computes losses in full precision."""
    objective = subject.objective()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(subject.state(objective)).loss
    if loss.dtype != torch.float32:
        seen = str(loss.dtype).removeprefix("torch.")
        refuse(objective, "compute its loss in float32 under autocast, .float() before it", seen)
    if not bool(loss.isfinite()):
        refuse(objective, "return a finite loss under bf16 autocast", f"{float(loss.detach())}")


@CHECKS
def repeatable(subject: _Objective) -> None:
    """``forward`` changes nothing that a loss depends on: it runs several times in a step with micro-batches."""
    objective = subject.objective()
    state = subject.state(objective)
    first, second = _loss(objective, state), _loss(objective, state)
    if _far(first, second):
        refuse(
            objective, "leave what losses depend on to after_step", f"losses {first:.6g} and {second:.6g} of one step"
        )


@CHECKS
def clip_order(subject: _Objective) -> None:
    """The loss is a mean over clips: their order does not matter."""
    objective = subject.objective()
    state = subject.state(objective)
    first, second = _loss(objective, state), _loss(objective, rows_of(state, torch.arange(ROWS).flip(0)))
    if _far(first, second):
        refuse(
            objective, "return the mean over clips", f"losses {first:.6g} and {second:.6g} in another order of clips"
        )


@CHECKS
def batch_split(subject: _Objective) -> None:
    """The loss of a batch is the mean of the losses of its halves, unless it ``contrasts`` clips."""
    objective = subject.objective()
    if objective.contrasts:
        return
    state = subject.state(objective)
    whole = _loss(objective, state)
    halves = [_loss(objective, rows_of(state, rows)) for rows in torch.arange(ROWS).chunk(2)]
    if _far(whole, sum(halves) / 2):
        seen = f"{whole:.6g}, and {sum(halves) / 2:.6g} as the mean of both halves"
        refuse(objective, "return the mean over clips and patches, or set `contrasts`", seen)


@CHECKS
def saved(subject: _Objective) -> None:
    """All its state is in ``state_dict``: one that is loaded from a checkpoint continues with the same losses."""
    objective, total = subject.objective(), subject.shapes.total_steps
    for step in (1, 2):
        objective(subject.state(objective, seed=step, step=step - 1)).loss.backward()
        with torch.no_grad():
            for weight in objective.parameters():
                weight.sub_(0.01 * weight.grad if weight.grad is not None else 0.0)
        objective.zero_grad()
        objective.after_step(step, total)
    again = subject.objective()
    again.load_state_dict(objective.state_dict())
    state = subject.state(objective, seed=9)
    first, second = _loss(objective, state), _loss(again, state)
    if _far(first, second):
        contract = "keep what changes in parameters and buffers (register_buffer), which checkpoints hold"
        refuse(objective, contract, f"losses {first:.6g} before and {second:.6g} after loading")


@CHECKS
def health(subject: _Objective) -> None:
    """Each of its health rules reads a metric that measured steps have."""
    objective = subject.objective()
    metrics = objective(subject.state(objective, measure=True)).metrics
    for rule in objective.health_rules():
        if rule.metric not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            refuse(
                objective,
                "return the metric of each health rule where state.measure is set",
                f"{rule.metric!r}; {known}",
            )


@CHECKS
def patch_figures(subject: _Objective) -> None:
    """``uncertainty`` returns float32 [B, Nm], ``assignments`` probabilities [B, N, K], or they return None."""
    objective = subject.objective().eval()
    state = subject.state(objective)
    view, shapes = state.views[0], subject.shapes
    uncertain = objective.uncertainty(view)
    if uncertain is not None and (uncertain.shape, uncertain.dtype) != (view.mask.masked.shape, torch.float32):
        seen = f"{uncertain.dtype} {list(uncertain.shape)}"
        refuse(objective, f"return float32 [B, Nm] = {list(view.mask.masked.shape)} from uncertainty", seen)
    latents = torch.randn(ROWS, shapes.grid.cells, shapes.latent_dim)  # [B, N, D]
    assigned = objective.assignments(latents)
    if assigned is not None:
        sums = assigned.sum(dim=-1)
        if assigned.shape[:2] != latents.shape[:2] or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            seen = f"{list(assigned.shape)}, rows that sum to {float(sums.min()):.3g} at least"
            refuse(objective, "return probabilities [B, N, K] from assignments", seen)


@CHECKS
def meta(subject: _Objective) -> None:
    """It can be built and run on torch's meta device, where ``validate`` computes sizes."""
    with torch.device("meta"):
        objective = subject.objective()
        state = subject.state(objective, device="meta")
        loss = objective(state).loss
    if loss.device.type != "meta":
        refuse(objective, "compute on the device of what it is given", f"a loss on {loss.device.type}")


@CHECKS
def device(subject: _Objective) -> None:
    """It works on a GPU: what it keeps moves with it, and new tensors are on the device of its inputs."""
    objective = subject.objective()
    to_cuda(objective)
    with on_cuda():
        state = subject.state(objective, device=CUDA)
        with torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()):
            made: ObjectiveOutput = objective(state)
            latents = torch.zeros(ROWS, subject.shapes.grid.cells, subject.shapes.latent_dim, device=CUDA)
            others = [objective.uncertainty(state.views[0]), objective.assignments(latents)]
        objective.after_step(1, subject.shapes.total_steps)
        for part in (made.loss, *(made.prediction or ()), *others):
            if part is not None and part.device.type != "cuda":
                refuse(objective, "compute on the device of what it is given", f"a result on {part.device.type}")
