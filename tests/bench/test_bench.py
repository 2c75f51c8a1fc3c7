"""The bench: parts of a step, comparisons, figures, the command. No time is asserted."""

from __future__ import annotations

import gzip
import json
import math
import time

import numpy as np
import pytest
import torch

from ssl_wb.bench import entries as entries_module
from ssl_wb.bench.entries import check_memory, masker_entries, parse_maskers, recipe_entry, scale_entries
from ssl_wb.bench.figures import exponent, ratio, spread
from ssl_wb.bench.parts import REST, part_seconds
from ssl_wb.bench.profile import kind_of
from ssl_wb.bench.run import bench
from ssl_wb.bench.timed_trainer import TimedTrainer
from ssl_wb.cli.main import run
from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.layers.parts import PARTS, part, recorded_parts

CPU = torch.device("cpu")


def test_parts_add_up_to_the_step(recipe):
    report = bench([recipe_entry(recipe)], device=CPU, repeats=3, warmup=1)
    one = report["contestants"][0]
    wanted = {"front end", "masking", "student", "teacher", "predictor", "objectives", "backward", "optimiser", "EMA"}
    assert wanted <= set(one["parts"]) <= {*PARTS, REST}
    for whole, parts in zip(one["each"]["split_seconds"], one["each"]["parts_seconds"], strict=True):
        assert min(parts.values()) >= 0
        assert sum(parts.values()) == pytest.approx(whole)
    assert len(one["each"]["step_seconds"]) == 3
    step = one["step_seconds"]
    assert 0 < step["p10"] <= step["median"] <= step["p90"]
    assert one["clips_per_second"] == pytest.approx(4 / step["median"])
    achieved = one["gflop_per_clip"] * one["clips_per_second"]
    assert one["model_flops_utilisation"] == pytest.approx(achieved / one["matrix_product"]["gflop_per_second"])
    assert one["data"] == "noise"
    assert one["data_wait_share"] is None
    assert report["environment"]["precision"] == "no"


def test_the_steps_are_those_of_training(recipe):
    """Every part of the model learns and the teacher moves; a step that left one out would measure too little."""
    trainer = TimedTrainer(recipe_entry(recipe, ["teacher.decay=[0.5, 0.5]"]), CPU)
    model = trainer.trainer.plain_model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    called = []
    after = model.after_step
    model.after_step = lambda step: (called.append(step), after(step))
    trainer.step()
    assert called == [501]
    moments = trainer.trainer.optimizer.optimizer.state
    stepped = {id(parameter) for parameter in moments}
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert {name for name, value in model.named_parameters() if id(value) in stepped} == trained
    # The rate is next to nothing, so that no measurement ends in values that are no numbers.
    moved = max(float((value.detach() - before[name]).abs().max()) for name, value in model.named_parameters())
    assert moved < 1e-6


def test_several_readings_micro_batches_and_captions(recipe):
    settings = [
        "train.accumulate=2",
        "masker={name='time-frequency'}",
        "data.augment=[{name='roll'}]",
        "data.captions={dim=12}",
        "objective=[{name='infonce'}, {name='clap'}]",
    ]
    trainer = TimedTrainer(recipe_entry(recipe, settings), CPU)
    trainer.measure_parts()
    assert trainer.parts_seconds[0]["objectives"] > 0
    assert "predictor" not in trainer.parts_seconds[0]


def test_real_clips_give_the_share_of_waiting(recipe, tmp_path):
    import soundfile

    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.random.default_rng(number).standard_normal(16000), 16000)
    report = bench([recipe_entry(recipe, [f"data.train='{tmp_path}'"])], device=CPU, repeats=2, warmup=1)
    one = report["contestants"][0]
    assert one["data"] == str(tmp_path)
    assert 0 < one["data_wait_share"] < 1


def test_maskers_take_turns_and_are_compared_with_random(recipe):
    choices = parse_maskers("ibm:block=2,dwm,sgim:layer=1,start=0")
    report = bench(masker_entries(recipe, [], 2, choices), device=CPU, repeats=2, warmup=1)
    names = [one["name"] for one in report["contestants"]]
    assert names == ["random", "ibm:block=2", "dwm", "sgim:layer=1,start=0"]
    first, *others = report["contestants"]
    assert "step_to_first" not in first
    for one in others:
        compared = one["step_to_first"]
        assert compared["low"] <= compared["median"] <= compared["high"]
        assert compared["median"] == pytest.approx(one["step_seconds"]["median"] / first["step_seconds"]["median"])
        assert one["masker"]["ratio"] == 0.6  # the recipe's, not the masker's own 0.7
        assert 0 < one["parts"]["masking"]["share"] < 1
        assert one["batch_clips"] == 2
    assert others[2]["masker"]["layer"] == 1


