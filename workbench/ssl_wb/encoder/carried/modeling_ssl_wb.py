"""An encoder of ssl-wb as a model of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ssl_wb.encoder.carried.configuration_ssl_wb import SslWbConfig
from ssl_wb.encoder.carried.portable import PortableEncoder

__all__ = ["SslWbModel"]


class SslWbModel(PreTrainedModel):
    """Waveforms to frames and clip embeddings, front end included; clips of any length.

    A clip's values do not depend on the rest of its batch. Weights may be in half precision: the front end computes in
    float32 all the same, and what comes out is float32.

    Args:
        config: of the encoder.
    """

    config_class = SslWbConfig
    base_model_prefix = "backbone"  # the file holds the backbone's tensors without a prefix
    main_input_name = "input_values"
    _keys_to_ignore_on_load_unexpected = [r"heads\."]
    _encoder: PortableEncoder

    def __init__(self, config: SslWbConfig) -> None:
        super().__init__(config)
        # No module of its own: it has no weights beside the backbone's.
        encoder = PortableEncoder(
            {name: getattr(config, name) for name in ("front_end", "backbone", "reading", "embedding", "frames")}
        )
        self.backbone = encoder.backbone
        object.__setattr__(self, "_encoder", encoder)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave weights as they are built: a checkpoint has them all."""

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **more: Any,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Embed clips.

        Args:
            input_values: ``[B, S]`` at the encoder's sample rate, full scale 1.
            attention_mask: ``[B, S]``, 1 for the samples of a clip, which come first; all unless given.
            output_hidden_states: return the frames of every block too.
            return_dict: False for a tuple.
            **more: not used.

        Returns:
            ``last_hidden_state`` ``[B, T, D]``, 0 after a clip's end, ``pooler_output`` ``[B, D]``, the published
            embedding, and ``hidden_states``, one ``[B, T, D]`` for each block; all float32.
        """
        del more
        lengths = None if attention_mask is None else attention_mask.sum(dim=1).long()
        found = self._encoder(input_values, lengths)
        output = BaseModelOutputWithPooling(
            last_hidden_state=found.frames,
            pooler_output=found.embedding,
            hidden_states=tuple(found.layers) if output_hidden_states else None,
        )
        return output if return_dict is not False else output.to_tuple()
