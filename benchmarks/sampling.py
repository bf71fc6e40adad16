"""Guided sampling at the published 256 px geometry, depth 4: seconds for the transformer, and for the decoder.

    python benchmarks/sampling.py            # about 4 minutes on 2 cores

Two threads, float32, cfg 1.5, top-k 900, top-p 0.96. The plain transformer is written here as a straightforward
implementation does it: caches that grow by concatenation, modulations recomputed at every scale, both guidance halves
through the head, filters over the whole sorted vocabulary, multinomial draws. The decoder has the released size (random
weights), in each memory format and precision, with the PSNR of its images (range -1…1) against float32.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from published import Memory, cell, in_fresh_process, matrix_peak, median_seconds
from record import print_table, recorded

from varscale.device import keep_freed_memory
from varscale.models.accounting import allowed_pairs, forward_flops
from varscale.models.sampling import SamplingConfig, sample_tokens
from varscale.models.shapes import VQVAEConfig
from varscale.models.var import MAX_HEAD_SCALE, VAR, init_weights
from varscale.models.vqvae import VQVAE

SAMPLING = SamplingConfig(guidance=1.5, top_k=900, top_p=0.96)
DECODER_FLOPS = 393.709e9
"""An image, at the released size: torch's flop counter on convolutions and 1x1 products (tests/models)."""


def plain_tokens(model: VAR, quantizer, labels: torch.Tensor) -> torch.Tensor:
    """Tokens [B, L] as a straightforward implementation draws them."""
    cfg, batch = model.cfg, len(labels)
    cond = model.class_emb(torch.cat((labels, torch.full_like(labels, cfg.num_classes))))
    position = model.lvl_embed(model.lvl_1L) + model.pos_1LC
    x = cond[:, None] + model.pos_start + position[:, :1]
    f_hat, caches, tokens = torch.zeros(batch, cfg.z_channels, 16, 16), [None] * cfg.depth, []
    for k, part in enumerate(quantizer.slices):
        for i, block in enumerate(model.layers()):
            x, caches[i] = _plain_block(block, x, block.ada_lin(cond).view(2 * batch, 1, 6, -1), caches[i])
        logits = F.linear(model.head_nm(x, cond), model.head.weight, model.head.bias)
        t = SAMPLING.guidance * k / (len(cfg.patch_nums) - 1)
        drawn = _plain_draw((1 + t) * logits[:batch] - t * logits[batch:])
        tokens.append(drawn)
        f_hat = f_hat + quantizer.contribution(k, quantizer.embedding(drawn))
        if k + 1 < len(cfg.patch_nums):
            after = slice(part.stop, part.stop + cfg.patch_nums[k + 1] ** 2)
            x = (model.word_embed(quantizer.next_input(k, f_hat)) + position[:, after]).repeat(2, 1, 1)
    return torch.cat(tokens, dim=1)


def _plain_block(block, x, modulation, cache):
    gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
    attn, (b, length, c) = block.attn, x.shape
    h = F.layer_norm(x, (c,), eps=1e-6) * (scale1 + 1) + shift1
    bias = torch.cat((attn.q_bias, attn.zero_k_bias, attn.v_bias))
    q, k, v = F.linear(h, attn.mat_qkv.weight, bias).view(b, length, 3, attn.heads, -1).permute(2, 0, 3, 1, 4)
    q = F.normalize(q, dim=-1) * attn.scale_mul_1H11.clamp_max(MAX_HEAD_SCALE).exp()
    k = F.normalize(k, dim=-1)
    if cache is not None:
        k, v = torch.cat((cache[0], k), dim=2), torch.cat((cache[1], v), dim=2)
    h = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).reshape(b, length, c)
    x = x + F.linear(h, attn.proj.weight, attn.proj.bias) * gamma1
    h = F.layer_norm(x, (c,), eps=1e-6) * (scale2 + 1) + shift2
    h = F.gelu(F.linear(h, block.ffn.fc1.weight, block.ffn.fc1.bias), approximate="tanh")
    return x + F.linear(h, block.ffn.fc2.weight, block.ffn.fc2.bias) * gamma2, (k, v)


def _plain_draw(logits: torch.Tensor) -> torch.Tensor:
    threshold = logits.topk(SAMPLING.top_k, largest=True, sorted=False, dim=-1)[0].amin(dim=-1, keepdim=True)
    logits = logits.masked_fill(logits < threshold, -torch.inf)
    ascending, order = logits.sort(dim=-1)
    drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - SAMPLING.top_p
    drop[..., -1] = False
    logits = logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
    return logits.softmax(dim=-1).flatten(0, 1).multinomial(1).view(logits.shape[:2])


def transformer(batch: int) -> tuple[float, float, float, int]:
    """Seconds of the plain and of our transformer, the peak FLOP/s, and the memory of ours in bytes."""
    keep_freed_memory()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = VAR(cell(4, batch).shape).eval()
    init_weights(model, adaln_gamma=0.5, head=3.0)
    quantizer, labels = VQVAE(VQVAEConfig()).quantize, torch.arange(batch)
    rate = matrix_peak()
    memory = Memory()
    ours = median_seconds(lambda: sample_tokens(model, quantizer, labels, range(batch), SAMPLING), 5)
    used = memory.peak()
    with torch.inference_mode():
        plain = median_seconds(lambda: plain_tokens(model, quantizer, labels), 5)
    return plain, ours, max(rate, matrix_peak()), used


def decoder(batch: int, dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[float, float, float, int]:
    """Seconds, PSNR in dB against float32, peak FLOP/s, memory in bytes."""
    keep_freed_memory()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig()).eval()
    f_hat = torch.randn(batch, 32, 16, 16)
    rate = matrix_peak()
    with torch.inference_mode():
        wanted = vqvae.decode_latent(f_hat)
        vqvae.to(memory_format=memory_format)
        work = functools.partial(vqvae.decode_latent, f_hat.to(memory_format=memory_format))
        memory = Memory()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            found = work()
            time = median_seconds(work, 3)
    error = (found.float() - wanted).square().mean().item()
    return time, 10 * math.log10(4 / error) if error else math.inf, max(rate, matrix_peak()), memory.peak()


def main() -> None:
    """Measure and print."""
    rows = []
    for batch in (2, 8):
        plain, ours, rate, memory = in_fresh_process(transformer, batch)
        flops = 2 * batch * forward_flops(cell(4, batch).shape, allowed_pairs)
        rows.append((f"transformer, batch {batch}", f"{ours:.3f}", f"{plain / ours:.2f}", f"{flops / ours / rate:.0%}",
                     f"{memory / 2**20:.0f}", ""))  # fmt: skip
    base = None
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            time, psnr, rate, memory = in_fresh_process(decoder, 2, dtype, layout)
            base = base or time
            name = f"decoder, batch 2, {str(dtype)[6:]} {str(layout)[6:]}"
            rows.append((name, f"{time:.3f}", f"{base / time:.2f}", f"{2 * DECODER_FLOPS / time / rate:.0%}",
                         f"{memory / 2**20:.0f}", f"{psnr:.1f}"))  # fmt: skip
    print_table(("part", "seconds", "× plain", "of fp32 peak", "MiB", "PSNR dB"), rows)


if __name__ == "__main__":
    with recorded(__file__):
        main()
