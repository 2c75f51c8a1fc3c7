"""What a plugin returned, against its contract: one message that names the plugin, the contract and what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, get_args

import torch
from torch import Tensor

from ssl_wb.errors import PluginError, did_you_mean
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.base import Plugin
from ssl_wb.plugin.masker import Mask, Masker, MaskRequest
from ssl_wb.plugin.objective import Need, Objective, ObjectiveOutput, StepState
from ssl_wb.plugin.registry import loaded_registry
from ssl_wb.plugin.schedule import Schedule

__all__ = [
    "ContractError",
    "check_gradients",
    "check_masks",
    "check_needs",
    "check_output",
    "check_share",
    "check_tokens",
    "described_plugin",
    "reads_values",
    "refuse",
]

#: Page and heading of the documentation that list what is checked at run time.
RUN_TIME = ("Write a plugin", "What is checked while it runs")


class ContractError(PluginError):
    """A plugin breaks its contract.

    Attributes:
        plugin: kind, name, distribution and version of the plugin.
        contract: what the contract says, as the end of "must".
        seen: what was seen instead.
        page: of the documentation, that has it.
        heading: where on that page.
        check: name of the check of :mod:`ssl_wb.testing` that found it; empty at run time.
    """

    def __init__(
        self, plugin: str, contract: str, seen: str, place: tuple[str, str] = RUN_TIME, *, check: str = ""
    ) -> None:
        self.plugin, self.contract, self.seen, self.check = plugin, contract, seen, check
        self.page, self.heading = place
        super().__init__(
            f"{plugin} must {contract}; seen: {seen}" + (f" (check {check!r})" if check else ""),
            hint="This is a defect of that plugin: tell its author. "
            f"The page {self.page!r} has the contract, under {self.heading!r}.",
        )


def described_plugin(plugin: Plugin | type[Plugin]) -> str:
    """Return kind, name, distribution and version of a plugin, as far as they are known."""
    registry, own = loaded_registry(), plugin if isinstance(plugin, type) else type(plugin)
    name = f"{own.kind} {getattr(own, 'name', own.__name__)!r}"
    for record in registry.records if registry is not None else ():
        if record.plugin is own:
            return f"{name} of {record.distribution} {record.version}".rstrip()
    return f"{name} ({own.__module__}.{own.__qualname__})"


def refuse(plugin: Plugin | type[Plugin], contract: str, seen: str) -> NoReturn:
    """Stop because a plugin breaks its contract.

    Args:
        plugin: the plugin.
        contract: what the contract says, as the end of "must".
        seen: what was seen instead.

    Raises:
        ContractError: always.
    """
    raise ContractError(described_plugin(plugin), contract, seen)


def reads_values(device: torch.device, step: int) -> bool:
    """Whether values are checked in a step: on the CPU always; a GPU would have to be waited for, so in the first."""
    return device.type == "cpu" or (step == 0 and device.type != "meta")


def _shown(value: object) -> str:
    """Describe a value in a few words."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device.type}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}" + (f" {type(value[0]).__name__}" if value else "")
    return type(value).__name__


def check_masks(masker: Masker, request: MaskRequest, masks: object, *, values: bool) -> tuple[Mask, ...]:
    """Check what a masker returned.

    Args:
        masker: the masker.
        request: what it was asked.
        masks: what it returned.
        values: read the indices too, for which the host waits for a GPU.

    Raises:
        PluginError: they are not one :class:`Mask` per view that divides the patches.
    """
    if not isinstance(masks, tuple) or not all(isinstance(mask, Mask) for mask in masks):
        refuse(masker, "return a tuple of Mask, one for each view", _shown(masks))
    if len(masks) != masker.views:
        refuse(masker, f"return as many masks as its attribute `views`, {masker.views}", f"{len(masks)} masks")
    rows, cells = request.patches.shape[:2]
    for mask in masks:
        for name, indices in (("visible", mask.visible), ("masked", mask.masked)):
            if not isinstance(indices, Tensor) or indices.dtype != torch.int64 or indices.dim() != 2:
                refuse(masker, f"return int64 [B, N{name[0]}] as Mask.{name}", _shown(indices))
            if len(indices) != rows:
                refuse(masker, f"return one row per clip in Mask.{name}, {rows} here", f"{len(indices)} rows")
            if indices.device.type != request.patches.device.type:
                refuse(masker, f"stay on the device of the patches, {request.patches.device.type}", _shown(indices))
        count = mask.visible.shape[1] + mask.masked.shape[1]
        if count != cells:
            refuse(masker, f"make each of the {cells} patches visible or masked", f"{count} indices in a row")
        if values:
            _check_partition(masker, mask, cells)
    return masks


