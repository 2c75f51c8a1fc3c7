"""One training step of M2D, M2D-CLAP and MSM-MAE, ours beside what the released code computed.

EAT and AudioMosaic stand in ``released_time_major.py``.

``tests/reference/golden2`` holds the recorded values. Sizes come from the files' ``config.*`` keys and from shapes, so
another draw can take their place: set SSL_WB_GOLDEN to its folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_wb.api import Grid, ModelShapes
from ssl_wb.layers.ema import ema_update
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.plugin.masker import Mask
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import build_predictor
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb.training.optimizer import build_optimizer
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.objectives.clap import Clap, ClapOptions
from ssl_wb_plugins.objectives.malap import Malap, MalapOptions, latent_distance
from ssl_wb_plugins.objectives.reconstruction import Reconstruction, ReconstructionOptions
from ssl_wb_plugins.optimisers.adamw import AdamW

FOLDER = Path(os.environ.get("SSL_WB_GOLDEN") or Path(__file__).parent / "reference" / "golden2")


class Compared(NamedTuple):
    """A value of ours beside the published one.

    Attributes:
        system: M2D, EAT ...
        part: positions, encoder, target, loss, gradients, step or EMA.
        name: which value.
        ours, theirs: of equal shape.
    """

    system: str
    part: str
    name: str
    ours: Tensor
    theirs: Tensor

    def difference(self) -> float:
        """Return the largest absolute difference over the largest published magnitude; absolute below 1."""
        ours, theirs = self.ours.detach().double(), self.theirs.double()
        scale = max(1e-12, float(theirs.abs().max()))
        absolute = float((ours - theirs).abs().max())
        return absolute / scale if self.part == "gradients" else absolute / max(1.0, scale)


def archive(name: str) -> dict[str, Tensor]:
    """Return the recorded values of ``name``."""
    with np.load(FOLDER / f"{name}.npz") as found:
        return {key: torch.from_numpy(np.asarray(found[key])) for key in found.files}


def weights(name: str) -> dict:
    """Return the recorded weights of ``name``."""
    return torch.load(FOLDER / f"{name}.pt", weights_only=True)


def sizes(io: dict[str, Tensor]) -> dict[str, float]:
    """Return the file's ``config.*``, as plain numbers."""
    return {
        key.removeprefix("config."): value.item()
        for key, value in io.items()
        if key.startswith("config.") and value.dim() == 0
    }


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Keep what starts with one of ``names``, with that beginning replaced."""
    found = {}
    for key, value in state.items():
        for theirs, ours in names.items():
            if key.startswith(theirs):
                found[ours + key.removeprefix(theirs)] = value
                break
    return found


def norm_of(gradients: list[Tensor | None]) -> Tensor:
    """Return the norm of several gradients, in float64."""
    return torch.stack([one.double().norm() for one in gradients if one is not None]).norm()


def adamw_step(model: nn.Module, lr: float, decay: float, betas: tuple[float, float], spare: str) -> None:
    """Do one step of the workbench's AdamW."""
    options = AdamW.Options(lr=lr, weight_decay=decay, betas=list(betas), spare=spare)
    build_optimizer(PluginSelection("optimiser", "adamw", AdamW, options, None), model).step()


def without_key_bias(name: str, value: Tensor) -> Tensor:
    """Leave out key biases: their gradient is 0 but for rounding, which Adam turns into a full step."""
    if not name.endswith("qkv.bias"):
        return value
    third = len(value) // 3
    return torch.cat([value[:third], value[2 * third :]])


