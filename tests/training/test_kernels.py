"""Attention, recomputed and compiled blocks, and steps that are not looked at: chosen once, with the same numbers."""

from __future__ import annotations

import shutil

import pytest
import torch
from pretext_fakes import KeptBytes, build, captions, gradients, spectrogram
from torch.testing import assert_close

from ssl_wb.errors import UsageError
from ssl_wb.layers import attention as attention_module
from ssl_wb.layers.attention import attention_name
from ssl_wb.layers.transformer import Attention, Block
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training import kernels as speed
from ssl_wb.workflows.pretrain import train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def step(model, rows: int = 4):
    output = model(StepInputs(spectrogram(model, rows), step=5, captions=captions(model, rows)))
    output.loss.backward()
    return output.loss.detach(), gradients(model)


def kernels(model) -> set[str]:
    return {module.kernel for module in model.modules() if isinstance(module, Attention)}


@pytest.fixture
def with_xformers(monkeypatch):
    monkeypatch.setattr(attention_module, "_xformers", lambda: object())
    monkeypatch.setattr(attention_module, "xformers_info", lambda: "xFormers 0.0")


@pytest.mark.usefixtures("with_xformers")
def test_all_attention_follows_the_backbones_choice_the_predictors_and_the_teachers_too():
    model = build("matpac")
    assert kernels(model) == {"sdpa"}
    assert speed.choose_attention(model, CUDA, torch.bfloat16) == {"sdpa", "xformers"}
    assert kernels(model.backbone) == kernels(model.teacher) == {"xformers"}
    assert kernels(model.predictor) == {"sdpa"}  # its heads are 4 wide
    assert speed.choose_attention(build("matpac", attention="sdpa"), CUDA, torch.bfloat16) == {"sdpa"}
    with pytest.raises(UsageError, match="multiple of 8 up to 256, not 4"):
        speed.choose_attention(build("matpac", attention="xformers"), CUDA, torch.bfloat16)
    assert speed.choose_attention(build("contrast", attention="xformers"), CUDA, torch.bfloat16) == {"xformers"}


def test_a_recipe_that_asks_for_xformers_where_it_cannot_serve_stops_before_the_folder_is_made(recipe, tmp_path):
    with pytest.raises(UsageError, match=r"CUDA devices only, not on cpu .*xformers.info: ") as caught:
        train(recipe, out=tmp_path / "run", quiet=True, cpu=True, overrides=["backbone.attention=xformers"])
    assert "'auto'" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [0.34, 1.0])
def test_recomputed_blocks_give_the_same_gradients_to_the_last_digit_and_keep_less(share):
    most, found = [], []
    for checkpoint_blocks in (0.0, share):
        model = build("contrast", depth=6)
        speed.prepare_kernels(model, TrainSection(steps=1, checkpoint_blocks=checkpoint_blocks), CPU, "no")
        assert sum(block.recomputed for block in model.backbone.trunk.blocks) == round(checkpoint_blocks * 6)
        with KeptBytes().counting(model) as count:
            found.append(step(model))
        most.append(count.most)
    assert torch.equal(found[0][0], found[1][0])
    for name, value in found[0][1].items():
        assert torch.equal(value, found[1][1][name]), name
    # All but the inputs of those blocks go; one block's inside comes back at a time.
    assert most[1] < (1.0 - 0.75 * share + 1 / 6) * most[0]


def test_the_teacher_recomputes_nothing():
    model = build("matpac")
    speed.prepare_kernels(model, TrainSection(steps=1, checkpoint_blocks=1.0), CPU, "no")
    assert not any(block.recomputed for block in model.teacher.blocks)


def test_a_backbone_without_blocks_of_ours_is_told():
    model = build("contrast")
    model.backbone.trunk.blocks = torch.nn.ModuleList()
    with pytest.raises(UsageError, match=r"checkpoint_blocks .* 'vit' has none"):
        speed.prepare_kernels(model, TrainSection(steps=1, checkpoint_blocks=0.5), CPU, "no")


def test_compiling_without_a_compiler_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"C\+\+ compiler"):
        speed.prepare_kernels(build("contrast"), TrainSection(steps=1, compile=True), CPU, "no")


@pytest.mark.slow
def test_compiled_blocks_have_the_same_losses_and_names_and_are_compiled_once():
    try:
        speed._check_compiler(CPU)
    except UsageError as error:
        pytest.skip(str(error))
    from torch._dynamo.utils import counters

    # One shape, so one kernel to build; the predictor's blocks and the teacher's compile as the student's do.
    plain, compiled = build("captions", depth=2), build("captions", depth=2)
    speed.prepare_kernels(compiled, TrainSection(steps=1, compile=True, checkpoint_blocks=0.5), CPU, "no")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    other = build("matpac")
    speed.prepare_kernels(other, TrainSection(steps=1, compile=True), CPU, "no")
    for model in (compiled, other):
        assert all(module.compiled for module in model.modules() if isinstance(module, Block))
    counters.clear()
    made = []
    for _ in range(3):
        loss, gradient = step(compiled)
        made.append(counters["stats"]["unique_graphs"])
        compiled.zero_grad()
    expected, expected_gradient = step(plain)
    assert_close(loss, expected, rtol=1e-4, atol=0)
    for name, value in expected_gradient.items():
        assert_close(gradient[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert made[0] == 1  # both blocks share it, the recomputed one too
    assert made[1:] == made[:1] * 2
    assert not counters["graph_break"]


@pytest.mark.gpu
@pytest.mark.parametrize("choice", ["auto", "xformers"])
def test_a_model_on_a_gpu_reads_with_xformers(choice):
    model = build("contrast", attention=choice).cuda()
    assert speed.choose_attention(model, CUDA, torch.bfloat16) == {"xformers"}
    assert attention_name(CUDA, torch.float32) == "sdpa"
    clips = spectrogram(model, 4).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        fast = model(StepInputs(clips, step=5)).loss
        for module in model.modules():
            if isinstance(module, Attention):
                module.kernel = "sdpa"
        plain = model(StepInputs(clips, step=5)).loss
    assert_close(fast, plain, rtol=2e-2, atol=0)