def _check_partition(masker: Masker, mask: Mask, cells: int) -> None:
    """Check that rows are sorted and that each patch is in one of both parts, once.

    Raises:
        PluginError: they are not.
    """
    both = torch.cat([mask.visible, mask.masked], dim=1)  # [B, N]
    if both.numel() and (int(both.min()) < 0 or int(both.max()) >= cells):
        refuse(masker, f"return indices from 0 to {cells - 1}", f"{int(both.min())} to {int(both.max())}")
    for name, indices in (("visible", mask.visible), ("masked", mask.masked)):
        if bool((indices.diff(dim=1) < 0).any()):
            refuse(masker, "sort the indices of each row", f"a row of Mask.{name} is not sorted")
    if bool((both.sort(dim=1).values != torch.arange(cells, device=both.device)).any()):
        refuse(masker, "put each patch into `visible` or `masked`, once", "a row with a patch twice")


def check_needs(objective: Objective) -> None:
    """Check the names of what an objective needs.

    Raises:
        PluginError: the model does not know one.
    """
    for need in objective.needs:
        if need not in get_args(Need):
            known = f"name its needs among {', '.join(get_args(Need))}"
            refuse(objective, known, f"{need!r}{did_you_mean(need, get_args(Need))}")


def check_output(objective: Objective, state: StepState, output: object) -> ObjectiveOutput:
    """Check what an objective returned.

    Args:
        objective: the objective.
        state: what it was given.
        output: what it returned. The loss itself is read in the first step only; later ones may diverge.

    Raises:
        PluginError: the loss is no float32 scalar with a gradient, a metric no scalar, or a prediction does not fit.
    """
    if not isinstance(output, ObjectiveOutput):
        refuse(objective, "return an ObjectiveOutput", _shown(output))
    loss = output.loss
    if not isinstance(loss, Tensor) or loss.shape or not _may_be_loss(loss):
        refuse(objective, "return a float32 scalar as loss, the mean over clips and patches", _shown(loss))
    if torch.is_grad_enabled() and not loss.requires_grad:
        refuse(objective, "return a loss with a gradient", "a loss that depends on nothing that is trained")
    inputs = (each for view in state.views for each in (view.latents, view.patches))
    if state.step == 0 and loss.device.type != "meta" and not bool(loss.isfinite()) and _finite(inputs):
        refuse(objective, "return a finite loss for finite latents in the first step", f"{float(loss.detach())}")
    for name, value in output.metrics.items():
        if not isinstance(value, int | float) and not (isinstance(value, Tensor) and value.numel() == 1):
            refuse(objective, "return scalars as metrics", f"{name!r} is {_shown(value)}")
    if output.prediction is not None:
        _check_prediction(objective, state, output.prediction)
    return output


def _may_be_loss(loss: Tensor) -> bool:
    """Whether a loss has a fit type: under autocast a plugin of version 0.1 may return what autocast made of it."""
    if loss.dtype in (torch.float32, torch.float64):
        return True
    device = "cpu" if loss.device.type == "meta" else loss.device.type
    return loss.is_floating_point() and torch.is_autocast_enabled(device)


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _check_prediction(objective: Objective, state: StepState, prediction: object) -> None:
    """Check that there is one prediction per view, a row for each masked patch.

    Raises:
        PluginError: there is not.
    """
    wanted = "return one prediction [B, Nm, D] for each view, in a tuple"
    if not isinstance(prediction, tuple | list) or len(prediction) != len(state.views):
        refuse(objective, wanted, _shown(prediction))
    for view, one in zip(state.views, prediction, strict=True):
        if not isinstance(one, Tensor) or one.shape[:-1] != view.mask.masked.shape:
            refuse(objective, f"{wanted}, [B, Nm] = {list(view.mask.masked.shape)} here", _shown(one))


def check_gradients(objective: Objective) -> None:
    """Check that a loss reached every trained parameter of an objective: several processes would wait for it.

    Raises:
        PluginError: it did not.
    """
    idle = [name for name, each in objective.named_parameters() if each.requires_grad and each.grad is None]
    if idle:
        refuse(objective, "use every trained parameter in its loss", f"no gradient of {', '.join(idle)}")


def check_share(schedule: Schedule, progress: float) -> float:
    """Ask a schedule for its share, and check it.

    Raises:
        PluginError: it is no number from 0 to 1.
    """
    share = schedule.share(progress)
    if not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        refuse(schedule, "return a number from 0 to 1 from share", f"{share!r} at progress {progress:g}")
    return share


def check_tokens(backbone: Backbone, shape: tuple[int, int, int], **made: object) -> None:
    """Check the shape of what a backbone computed.

    Args:
        backbone: the backbone.
        shape: ``[B, prefix_tokens + K, D]`` of the contract.
        made: what it computed, by the name of the method.

    Raises:
        PluginError: it has another one.
    """
    for method, tokens in made.items():
        if not isinstance(tokens, Tensor) or tuple(tokens.shape) != shape:
            wanted = f"return [B, prefix_tokens + K, dim] = {list(shape)} from {method}"
            refuse(backbone, wanted, _shown(tokens))
