"""Properties of the transformer that training stands on."""

import math

import torch
import torch.nn.functional as F

from varscale.models.scales import scale_slices
from varscale.models.shapes import VARConfig
from varscale.models.var import VAR, init_weights

CFG = VARConfig(3, 48, 3, 9, 64, 8, (1, 2, 4), drop_path=0.1)


def model(**changes: float) -> VAR:
    torch.manual_seed(0)
    var = VAR(CFG)
    init_weights(var, **changes)
    return var


def test_training_starts_at_the_entropy_of_the_vocabulary() -> None:
    var = model(adaln_gamma=1e-3).eval()
    logits = var(torch.arange(4), torch.randn(4, CFG.seq_len - 1, 8))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(64, (4 * CFG.seq_len,)))
    assert abs(loss.item() - math.log(64)) < 0.01


def test_no_scale_sees_a_later_one() -> None:
    var = model(adaln_gamma=0.5, head=1.0).eval()
    x = torch.randn(1, CFG.seq_len - 1, 8)
    base = var(torch.zeros(1, dtype=torch.long), x)
    for part in scale_slices(CFG.patch_nums)[1:]:
        changed = x.clone()
        changed[:, part.start - 1 : part.stop - 1] += 1
        difference = (var(torch.zeros(1, dtype=torch.long), changed) - base).abs().amax(dim=(0, 2))
        assert difference[: part.start].max() == 0
        assert difference[part].min() > 0


def test_labels_drop_in_training_only() -> None:
    var = model(adaln_gamma=0.5, head=1.0)
    dropped = var._drop_labels(torch.zeros(4, dtype=torch.long), torch.tensor([0.0, 0.09, 0.1, 0.99]))
    assert dropped.tolist() == [CFG.num_classes, CFG.num_classes, 0, 0]
    labels, inputs = torch.zeros(2, dtype=torch.long), torch.randn(2, CFG.seq_len - 1, 8)
    draws = torch.zeros(2, 1 + 2 * CFG.depth)
    assert torch.equal(var.eval()(labels, inputs, draws=draws), var(labels, inputs))
    assert not torch.equal(var.train()(labels, inputs, draws=draws), var.eval()(labels, inputs))


def test_bf16_autocast_keeps_the_loss() -> None:
    var = model(adaln_gamma=0.5, head=1.0).eval()
    x, target = torch.randn(4, CFG.seq_len - 1, 8), torch.randint(64, (4 * CFG.seq_len,))
    with torch.no_grad():
        full = F.cross_entropy(var(torch.arange(4), x).flatten(0, 1), target)
        with torch.autocast("cpu", torch.bfloat16):
            logits = var(torch.arange(4), x)
    assert logits.dtype == torch.float32
    assert abs(F.cross_entropy(logits.flatten(0, 1), target) / full - 1) < 0.01