def test_latents_of_a_masker_count_as_masking(recipe):
    """The pass over all patches goes through embedding and trunk, which elsewhere are student and teacher."""
    entry = masker_entries(recipe, [], None, parse_maskers("sgim:start=0,latents='teacher'"))[1]
    trainer = TimedTrainer(entry, CPU)
    norm = trainer.trainer.plain_model.teacher.norm  # runs once in every pass of the teacher
    passes = []

    def slow(*_):
        passes.append(1)
        time.sleep(0.1)

    norm.register_forward_hook(slow)
    trainer.measure_parts()
    assert len(passes) == 2  # for the masker, for the targets
    (parts,) = trainer.parts_seconds
    assert parts["masking"] > 0.1
    assert parts["teacher"] > 0.1
    assert sum(parts.values()) == pytest.approx(trainer.split_seconds[0])


def test_precisions_of_two_contestants_stay_apart(recipe):
    """Accelerate keeps one precision for a process; every contestant must compute in its own."""
    pair = [recipe_entry(recipe, [f"train.precision='{precision}'"]) for precision in ("bf16", "fp32")]
    trainers = [TimedTrainer(entry, CPU) for entry in pair]
    seen = {0: set(), 1: set()}
    for number, trainer in enumerate(trainers):
        attention = trainer.trainer.plain_model.backbone.trunk.blocks[0].attn.qkv
        attention.register_forward_hook(lambda module, inputs, out, number=number: seen[number].add(out.dtype))
    for _ in range(2):
        for trainer in trainers:
            trainer.step()
    assert seen == {0: {torch.bfloat16}, 1: {torch.float32}}


def test_time_goes_to_the_outermost_part():
    def step():
        with part("masking"), part("student"):
            time.sleep(0.02)
        with part("student"):
            time.sleep(0.01)

    def profiled():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            step()
        return part_seconds(profiler.events(), 1.0)

    assert set(profiled()) == {REST}  # nothing is recorded unless asked for
    with recorded_parts(CPU):
        seconds = profiled()
    assert set(seconds) == {"masking", "student", REST}
    assert seconds["masking"] >= 0.02
    assert seconds["student"] >= 0.01
    assert sum(seconds.values()) == pytest.approx(1.0)


def test_masker_lists():
    choices = parse_maskers("dwm,random,sgim:layer=3,start=0,time-frequency:pair=[1,2]")
    assert [choice.text for choice in choices] == [
        *("random", "dwm", "sgim:layer=3,start=0", "time-frequency:pair=[1,2]"),
    ]
    assert choices[2].settings == ("layer=3", "start=0")
    for wrong in ("layer=3", "dwm,,ibm", "dwm:hint"):
        with pytest.raises(UsageError):
            parse_maskers(wrong)


@pytest.mark.parametrize("scale", ["batch", "seconds", "size"])
def test_scales_grow(recipe, scale):
    entries = scale_entries(recipe, [], None, scale)
    sizes = [entry.size for entry in entries]
    if scale == "size":  # the recipe's own dim, depth and heads give way
        assert [entry.loaded.backbone.options.size for entry in entries] == ["tiny", "small", "base"]
        assert sizes == sorted(sizes)
        assert sizes[2] > 5 * sizes[0]
    else:
        assert [size / sizes[0] for size in sizes] == [1, 2, 4, 8]
    if scale == "batch":
        assert [entry.loaded.recipe.train.batch_size for entry in entries] == [4, 8, 16, 32]


def test_a_batch_that_does_not_fit_is_refused(recipe, monkeypatch):
    entry = recipe_entry(recipe, batch=64)
    needed = entry.plan.memory_bytes(64, half=False)
    monkeypatch.setattr(entries_module, "free_bytes", lambda device: needed // 2)
    with pytest.raises(UsageError) as caught:
        check_memory([entry], CPU)
    clips = int(caught.value.hint.split()[1])
    monkeypatch.setattr(entries_module, "free_bytes", lambda device: needed)
    check_memory([recipe_entry(recipe, batch=clips)], CPU)


def test_figures_of_known_numbers():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "p10": pytest.approx(1.2), "p90": pytest.approx(2.8)}
    # What slowed both in one round leaves the ratio alone.
    base = [1.0, 5.0, 1.0, 1.0]
    compared = ratio([1.5 * value for value in base], base)
    assert compared == {"median": pytest.approx(1.5), "low": pytest.approx(1.5), "high": pytest.approx(1.5)}
    sizes = [1.0, 2.0, 4.0]
    fitted = exponent(sizes, [[3.0 * size**1.25] * 4 for size in sizes])
    assert fitted["exponent"] == pytest.approx(1.25)
    assert fitted["factor_seconds"] == pytest.approx(3.0)
    assert fitted["low"] == pytest.approx(fitted["high"])
    single = ratio([2.0], [1.0])
    assert (single["low"], single["high"]) == (2.0, 2.0)


