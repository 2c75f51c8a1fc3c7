"""One training step of EAT and AudioMosaic, ours beside what the released code computed; see released_code.py."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn

from released_code import Compared, adamw_step, after_step, archive, norm_of, renamed, sizes, weights
from ssl_wb.api import Grid, ModelShapes
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.masker import Mask
from ssl_wb.pretext import predictor as predictor_module
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import build_predictor
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.ibm import IbmMasker, IbmOptions
from ssl_wb_plugins.maskers.time_frequency import TimeFrequencyMasker, TimeFrequencyOptions
from ssl_wb_plugins.objectives.eat import Eat, EatOptions, averaged_target, squared_error
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions


def to_ours(indices: Tensor, grid: Grid) -> Tensor:
    """Number time-major patches ``t * F + f`` as we do, ``f * T + t``."""
    return indices % grid.freq * grid.time + indices // grid.freq


def rows_to_ours(rows: Tensor, grid: Grid) -> Tensor:
    """Reorder the time-major rows ``[..., N, D]`` of all patches."""
    return rows.unflatten(-2, (grid.time, grid.freq)).transpose(-3, -2).flatten(-3, -2)


def time_major_projection(weight: Tensor) -> Tensor:
    """Return a patch projection ``[D, 1, time, frequency]`` as ours, ``[D, frequency * time]``."""
    return weight.transpose(2, 3).flatten(1)


EAT_NAMES = {
    "modality_encoders.IMAGE.extra_tokens": "backbone.cls_token",
    "modality_encoders.IMAGE.local_encoder.proj.": "backbone.proj.",
    "modality_encoders.IMAGE.context_encoder.norm.": "backbone.trunk.pre_norm.",
    "modality_encoders.IMAGE.decoder.proj.": "objectives.eat.head.",
    "blocks.": "backbone.trunk.blocks.",
}


def eat_state(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state of EAT; its table of positions is ours by construction."""
    stem = "modality_encoders.IMAGE.decoder.blocks."
    state = renamed(theirs, EAT_NAMES)
    for key, value in theirs.items():
        if key.startswith(stem):
            number, _, kind = key.removeprefix(stem).split(".")
            # A kernel of theirs is [time, frequency].
            state[f"predictor.blocks.{number}.conv.{kind}"] = value.transpose(-1, -2) if kind == "weight" else value
    state["backbone.proj.weight"] = time_major_projection(state["backbone.proj.weight"])
    return state


