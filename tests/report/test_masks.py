"""What a picture of masks shows is what training would do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.clips import load_clips
from ssl_wb.data.dataset import CropDataset
from ssl_wb.errors import AudioError, RecipeError, RunFolderError, UsageError
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.masker import Grid, MaskRequest
from ssl_wb.recipe.load import load_recipe
from ssl_wb.report.maskers import maskers_of
from ssl_wb.report.masks import prepare_masks

GRID = Grid(2, 12)  # 32 mel bins and 96 of 100 frames in patches of 16 x 8
AUGMENT = 'data.augment=[{name = "roll"}, {name = "gain-beta"}]'


def prepared(folder, *names, recipe="small.toml", **options):
    return prepare_masks(folder / recipe, [folder / f"{name}.wav" for name in names], **options)


def expected_mask(view, masker, *, batch=1, row=0, progress=1.0, seed=3):
    """What the masker says of a view's spectrogram, asked without the workbench's help."""
    patches = patchify(torch.from_numpy(view.spectrogram)[None], (16, 8)).expand(batch, -1, -1)
    request = MaskRequest(patches, GRID, progress, torch.Generator().manual_seed(seed))
    masked = np.zeros(GRID.cells, dtype=bool)
    masked[masker(request)[0].masked[row].numpy()] = True
    return masked.reshape(GRID)


@pytest.mark.parametrize("masker", ["random", "ibm:block=2", "dwm", "structured", "time-frequency:layout=joint"])
def test_masks_are_the_maskers_own(small, masker):
    preview = prepared(small, "one", maskers=[masker])
    ((cell,),) = preview.cells
    (view,) = cell.views
    (built,) = maskers_of(load_recipe(small / "small.toml"), [masker])
    np.testing.assert_array_equal(view.masked, expected_mask(view, built.masker))
    assert 0 < view.visible < GRID.cells
    assert (preview.grid, preview.patch) == (GRID, (16, 8))
    assert view.spectrogram.shape == (32, 96)
    assert preview.seconds == pytest.approx(0.96)


def test_rows_are_files_by_progress_and_columns_maskers(small):
    preview = prepared(small, "one", "two", maskers=["random", "dwm"], progress=[0.0, 1.0])
    assert [(row.clip, row.progress) for row in preview.rows] == [
        *(("one.wav", 0.0), ("one.wav", 1.0), ("two.wav", 0.0), ("two.wav", 1.0)),
    ]
    assert [column.label for column in preview.columns] == ["random", "dwm"]
    assert [len(row) for row in preview.cells] == [2] * 4
    (built,) = maskers_of(load_recipe(small / "small.toml"), ["random"])
    second = preview.cells[2][0].views[0]  # of a batch of two files
    np.testing.assert_array_equal(second.masked, expected_mask(second, built.masker, batch=2, row=1))


def test_progress_changes_the_schedule_and_nothing_else(small):
    preview = prepared(small, "one", maskers=["random", "dwm:probabilistic=false"], progress=[0.0, 0.5, 1.0])
    fixed, scheduled = zip(*preview.cells, strict=True)
    for cell in fixed[1:]:
        np.testing.assert_array_equal(cell.views[0].masked, fixed[0].views[0].masked)
        np.testing.assert_array_equal(cell.views[0].spectrogram, fixed[0].views[0].spectrogram)
    hidden = [float(cell.importance[0][cell.views[0].masked].sum()) for cell in scheduled]
    assert hidden[0] < hidden[1] < hidden[2]
    weights = np.sort(scheduled[2].importance[0].ravel())[::-1]
    assert hidden[2] == pytest.approx(float(weights[: GRID.cells - 9].sum()))  # 9 of 24 visible at ratio 0.6


def test_another_seed_is_another_crop_and_mask(small):
    first, again, other = (prepared(small, "two", seed=seed).cells[0][0].views[0] for seed in (3, None, 4))
    np.testing.assert_array_equal(first.masked, again.masked)
    np.testing.assert_array_equal(first.spectrogram, again.spectrogram)
    assert (first.masked != other.masked).any()
    assert (first.spectrogram != other.spectrogram).any()


def test_each_view_of_an_augmented_recipe_hears_its_own_reading(small):
    settings = [AUGMENT, "front_end.mean=-7.0", "front_end.std=4.0"]
    preview = prepared(small, "one", overrides=settings, maskers=["time-frequency", "dwm:views=2", "random"])
    pair, twice, single = preview.cells[0]
    loaded = load_recipe(small / "small.toml", settings)
    front_end = loaded.front_end.build(-7.0, 4.0)
    augment = Augmenter(loaded.augmentations, 16000)
    samples = front_end.samples_of(96)
    crops = CropDataset(load_clips(small / "one.wav"), 16000, samples, seed=3, augment=augment, views=2)
    heard, _ = front_end(torch.from_numpy(crops[(0, 0)].waveform))  # [2, F, T]
    for number, view in enumerate(pair.views):
        np.testing.assert_allclose(view.spectrogram, heard[number].numpy())
    assert (pair.views[0].spectrogram != pair.views[1].spectrogram).any()
    assert [len(set(map(tuple, pair.views[0].masked))), pair.views[1].masked.all(axis=1).sum()] == [1, 1]
    assert len(twice.importance) == 2
    assert (twice.importance[0] != twice.importance[1]).any()
    assert (len(single.views), single.importance) == (1, ())
    np.testing.assert_array_equal(single.views[0].spectrogram, pair.views[0].spectrogram)


def test_views_of_one_reading_share_spectrogram_and_importance(small):
    ((cell,),) = prepared(small, "one", maskers=["dwm:views=3"]).cells
    assert len(cell.views) == 3
    assert len(cell.importance) == 1
    assert cell.importance[0].shape == GRID
    np.testing.assert_array_equal(cell.views[0].spectrogram, cell.views[2].spectrogram)


def test_normalised_by_the_clip_the_recipe_or_the_run(small, small_run):
    own = prepared(small, "one")
    spectrogram = own.cells[0][0].views[0].spectrogram
    assert (own.normalised_by, prepared(small, "one", "two").normalised_by) == ("this clip", "these clips")
    assert abs(spectrogram.mean()) < 1e-4
    assert spectrogram.std() == pytest.approx(1.0, abs=1e-3)
    given = prepared(small, "one", overrides=["front_end.mean=-7.0", "front_end.std=4.0"])
    assert given.normalised_by == "the recipe"
    assert given.cells[0][0].views[0].spectrogram.mean() != pytest.approx(0.0, abs=1e-2)
    assert prepared(small, "one", recipe="run").normalised_by == "the run's data"


def test_short_clips_end_in_the_datas_mean_and_do_not_count_in_it(small):
    spectrogram = prepared(small, "short").cells[0][0].views[0].spectrogram
    assert (spectrogram[:, 60:] == 0).all()
    assert abs(spectrogram[:, :58].mean()) < 1e-3


def test_latents_are_the_untrained_students_or_those_of_the_run(small, small_run):
    untrained = prepared(small, "one", maskers=["sgim", "random"])
    assert [column.latents for column in untrained.columns] == ["untrained student", ""]
    trained = prepared(small, "one", recipe="run", maskers=["sgim", "sgim:latents='teacher'"])
    assert [column.latents for column in trained.columns] == ["trained student", "trained teacher"]
    ours, student, teacher = untrained.cells[0][0], *trained.cells[0]
    maps = [cell.importance[0] for cell in (ours, student, teacher)]
    assert all(each.shape == GRID for each in maps)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    assert np.abs(maps[1] - maps[2]).max() > 1e-3
    assert student.importance[0][student.views[0].masked].min() >= student.importance[0][~student.views[0].masked].max()


def test_bin_centres_rise_from_f_min_to_f_max(small):
    hz = prepared(small, "one").bin_hz
    assert len(hz) == 32
    assert (np.diff(hz) > 0).all()
    assert 50 < hz[0] < 150
    assert 7000 < hz[-1] < 8000
    kaldi = prepared(small, "one", overrides=["front_end={name='kaldi-fbank', n_fft=512, n_mels=32}"]).bin_hz
    np.testing.assert_allclose(kaldi, hz, rtol=0.4)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "no audio"),
        (("one",), {"progress": [0.0, 1.5]}, "progress 1.5 is outside 0 to 1"),
        (("one",), {"progress": [float("nan")]}, "outside 0 to 1"),
        (("absent",), {}, "no such file"),
        (("one", "silent"), {}, "silent.wav: the 0.97 s drawn from it are silent"),
        (("one",), {"recipe": "run", "overrides": ["seed=1"]}, "--set changes a recipe"),
    ],
)
def test_what_cannot_be_drawn_is_told(small, small_run, names, options, message):
    with pytest.raises(UsageError, match=message):
        prepared(small, *names, **options)


def test_folders_are_neither_audio_nor_without_a_run_a_source(small, tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        prepare_masks(small / "small.toml", [small])
    with pytest.raises(RunFolderError, match="not a run folder"):
        prepare_masks(tmp_path, [small / "one.wav"])


def test_a_teachers_latents_need_a_teacher(small):
    with pytest.raises(UsageError, match="no objective of the recipe has a teacher"):
        prepared(small, "one", overrides=["objective=[{name='reconstruction'}]"], maskers=["sgim:latents=teacher"])


def test_a_contrastive_recipe_can_be_asked_about_other_maskers(small):
    settings = ["objective=[{name='infonce'}]", "masker={name='time-frequency', pair='tt'}"]
    preview = prepared(small, "one", overrides=settings, maskers=["time-frequency", "random"])
    assert [len(cell.views) for cell in preview.cells[0]] == [2, 1]
    assert preview.cells[0][0].views[1].masked.all(axis=0).any()  # "tt" is kept: whole columns in the second view too


def test_maskers_take_the_recipes_ratio_unless_told_otherwise(small):
    loaded = load_recipe(small / "small.toml", ["masker.views=2"])
    texts = ["random", "random:ratio=0.5", "dwm", "dwm:ratio=0.3,metric=variance", "time-frequency"]
    built = maskers_of(loaded, texts)
    assert [one.label for one in built] == texts
    assert [getattr(one.masker.options, "ratio", None) for one in built] == [0.6, 0.5, 0.6, 0.3, None]
    assert [one.masker.views for one in built] == [2, 2, 1, 1, 2]
    assert built[3].masker.options.metric == "variance"
    assert [one.masker.options for one in maskers_of(loaded, [])] == [loaded.masker.options]


def test_all_mistakes_in_maskers_are_told_at_once(small):
    loaded = load_recipe(small / "small.toml")
    with pytest.raises(RecipeError) as caught:
        maskers_of(loaded, ["dmw", "dwm:ratoi=0.5", "random:ratio=2", "ibm:block", "random:=1"])
    told = caught.value.problems
    assert len(told) == 5
    for problem, words in zip(
        told, ("did you mean 'dwm'", "did you mean 'ratio'", "below 1, found 2", "'block' behind", "'=1'"), strict=True
    ):
        assert problem.startswith("--masker ")
        assert words in problem
