"""VAR: next-scale prediction by a transformer (Tian et al. 2024, arXiv 2404.02905), as a family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lawfit.records import schema
from varscale.families.family import Costs, Family, TokenFacts
from varscale.models import accounting
from varscale.models.shapes import VARConfig
from varscale.spec.study import Engine, Optimizer, Sizes

if TYPE_CHECKING:
    import torch

    from varscale.models.quantizer import MultiScaleQuantizer
    from varscale.models.sampling import SamplingConfig
    from varscale.models.var import VAR


@dataclass(frozen=True)
class VARFamily(Family[VARConfig, "VAR"]):
    """Width = aspect × depth, heads = depth, drop path = 0.1·depth/24."""

    name: str = "var"

    def shape(self, depth: int, facts: TokenFacts, sizes: Sizes, optimizer: Optimizer) -> VARConfig:
        return VARConfig.of_depth(
            depth,
            num_classes=facts.num_classes,
            vocab_size=facts.vocab_size,
            z_channels=facts.z_channels,
            patch_nums=facts.patch_nums,
            aspect=sizes.aspect,
            label_dropout=optimizer.label_dropout,
        )

    def costs(self, shape: VARConfig) -> Costs:
        return Costs(
            n_paper=accounting.paper_params(shape.depth, shape.width),
            n_params=accounting.exact_params(shape),
            flops_per_image=accounting.training_flops(shape, 1),
            executed_flops_per_image=accounting.training_flops(shape, 1, accounting.executed_pairs),
        )

    def worker_bytes(self, shape: VARConfig, micro_batch: int, zero_stage: int, workers: int, engine: Engine) -> int:
        half, checkpointing = engine.precision == "bf16", engine.activation_checkpointing
        return accounting.worker_bytes(shape, micro_batch, zero_stage, workers, half, checkpointing)

    def params(self, shape: VARConfig) -> dict[str, Any]:
        return {
            schema.MODEL_DEPTH: shape.depth,
            schema.MODEL_WIDTH: shape.width,
            schema.MODEL_HEADS: shape.heads,
            schema.MODEL_DROP_PATH: shape.drop_path,
        }

    def model_class(self) -> type[VAR]:
        from varscale.models.var import VAR

        return VAR

    def new_model(self, shape: VARConfig, optimizer: Optimizer, activation_checkpointing: bool) -> VAR:
        from varscale.models.var import VAR, init_weights

        model = VAR(shape, checkpoint_blocks=activation_checkpointing)
        init_weights(model, adaln_gamma=optimizer.adaln_gamma)
        return model

    def parameter_groups(self, model: VAR) -> list[dict[str, Any]]:
        from varscale.models.decay import groups_by_decay
        from varscale.models.var import is_decayed

        return groups_by_decay(model, is_decayed)

    def draws_per_image(self, shape: VARConfig) -> int:
        """One for label dropout, two per block for drop path."""
        return 1 + 2 * shape.depth

    def loss(
        self,
        model: VAR,
        quantizer: MultiScaleQuantizer,
        tokens: torch.Tensor,
        labels: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy over all tokens, in nats."""
        import torch

        with torch.no_grad():
            var_input = quantizer.var_input(tokens)
        return model(labels, var_input, tokens, draws)

    def logits(
        self, model: VAR, quantizer: MultiScaleQuantizer, tokens: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return model(labels, quantizer.var_input(tokens))

    def sample_tokens(
        self,
        model: VAR,
        quantizer: MultiScaleQuantizer,
        labels: torch.Tensor,
        indices: Sequence[int],
        sampling: SamplingConfig,
    ) -> torch.Tensor:
        from varscale.models.sampling import sample_tokens

        return sample_tokens(model, quantizer, labels, indices, sampling)
