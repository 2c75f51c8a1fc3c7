"""The model class for mteb: mteb itself on a miniature task, and a stand-in of its three classes where it is absent."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ssl_wb import load_encoder
from ssl_wb.encoder.formats.conformance import load_file, maeb_faults

ABSENT = importlib.util.find_spec("mteb") is None
RATE = 16000


def stand_in(patch) -> None:
    """Put what the model class imports of mteb in place."""

    class Collator:
        def __init__(self, *, target_sampling_rate):
            assert target_sampling_rate == RATE

        def __call__(self, rows):
            return {"audio": [row["audio"] for row in rows]}

    names = {
        "mteb": {},
        "mteb.models": {"ModelMeta": SimpleNamespace},
        "mteb.models.abs_encoder": {"AbsEncoder": object},
        "mteb.models.modality_collators": {"AudioCollator": Collator},
    }
    for name, values in names.items():
        module = ModuleType(name)
        vars(module).update(values)
        patch.setitem(sys.modules, name, module)


def clip(number: int, samples: int) -> np.ndarray:
    """Return a tone of one of two pitches in noise, ``[S]``."""
    time = np.arange(samples) / RATE
    noise = np.random.default_rng(number).standard_normal(samples)
    return (0.2 * np.sin(2 * np.pi * (400 + 1500 * (number % 2)) * time) + 0.02 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def model(exported):
    folder = exported("maeb")
    with pytest.MonkeyPatch.context() as patch:
        if ABSENT:
            stand_in(patch)
        yield load_file(folder / "maeb_model.py").load_model(device="cpu")


def test_the_model_for_mteb_conforms_and_mutated_ones_do_not(model, monkeypatch):
    assert maeb_faults(model) == []
    encode = model.encode
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda inputs, **more: encode(inputs, **more)[:, 1:])
        assert any("shape" in fault for fault in maeb_faults(model))
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda inputs, **more: encode(inputs, **more) + float(inputs.batch_size))
        assert any("rest of its batch" in fault for fault in maeb_faults(model))
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda inputs: encode(inputs))
        assert any("fails: TypeError" in fault for fault in maeb_faults(model))
    with monkeypatch.context() as patch:
        patch.setattr(model, "mteb_model_meta", None)
        assert maeb_faults(model)


def test_embeddings_are_those_of_the_encoder_whatever_the_batch(model, exported):
    from torch.utils.data import DataLoader

    lengths = [RATE, 2 * RATE, 700]
    rows = [{"audio": {"array": clip(n, samples), "sampling_rate": RATE}} for n, samples in enumerate(lengths)]
    found = model.encode(DataLoader(rows, batch_size=3, collate_fn=list))
    encoder = load_encoder(exported("encoder"))
    for number, samples in enumerate(lengths):
        expected = encoder.embed_clip(torch.from_numpy(clip(number, samples)))[0]
        assert_close(torch.from_numpy(found[number]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(ABSENT, reason="mteb is not installed")
def test_mteb_scores_the_model_on_a_miniature_task(model):
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    class Tones(AbsTaskClassification):
        metadata = TaskMetadata(
            name="Tones", description="Two pitches.", type="AudioClassification", category="a2c", modalities=["audio"],
            dataset={"path": "local/tones", "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"],
            main_score="accuracy", reference=None, date=None, domains=None, task_subtypes=None, license=None,
            annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation="",
        )  # fmt: skip
        input_column_name, label_column_name = "audio", "label"
        samples_per_label, n_experiments = 4, 2

        def load_data(self, **_):
            def rows(start):
                return Dataset.from_list(
                    [
                        {"audio": {"array": clip(n, RATE // 2).tolist(), "sampling_rate": RATE}, "label": n % 2}
                        for n in range(start, start + 16)
                    ]
                )

            self.dataset = DatasetDict({"train": rows(0), "test": rows(100)})
            self.data_loaded = True

    found = mteb.evaluate(model, Tones(), cache=None, overwrite_strategy="always", show_progress_bar=False)
    assert found.task_results[0].scores["test"][0]["accuracy"] > 0.9