def after_step(system: str, part: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Iterator[Compared]:
    """Compare states after a step, all of which must be there on both sides."""
    assert theirs.keys() <= ours.keys(), theirs.keys() - ours.keys()
    for name, value in theirs.items():
        yield Compared(system, part, name, without_key_bias(name, ours[name]), without_key_bias(name, value))


# The family of MAE: M2D, MSM-MAE, M2D-CLAP


def mae_state(theirs: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Rename the state of an MAE model to ours; position tables are ours by construction."""
    names = {
        "cls_token": "backbone.cls_token", "patch_embed.proj.": "backbone.proj.", "blocks.": "backbone.trunk.blocks.",
        "norm.": "backbone.trunk.norm.", "mask_token": "predictor.mask_token", "decoder_embed.": "predictor.embed.",
        "decoder_blocks.": "predictor.blocks.", "decoder_norm.": "predictor.norm.", "decoder_pred.": head,
        "target_blocks.": "teacher.blocks.", "target_norm.": "teacher.norm.",
        "logit_scale": "objectives.clap.log_scale",
        "audio_proj.": "objectives.clap.audio_projector.", "text_proj.": "objectives.clap.text_projector.",
    }  # fmt: skip
    state = renamed(theirs, names)
    if "backbone.proj.weight" in state:
        state["backbone.proj.weight"] = state["backbone.proj.weight"].flatten(1)
    return state


def mae_model(
    io: dict[str, Tensor],
    theirs: dict[str, Tensor],
    objectives: Callable[[ModelShapes], list[WeightedObjective]],
    teacher: TeacherSection | None = None,
    predictor_positions: str = "2-d",
) -> PretextModel:
    """Build ours with the recorded weights."""
    size = {key: int(value) for key, value in sizes(io).items() if key not in ("ratio", "lr", "w_off")}
    bias = "blocks.0.attn.qkv.bias" in theirs
    grid = Grid(size["F"] // 16, size["T"] // 16)
    shapes = ModelShapes(
        size["dim"], size["dd"], 256, grid, 1, size.get("total", 1000),
        teacher_sees=(teacher or TeacherSection()).sees, caption_dim=size.get("text", 768),
    )  # fmt: skip
    section = PredictorSection(dim=size["dd"], depth=size["ddep"], heads=size["dh"], positions=predictor_positions)
    backbone = Vit(VitOptions(dim=size["dim"], depth=size["depth"], heads=size["heads"], key_bias=bias), size["F"])
    built = PretextModel(
        backbone=backbone,
        masker=RandomMasker(RandomOptions(ratio=sizes(io)["ratio"])),
        predictor=build_predictor(section, size["dim"], 1),
        teacher=teacher or TeacherSection(),
        objectives=objectives(shapes),
        shapes=shapes,
        seed=0,
    )
    state = mae_state(theirs, f"objectives.{next(iter(built.objectives))}.head.")
    if not bias:  # the decoder has a key bias here, of which the softmax takes no notice
        for key in [key for key in state if key.startswith("predictor.") and key.endswith("q_bias")]:
            stem = key.removesuffix("q_bias")
            query, value = state.pop(key), state.pop(stem + "v_bias")
            state[stem + "qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    missing, unexpected = built.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert not missing, missing
    return built


def mae_mask(io: dict[str, Tensor]) -> Mask:
    """Return the recorded mask; rows keep their order, and so does all that is compared."""
    visible = int(io["visible_count"])
    return Mask(io["patch_order"][:, :visible], io["patch_order"][:, visible:])


def mae_gradients(system: str, model: PretextModel, io: dict[str, Tensor], prefix: str) -> Iterator[Compared]:
    """Compare gradient norms of an MAE model's parts."""
    clap = dict(model.objectives.items()).get("clap")
    first = next(iter(model.objectives.values()))
    parts: dict[str, list[nn.Parameter]] = {
        "cls_token": [model.backbone.cls_token],
        "mask_token": [model.predictor.mask_token],
        "patch_embed": list(model.backbone.proj.parameters()),
        "blocks": list(model.backbone.trunk.blocks.parameters()),
        "norm": list(model.backbone.trunk.norm.parameters()),
        "decoder_embed": list(model.predictor.embed.parameters()),
        "decoder_blocks": list(model.predictor.blocks.parameters()),
        "decoder_norm": list(model.predictor.norm.parameters()),
        "decoder_pred": list(first.head.parameters()),
    }
    if clap is not None:
        parts |= {
            "logit_scale": [clap.log_scale],
            "audio_proj": list(clap.audio_projector.parameters()),
            "text_proj": list(clap.text_projector.parameters()),
        }
    for key, value in io.items():
        if key.startswith(prefix):
            ours = norm_of([each.grad for each in parts[key.removeprefix(prefix)]])
            yield Compared(system, "gradients", key, ours, value)


@torch.no_grad()
def mae_latents(model: PretextModel, spectrogram: Tensor, mask: Mask) -> Tensor:
    """Return the student's latents of the visible patches, class token first."""
    grid = model.backbone.grid_of(spectrogram.shape[-1])
    return model.backbone(model.backbone.embed(patchify(spectrogram, (16, 16)), grid, mask.visible))


M2D_VARIANTS = {
    "plain_mse": (MalapOptions(target="standardised", distance="mse"), "masked"),
    "not_standardised": (MalapOptions(target="l2"), "masked"),
    "target_layers_all": (MalapOptions(target="layers"), "masked"),
    "target_layers_last": (MalapOptions(target="layers", layers=[1]), "masked"),  # the last one, known below
    "teacher_sees_all": (MalapOptions(target="standardised"), "all"),
}


def m2d() -> Iterator[Compared]:
    """Compare M2D: encoder, target, losses, gradients, AdamW, EMA, variants."""
    io, before, after = (
        archive("m2d_pretraining_io"),
        weights("m2d_pretraining")["model"],
        weights("m2d_pretraining_after"),
    )
    size, mask = sizes(io), mae_mask(io)

    def built(options: MalapOptions, sees: str = "masked") -> PretextModel:
        section = TeacherSection(sees=sees, decay_end="last")
        return mae_model(io, before, lambda shapes: [WeightedObjective("malap", 1.0, Malap(options, shapes))], section)

    model = built(MalapOptions(target="standardised"))
    grid, cpu = model.shapes.grid, torch.device("cpu")
    yield Compared("M2D", "positions", "encoder", model.backbone.positions(grid, cpu), before["pos_embed"][:, 1:])
    yield Compared(
        "M2D", "positions", "decoder", model.predictor._positions(grid, cpu), before["decoder_pos_embed"][:, 1:]
    )
    yield Compared("M2D", "encoder", "latent", mae_latents(model, io["spectrogram"], mask), io["latent"])
    state = model.encode(StepInputs(io["spectrogram"], step=int(size["step"]), masks=(mask,)))
    output = model.compute_losses(state)
    malap = model.objectives["malap"]
    (view,) = state.views
    yield Compared("M2D", "predictor", "prediction", view.prediction, io["prediction"])
    yield Compared("M2D", "target", "target", view.target, io["target"])
    per_patch = latent_distance(view.prediction, malap._target(view))
    yield Compared("M2D", "loss", "loss_per_patch", per_patch, io["loss_per_patch"])
    yield Compared("M2D", "loss", "loss_total", output.loss, io["loss_total"])
    output.loss.backward()
    yield from mae_gradients("M2D", model, io, "grad_norm.")
    adamw_step(model, io["learning_rate"].item(), io["weight_decay"].item(), (0.9, 0.95), "vectors")
    ours = dict(model.state_dict())
    decay = model.teacher_decay(int(io["step"]))
    yield Compared("M2D", "EMA", "decay", torch.tensor(decay, dtype=torch.float64), io["ema_decay"])
    theirs = mae_state(after["model"], "objectives.malap.head.")
    student = {key: value for key, value in theirs.items() if not key.startswith("teacher.")}
    yield from after_step("M2D", "step", ours, student)
    start = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    for published, factor in ((after["model"], decay), (after["teacher_after_decay_0.9"], 0.9)):
        model.teacher.load_state_dict(start)
        ema_update(model.teacher, model.backbone.trunk, factor)
        wanted = {key: value for key, value in mae_state(published, "").items() if key.startswith("teacher.")}
        yield from after_step("M2D", "EMA", {f"teacher.{k}": v for k, v in model.teacher.state_dict().items()}, wanted)
    for name, (options, sees) in M2D_VARIANTS.items():
        if name == "target_layers_last":
            options = MalapOptions(target="layers", layers=[int(size["depth"])])
        variant = built(options, sees)
        loss = variant(StepInputs(io["spectrogram"], step=0, masks=(mask,))).loss
        loss.backward()
        yield Compared("M2D", "loss", f"variant.{name}", loss, io[f"variant.{name}.loss_total"])
        norm = norm_of([each.grad for each in variant.backbone.trunk.blocks.parameters()])
        yield Compared("M2D", "gradients", f"variant.{name}", norm, io[f"variant.{name}.grad_norm.blocks"])


def m2d_clap() -> Iterator[Compared]:
    """Compare M2D-CLAP: both losses and gradients."""
    io, before = archive("m2d_clap_pretraining_io"), weights("m2d_clap_pretraining")["model"]
    weight = io["weight_clap"].item()
    model = mae_model(
        io,
        before,
        lambda shapes: [
            WeightedObjective("malap", 1.0, Malap(MalapOptions(target="standardised"), shapes)),
            WeightedObjective("clap", weight, Clap(ClapOptions(), shapes)),
        ],
    )
    output = model(StepInputs(io["spectrogram"], step=0, captions=io["text"], masks=(mae_mask(io),)))
    yield Compared("M2D-CLAP", "loss", "loss_m2d", output.metrics["malap.loss"], io["loss_m2d"])
    yield Compared("M2D-CLAP", "loss", "loss_clap", output.metrics["clap.loss"], io["loss_clap"])
    yield Compared("M2D-CLAP", "loss", "loss_total", output.loss, io["loss_total"])
    output.loss.backward()
    yield from mae_gradients("M2D-CLAP", model, io, "grad_norm.")


def _msm_mae(
    system: str, name: str, prefix: str, positions: str, tables: dict[str, Tensor] | None
) -> Iterator[Compared]:
    """Compare one release of MSM-MAE, with both kinds of targets."""
    io, before = archive(f"{name}_io"), weights(name)["model"]
    mask = mae_mask(io)
    tables = tables or before
    for targets in ("plain", "norm_pix"):
        options = ReconstructionOptions(norm_patch=targets == "norm_pix")
        model = mae_model(
            io,
            before,
            lambda shapes: [WeightedObjective("reconstruction", 1.0, Reconstruction(options, shapes))],  # noqa: B023
            predictor_positions=positions,
        )
        if targets == "plain":
            grid, cpu = model.shapes.grid, torch.device("cpu")
            yield Compared(
                system, "positions", f"{prefix}encoder", model.backbone.positions(grid, cpu), tables["pos_embed"][:, 1:]
            )
            decoder = model.predictor._positions(grid, cpu)
            yield Compared(system, "positions", f"{prefix}decoder", decoder, tables["decoder_pos_embed"][:, 1:])
        state = model.encode(StepInputs(io["spectrogram"], step=0, masks=(mask,)))
        output = model.compute_losses(state)
        head = model.objectives["reconstruction"].head
        prediction = head(state.views[0].features)  # [B, Nm, P]
        if f"{prefix}{targets}.prediction" in io:
            latents = mae_latents(
                model,
                io["spectrogram"],
                Mask(io[f"{prefix}{targets}.ids_shuffle"][:, : mask.visible.shape[1]], mask.masked),
            )
            yield Compared(system, "encoder", f"{prefix}latent", latents, io[f"{prefix}{targets}.latent"])
            wanted = gather_rows(io[f"{prefix}{targets}.prediction"], mask.masked)
            yield Compared(system, "predictor", f"{prefix}prediction", prediction, wanted)
        target = gather_rows(state.views[0].patches, mask.masked)
        if options.norm_patch:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        per_patch = (prediction - target).square().mean(-1)
        published = io[f"{prefix}{targets}.loss_per_patch"].gather(1, mask.masked)
        yield Compared(system, "loss", f"{prefix}{targets}.loss_per_patch", per_patch, published)
        yield Compared(
            system, "loss", f"{prefix}{targets}.loss_total", output.loss, io[f"{prefix}{targets}.loss_total"]
        )
        output.loss.backward()
        yield from mae_gradients(system, model, io, f"{prefix}{targets}.grad_norm.")


def msm_mae() -> Iterator[Compared]:
    """Compare today's MSM-MAE (in M2D's repository)."""
    yield from _msm_mae("MSM-MAE", "msm_mae_pretraining", "", "2-d", None)


def msm_mae_first() -> Iterator[Compared]:
    """Compare MSM-MAE's first release, with 2-D and with 1-D positions of the decoder."""
    name = "msm_mae_first_pretraining"
    yield from _msm_mae("MSM-MAE, first release", name, "cls_2d.", "2-d", None)
    yield from _msm_mae("MSM-MAE, first release", name, "cls_1d.", "1-d", weights(name)["other_tables"]["cls_1d"])