def eat_average(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state of EAT's teacher."""
    return {"teacher_encoder." + key.removeprefix("backbone."): value for key, value in eat_state(theirs).items()}


def eat_model(io: dict[str, Tensor], mask_token: str) -> PretextModel:
    """Build ours with the recorded weights."""
    theirs, size = weights("eat_pretraining")["model"], sizes(io)
    dim, clones, clips = int(size["dim"]), int(size["clones"]), int(size["B"])
    options = VitOptions(
        dim=dim, depth=int(size["depth"]), heads=int(size["heads"]), norm="post", pre_norm=True, final_norm=False,
        pool="class", positions_first="frequency", init="normal", class_token_std=1.0,
    )  # fmt: skip
    section = PredictorSection(
        name="conv", dim=dim, depth=int(size["layers"]), heads=int(size["groups"]), mask_token=mask_token, init="torch"
    )
    # Ten times the update gives the published schedule, .9998 to .99999 over 100,000 updates, at any size of run.
    teacher = TeacherSection(sees="all", averages="encoder", decay=[0.9998, 0.99999], decay_over=100_000)
    grid = Grid(int(size["F"]) // 16, int(size["T"]) // 16)
    shapes = ModelShapes(dim, dim, 256, grid, clones, 400_000, teacher_sees="all")
    # The release steps on the frame loss per masked patch and, for each clone of each clip, the utterance loss.
    objective = Eat(EatOptions(utterance_weight=clips * clones, init="torch"), shapes)
    model = PretextModel(
        backbone=Vit(options, int(size["F"])),
        masker=IbmMasker(IbmOptions(ratio=size["ratio"], block=int(size["block"]), views=clones)),
        predictor=build_predictor(section, dim, 1),
        teacher=teacher,
        objectives=[WeightedObjective("eat", 1.0, objective)],
        shapes=shapes,
        seed=0,
    )
    state = eat_state({key: value for key, value in theirs.items() if key != "_ema"}) | eat_average(theirs["_ema"])
    if mask_token == "learned":
        state["predictor.mask_token"] = torch.zeros(1, 1, dim)
    model.load_state_dict(state)
    return model


def eat_masks(io: dict[str, Tensor], grid: Grid) -> tuple[Mask, ...]:
    """Return a mask for each clone; the clones of a clip are neighbours in the recorded one."""
    clones, order = int(sizes(io)["clones"]), io["mask"].argsort(dim=1)
    visible = int((io["mask"][0] == 0).sum())
    order = torch.cat([order[:, :visible], order[:, visible:].sort(dim=1).values], dim=1)
    ours = to_ours(order, grid).unflatten(0, (-1, clones))  # [B, clones, N]
    return tuple(Mask(ours[:, clone, :visible], ours[:, clone, visible:]) for clone in range(clones))


def eat() -> Iterator[Compared]:
    """Compare EAT with both kinds of mask tokens: positions, encoder, target, losses, gradients, SGD, EMA."""
    io, theirs = archive("eat_pretraining_io"), weights("eat_pretraining")["model"]
    clones = int(sizes(io)["clones"])
    spectrogram = io["spectrogram"].float().transpose(1, 2)  # [B, F, T]
    for mode in ("zero", "noise"):
        model = eat_model(io, mode)
        grid = model.shapes.grid
        masks = eat_masks(io, grid)
        # Ours encodes all first clones, then all second ones.
        noise = io["noise_tokens"].unflatten(0, (-1, clones)).transpose(0, 1).flatten(0, 1)  # [clones * B, Nm, D]
        drawn = noise / predictor_module.MASK_NOISE_STD
        with mock.patch.object(predictor_module, "normal_noise", return_value=drawn):
            state = model.encode(StepInputs(spectrogram, step=int(io["update"]), masks=masks))
        output = model.compute_losses(state)
        objective, prefix = model.objectives["eat"], f"{mode}_mask_tokens."
        target = averaged_target(state.views[0].mlp_outputs)
        if mode == "zero":
            published = theirs["modality_encoders.IMAGE.fixed_positional_encoder.positions"][:, : grid.cells]
            ours = model.backbone.positions(grid, torch.device("cpu"))
            yield Compared("EAT", "positions", "encoder", ours, rows_to_ours(published, grid))
            yield Compared(
                "EAT",
                "target",
                "MLP outputs",
                torch.stack(state.views[0].mlp_outputs),
                rows_to_ours(io["branches"], grid),
            )
            yield Compared("EAT", "target", "target", target, rows_to_ours(io["target"], grid))
            with torch.no_grad():
                tokens = model.backbone.embed(patchify(spectrogram, (16, 16)), grid, masks[0].visible)
                yield Compared("EAT", "encoder", "latent_first_clone", model.backbone(tokens), io["latent_first_clone"])
            pooled = torch.stack([view.pooled for view in state.views], dim=1).flatten(0, 1)
            yield Compared("EAT", "encoder", "class_latent", pooled, io["class_latent"])
            decoded = objective.head(state.views[0].features)
            yield Compared("EAT", "predictor", "decoded_masked_first_clone", decoded, io["decoded_masked_first_clone"])
        per_patch = torch.stack(
            [
                squared_error(objective.head(view.features), target.take_along_dim(view.mask.masked[:, :, None], dim=1))
                for view in state.views
            ],
            dim=1,
        )
        yield Compared("EAT", "loss", prefix + "frame_per_patch", per_patch.flatten(), io[prefix + "frame_per_patch"])
        for name, ours in (
            ("frame_mean_per_patch", output.metrics["eat.frame"]),
            ("utterance_mean_per_clone", output.metrics["eat.utterance"]),
            ("loss_per_sample", output.loss),
        ):
            yield Compared("EAT", "loss", prefix + name, ours, io[prefix + name])
        frame = torch.stack([each.mean() for each in per_patch.unbind(1)]).mean()
        utterance = torch.stack([squared_error(view.pooled, target.mean(dim=1)).mean() for view in state.views]).mean()
        for name, loss in (("frame", frame), ("utterance", utterance), ("total", output.loss)):
            model.zero_grad()
            loss.backward(retain_graph=True)
            yield from _eat_gradients(model, io, f"{prefix}{name}.grad_norm.")
    yield from _eat_step()


def _eat_gradients(model: PretextModel, io: dict[str, Tensor], prefix: str) -> Iterator[Compared]:
    """Compare the gradient norms of EAT's parts."""
    backbone = model.backbone
    parts: dict[str, list[nn.Parameter]] = {
        "extra_tokens": [backbone.cls_token],
        "local_encoder": list(backbone.proj.parameters()),
        "context_encoder.norm": list(backbone.trunk.pre_norm.parameters()),
        "decoder": [*model.predictor.parameters(), *model.objectives["eat"].head.parameters()],
        "blocks": list(backbone.trunk.blocks.parameters()),
    }
    for key, value in io.items():
        if key.startswith(prefix):
            yield Compared(
                "EAT", "gradients", key, norm_of([each.grad for each in parts[key.removeprefix(prefix)]]), value
            )


def _eat_step() -> Iterator[Compared]:
    """Compare one SGD step, whose loss has zero mask tokens, and the teacher after the EMA update."""
    io, after = archive("eat_pretraining_io"), weights("eat_pretraining_after")
    model = eat_model(io, "zero")
    update = int(io["update"])
    spectrogram = io["spectrogram"].float().transpose(1, 2)
    model(StepInputs(spectrogram, step=update, masks=eat_masks(io, model.shapes.grid))).loss.backward()
    torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.05).step()
    yield from after_step("EAT", "step", dict(model.state_dict()), eat_state(after["student"]))
    decay = torch.tensor(model.teacher_decay(update), dtype=torch.float64)
    yield Compared("EAT", "EMA", "decay", decay, io["ema_decay"])
    model.after_step(update + 1)
    yield from after_step("EAT", "EMA", dict(model.state_dict()), eat_average(after["teacher"]))


def audiomosaic_model(io: dict[str, Tensor], layout: str) -> PretextModel:
    """Build ours with the recorded weights."""
    size = sizes(io)
    dim = int(size["dim"])
    grid = Grid(int(size["F"]) // 16, int(size["T"]) // 16)
    options = VitOptions(
        dim=dim, depth=int(size["depth"]), heads=int(size["heads"]), positions="trainable", patch_norm=True,
        pre_norm=True, final_norm=False, pool="all", pool_norm=True, init="trunc-normal",
    )  # fmt: skip
    shapes = ModelShapes(dim, dim, 256, grid, 2, 100)
    model = PretextModel(
        backbone=Vit(options, int(size["F"]), int(size["T"])),
        masker=TimeFrequencyMasker(TimeFrequencyOptions(layout=layout)),
        predictor=None,
        teacher=TeacherSection(),
        objectives=[
            WeightedObjective(
                "infonce", 1.0, InfoNce(InfoNceOptions(out=int(size["out"]), temperature=size["tau"]), shapes)
            )
        ],
        shapes=shapes,
        seed=0,
    )
    model.load_state_dict(audiomosaic_state(weights("audiomosaic_pretraining"), grid))
    return model.train()


def audiomosaic_state(theirs: dict[str, Tensor], grid: Grid) -> dict[str, Tensor]:
    """Rename a state of AudioMosaic.

    Its class token has a trained position of its own, which is added to it and to nothing else: one token of ours.
    """
    names = {
        "patch_embed.proj.": "backbone.proj.", "patch_embed.norm.": "backbone.patch_norm.",
        "norm_pre.": "backbone.trunk.pre_norm.", "blocks.": "backbone.trunk.blocks.",
        "fc_norm.": "backbone.pool_norm.", "projector.": "objectives.infonce.projector.",
    }  # fmt: skip
    state = renamed(theirs, names)
    state["backbone.proj.weight"] = time_major_projection(theirs["patch_embed.proj.weight"])
    state["backbone.cls_token"] = theirs["cls_token"] + theirs["pos_embed"][:, :1]
    state["backbone.position_table"] = rows_to_ours(theirs["pos_embed"][:, 1:], grid)
    return state


def in_order_of(rows: Tensor, published: Tensor) -> Tensor:
    """Reorder rows ``[K, D]`` as the published ones, whose shuffled order was not recorded."""
    order = torch.cdist(published, rows, p=torch.inf).argmin(dim=1)
    assert len(order.unique()) == len(rows)
    return rows[order]


def audiomosaic() -> Iterator[Compared]:
    """Compare AudioMosaic in both layouts of masks: encoder, loss, gradients, AdamW, statistics of its batch norms."""
    io = archive("audiomosaic_pretraining_io")
    spectrogram = torch.stack([io["view_0"], io["view_1"]], dim=1).float().transpose(2, 3)  # [B, 2, F, T]
    for layout, ours_layout in (("released", "released"), ("paper", "paper")):
        model = audiomosaic_model(io, ours_layout)
        grid, prefix = model.shapes.grid, f"{layout}."
        masks = []
        for branch in ("visible_time_branch", "visible_freq_branch"):
            visible = to_ours(io[prefix + branch], grid)
            hidden = (
                torch.ones(len(visible), grid.cells).scatter(1, visible, 0.0).nonzero()[:, 1].view(len(visible), -1)
            )
            masks.append(Mask(visible, hidden))
        backbone = model.backbone
        for number, mask in enumerate(masks):
            with torch.no_grad():
                tokens = backbone(backbone.embed(patchify(spectrogram[:, number], (16, 16)), grid, mask.visible))
            first = io.get(f"{prefix}tokens_{number}_first_clip")
            if first is not None:
                yield Compared(
                    "AudioMosaic", "encoder", f"{prefix}tokens_{number}", in_order_of(tokens[0], first), first
                )
            yield Compared(
                "AudioMosaic", "encoder", f"{prefix}pooled_{number}", tokens.mean(dim=1), io[f"{prefix}pooled_{number}"]
            )
        output = model(StepInputs(spectrogram, step=0, masks=tuple(masks)))
        yield Compared("AudioMosaic", "loss", prefix + "loss_total", output.loss, io[prefix + "loss_total"])
        accuracy = torch.as_tensor(output.metrics["infonce.accuracy"])
        yield Compared("AudioMosaic", "loss", prefix + "accuracy", accuracy, io[prefix + "accuracy_percent"])
        output.loss.backward()
        parts: dict[str, list[nn.Parameter]] = {
            "cls_token": [backbone.cls_token],
            "patch_embed": [*backbone.proj.parameters(), *backbone.patch_norm.parameters()],
            "norm_pre": list(backbone.trunk.pre_norm.parameters()),
            "blocks": list(backbone.trunk.blocks.parameters()),
            "fc_norm": list(backbone.pool_norm.parameters()),
            "projector": list(model.objectives["infonce"].parameters()),
        }
        for part, parameters in parts.items():
            ours = norm_of([each.grad for each in parameters])
            yield Compared("AudioMosaic", "gradients", f"{prefix}{part}", ours, io[f"{prefix}grad_norm.{part}"])
        # Their table has a row for the class token, whose gradient is that of the token itself.
        table = norm_of([backbone.position_table.grad, backbone.cls_token.grad])
        yield Compared("AudioMosaic", "gradients", f"{prefix}pos_embed", table, io[f"{prefix}grad_norm.pos_embed"])
    after, size = weights("audiomosaic_pretraining_after"), sizes(io)
    adamw_step(model, size["lr"], size["wd"], (0.9, 0.999), "tokens")
    ours, theirs = dict(model.state_dict()), audiomosaic_state(after, grid)
    # Two parameters of theirs make our class token, and both moved.
    moved = (
        2 * ours["backbone.cls_token"]
        - audiomosaic_state(weights("audiomosaic_pretraining"), grid)["backbone.cls_token"]
    )
    yield from after_step("AudioMosaic", "step", ours | {"backbone.cls_token": moved}, _without_norm_bias(theirs))


def _without_norm_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the pooling norm's bias, whose gradient is 0 but for rounding: a batch norm follows."""
    return {key: value for key, value in state.items() if key != "backbone.pool_norm.bias"}