def test_operations_by_kind():
    assert kind_of("aten::addmm") == "matrix products"
    assert kind_of("aten::_scaled_dot_product_flash_attention_for_cpu_backward") == "attention"
    assert kind_of("xformers_flash::flash_fwd") == "attention"
    assert kind_of("aten::convolution_backward") == "convolution"
    for other in ("aten::mm_like", "aten::native_layer_norm", "aten::gelu", "ampere_flash_attention_kernel"):
        assert kind_of(other) == "other"


def test_the_command_prints_tables_and_writes_json_and_trace(recipe, tmp_path, capsys):
    figures, trace = tmp_path / "bench.json", tmp_path / "trace.json.gz"
    arguments = ["bench", str(recipe), "--batch", "2", "--repeats", "2", "--warmup", "1", "--device", "cpu"]
    assert run([*arguments, "--json", str(figures), "--profile", str(trace)]) == 0
    shown = capsys.readouterr().out
    for word in ("2 clips of 0.8 s (noise)", "utilisation", "teacher", "matrix products"):
        assert word in shown
    report = json.loads(figures.read_text())
    assert report["contestants"][0]["overrides"] == ["train.batch_size=2", "train.accumulate=1"]
    shares = [kind["share"] for kind in report["profile"]["kinds"].values()]
    assert sum(shares) == pytest.approx(1)
    assert report["profile"]["kinds"]["matrix products"]["share"] > 0
    assert report["profile"]["kinds"]["attention"]["share"] > 0
    names = {event["name"] for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert {"student", "masking", "backward", "aten::addmm"} <= names


def test_the_command_compares_with_another_recipe(recipe, capsys):
    other = ["--against", str(recipe), "--against-set", "masker.ratio=0.8"]
    assert run(["bench", str(recipe), "--repeats", "2", "--warmup", "1", "--device", "cpu", "--json", "-", *other]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["masker"]["ratio"] for one in report["contestants"]] == [0.6, 0.8]
    assert report["contestants"][1]["step_to_first"]["median"] > 0


def test_the_command_draws_a_curve(recipe, tmp_path, capsys):
    chart = tmp_path / "curve.png"
    arguments = ["--scale", "batch", "--batch", "1", "--repeats", "2", "--warmup", "1", "--device", "cpu"]
    assert run(["bench", str(recipe), *arguments, "--chart", str(chart)]) == 0
    shown = capsys.readouterr().out
    assert "to the power" in shown
    assert "8 clips" in shown
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert math.isfinite(float(shown.split("to the power ")[1].split()[0]))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--maskers", "ibn"], 4, "did you mean 'ibm'"),
        (["--maskers", "sgim:layr=3"], 3, "did you mean 'layer'"),
        (["--batch", "0"], 2, "--batch"),
        (["--scale", "batches"], 2, "batches"),
        (["--maskers", "ibm", "--scale", "batch"], 2, "different comparisons"),
        (["--against-set", "seed=1"], 2, "--against"),
        (["--chart", "a.png"], 2, "--scale"),
        (["--scale", "batch", "--chart", "a.pdf"], 2, ".png"),
        (["--json", "no/such/folder.json"], 2, "no folder"),
        (["--profile", "trace.txt"], 2, ".json.gz"),
        (["--device", "tpu"], 2, "cpu or cuda"),
        (["--set", "train.accumulate=3"], 3, "multiple"),
    ],
)
def test_mistakes_get_one_message(recipe, capsys, arguments, code, words):
    assert run(["bench", str(recipe), *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_backbone_without_sizes(recipe):
    entry = recipe_entry(recipe)
    with pytest.raises(UsageError, match="no sizes"):
        entries_module._sized(_without_sizes(entry.loaded))
    with pytest.raises(RecipeError):
        recipe_entry(recipe, ["data.clip_seconds=0.06"])


def _without_sizes(loaded):
    from dataclasses import replace

    from ssl_wb.plugin.base import PluginOptions

    class Bare:
        Options = PluginOptions

    return loaded.with_plugin("backbone", replace(loaded.backbone, plugin=Bare))
