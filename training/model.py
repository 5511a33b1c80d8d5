# SPDX-License-Identifier: LGPL-2.1-or-later
# training/model.py — the default model: configuration, tokenizer, a batched forward pass
"""The weights live in transformers' Qwen3VLMoeForConditionalGeneration.  `encode` and `decode`
compute the same as its forward pass (check.py compares them) but batch frame pairs and take a
block mask, which transformers' own code does slowly on a CPU."""

import functools
import os

import numpy as np
import torch
import torch.nn.functional as F

import words
import world

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
QWEN2_RE = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTEXT = 2048


def corpus():
    """Sentences with every word of the world, for the tokenizer."""
    g = np.random.default_rng(5)
    out = ["user\n assistant\n system\n"] * 50 + ["<1.5 seconds> \n\n"] * 50
    out += (words.CAPTION_PROMPTS + words.STILL_PROMPTS) * 20
    out += ["You are a helpful assistant. Answer briefly."] * 20
    for seed in range(1500):
        film = world.make_film(seed, 2, 16 / 9)
        s = world.current(film, 4.0, 7.5)
        if s:
            out += [words.caption(s)] + [t for q in words.questions_now(g, s) for t in q[1:]]
        out += [t for q in words.questions_film(g, film, 0.0, 7.5) for t in q[1:]]
    return out


def make_tokenizer(vocab=None, merges=None):
    """The tokenizer trained on `corpus`, or one from a given vocabulary and its merges."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.BPE(vocab, merges) if vocab else models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_RE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    if not vocab:
        t.train_from_iterator(
            corpus(),
            trainers.BpeTrainer(
                vocab_size=1017,
                special_tokens=[],
                show_progress=False,
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            ),
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=t,
        eos_token="<|im_end|>",
        bos_token=None,
        pad_token="<|endoftext|>",
        unk_token=None,
        additional_special_tokens=SPECIALS,
    )


def make_config(tok):
    import transformers as T

    ids = {s: tok.convert_tokens_to_ids(s) for s in SPECIALS}
    text = dict(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        vocab_size=(len(tok) + 63) // 64 * 64,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        rope_parameters=dict(
            rope_type="default", rope_theta=1e4, mrope_interleaved=True, mrope_section=[6, 5, 5]
        ),
    )
    vis = dict(
        depth=4,
        hidden_size=128,
        intermediate_size=512,
        num_heads=4,
        patch_size=16,
        spatial_merge_size=2,
        temporal_patch_size=2,
        out_hidden_size=192,
        num_position_embeddings=144,
        hidden_act="gelu_pytorch_tanh",
        deepstack_visual_indexes=[1, 2],
    )
    return T.Qwen3VLMoeConfig(
        text_config=text,
        vision_config=vis,
        tie_word_embeddings=False,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def make_model(cfg, seed=1):
    import transformers as T

    torch.manual_seed(seed)
    cfg._attn_implementation = "sdpa"
    m = T.Qwen3VLMoeForConditionalGeneration(cfg).float()
    depth = {"language_model": cfg.text_config.num_hidden_layers, "visual": cfg.vision_config.depth}
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.dim() < 2:
                continue
            fan = p.shape[-1] if p.dim() < 4 else p[0].numel()
            std = fan**-0.5
            if name.endswith(
                ("o_proj.weight", "down_proj", "attn.proj.weight", "mlp.linear_fc2.weight")
            ):
                std /= (2 * depth["visual" if "visual" in name else "language_model"]) ** 0.5
            if "embed_tokens" in name:
                std = 0.3
            if "pos_embed" in name:
                std = 0.1
            if "lm_head" in name or "deepstack" in name and "fc2" in name:
                std *= 0.3
            p.normal_(0, std)
    return m


# ------------------------------------------------------------------------------ vision
def patches(frames, dtype=torch.float32):
    """uint8 [n, 2, H, W, 3] -> [n, patches, 1536], 2x2 blocks of patches together."""
    n, _, h, w, _ = frames.shape
    x = torch.from_numpy(np.ascontiguousarray(frames)).view(n, 2, h // 32, 2, 16, w // 32, 2, 16, 3)
    x = x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(n, h * w // 256, 1536)
    return x.to(torch.float32).div_(127.5).sub_(1.0).to(dtype)


@functools.lru_cache(maxsize=64)
def _grid(rows, cols, side, head):
    """Position table indices and weights, rope cos/sin for a grid of patches."""
    from transformers.models.qwen3_vl_moe import modeling_qwen3_vl_moe as M

    g = torch.tensor([[1, rows, cols]])
    idx, wt = M.get_vision_interpolation_indices_and_weights(
        g,
        num_grid_per_side=side,
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=2,
        kwargs={},
    )
    pos = M.get_vision_position_ids(g, 2, kwargs={})
    f = 1.0 / (10000.0 ** (torch.arange(0, head // 2, 2).float() / (head // 2)))
    a = torch.cat([pos[..., 0:1].float() * f, pos[..., 1:2].float() * f], -1)
    a = torch.cat([a, a], -1)
    return idx, wt, a.cos(), a.sin()


def _rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def _attend(q, k, v, mask=None):
    """Plain attention: on a CPU its backward pass is faster than the fused one."""
    w = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        w = w.masked_fill(~mask, float("-inf"))
    return torch.matmul(w.softmax(-1).to(v.dtype), v)


def _block(b, x, cos, sin, heads):
    """One layer of the vision encoder on x [n, patches, d]."""
    n, t, d = x.shape
    qkv = b.attn.qkv(b.norm1(x)).view(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    cos, sin = cos.to(q.dtype), sin.to(q.dtype)
    a = _attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
    x = x + b.attn.proj(a.transpose(1, 2).reshape(n, t, d))
    return x + b.mlp.linear_fc2(F.gelu(b.mlp.linear_fc1(b.norm2(x)), approximate="tanh"))


def encode(visual, x, rows, cols):
    """[n, patches, 1536] -> (main [n, tokens, d], [deepstack features])."""
    c = visual.config
    idx, wt, cos, sin = _grid(rows, cols, visual.num_grid_per_side, c.hidden_size // c.num_heads)
    pe = visual.patch_embed.proj
    x = F.linear(x, pe.weight.view(pe.weight.shape[0], -1), pe.bias)
    x = x + (visual.pos_embed(idx) * wt[:, :, None]).sum(1)
    deep = []
    for i, b in enumerate(visual.blocks):
        x = _block(b, x, cos, sin, c.num_heads)
        if i in c.deepstack_visual_indexes:
            deep.append(
                _merge(visual.deepstack_merger_list[c.deepstack_visual_indexes.index(i)], x, True)
            )
    return _merge(visual.merger, x, False), deep


def _merge(m, x, after):
    n, t, d = x.shape
    x = m.norm(x.reshape(n, t // 4, 4 * d)) if after else m.norm(x).reshape(n, t // 4, 4 * d)
    return m.linear_fc2(F.gelu(m.linear_fc1(x)))


# -------------------------------------------------------------------------------- text
def _rms(norm, x):
    return F.rms_norm(x.float(), (x.shape[-1],), norm.weight, norm.variance_epsilon)


class _Experts(torch.autograd.Function):
    """Sum over the k chosen experts of x [n, d]: weight [n, k] times down(silu(gate x) * up x).
    Tokens are sorted by expert, so that each expert is one matrix product; sorting back is a
    permutation in both directions, which is much faster than autograd's scattered additions."""

    @staticmethod
    def forward(ctx, x, weight, which, gate_up, down):
        n, k = which.shape
        order = which.reshape(-1).argsort()
        back = order.argsort()
        at = [0, *which.reshape(-1).bincount(minlength=len(down)).cumsum(0).tolist()]
        xs = x[order // k]
        gu = x.new_empty(n * k, gate_up.shape[1])
        ys = x.new_empty(n * k, x.shape[1])
        gate_up, down = gate_up.to(x.dtype), down.to(x.dtype)
        for e, (i, j) in enumerate(zip(at, at[1:])):
            torch.mm(xs[i:j], gate_up[e].t(), out=gu[i:j])
        g, u = gu.chunk(2, -1)
        h = F.silu(g) * u
        for e, (i, j) in enumerate(zip(at, at[1:])):
            torch.mm(h[i:j], down[e].t(), out=ys[i:j])
        y = ys[back].view(n, k, -1)
        ctx.save_for_backward(weight, order, back, xs, gu, h, y, gate_up, down)
        ctx.at = at
        return torch.bmm(weight.to(x.dtype)[:, None], y)[:, 0].float()

    @staticmethod
    def backward(ctx, grad):
        weight, order, back, xs, gu, h, y, gate_up, down = ctx.saved_tensors
        n, k, d = y.shape
        grad = grad.to(xs.dtype)
        d_weight = torch.bmm(y, grad[:, :, None])[..., 0].float()
        d_ys = grad[order // k] * weight.reshape(-1)[order, None].to(xs.dtype)
        g, u = gu.chunk(2, -1)
        d_h, d_xs = torch.empty_like(h), torch.empty_like(xs)
        d_gate_up, d_down = (torch.empty_like(t, dtype=xs.dtype) for t in (gate_up, down))
        for e, (i, j) in enumerate(zip(ctx.at, ctx.at[1:])):
            torch.mm(d_ys[i:j], down[e], out=d_h[i:j])
            torch.mm(d_ys[i:j].t(), h[i:j], out=d_down[e])
        s = g.sigmoid()
        d_gu = torch.cat([d_h * u * s * (1 + g * (1 - s)), d_h * g * s], -1)
        for e, (i, j) in enumerate(zip(ctx.at, ctx.at[1:])):
            torch.mm(d_gu[i:j], gate_up[e], out=d_xs[i:j])
            torch.mm(d_gu[i:j].t(), xs[i:j], out=d_gate_up[e])
        d_x = d_xs[back].view(n, k, d).sum(1)
        return d_x, d_weight, None, d_gate_up.float(), d_down.float()


def _route(layer, x):
    """Normed states of x [tokens, d] with, per token, the chosen experts' weights and numbers, and
    each expert's mean probability."""
    x = _rms(layer.post_attention_layernorm, x)
    p = F.linear(x, layer.mlp.gate.weight).softmax(-1)
    top, which = p.topk(layer.mlp.gate.top_k, -1)
    return x, top / top.sum(-1, keepdim=True), which, p.mean(0)


def _mix(layer, x, cos, sin, mask, past):
    """Attention of one layer on x [B, S, d]; returns the new x, keys and values."""
    at, (b, s, _) = layer.self_attn, x.shape
    h = _rms(layer.input_layernorm, x)
    q = _rms(at.q_norm, at.q_proj(h).view(b, s, -1, at.head_dim)).transpose(1, 2)
    k = _rms(at.k_norm, at.k_proj(h).view(b, s, -1, at.head_dim)).transpose(1, 2)
    v = at.v_proj(h).view(b, s, -1, at.head_dim).transpose(1, 2)
    q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    r = at.num_key_value_groups
    a = _attend(q, k.repeat_interleave(r, 1), v.repeat_interleave(r, 1), mask)
    return x + at.o_proj(a.transpose(1, 2).reshape(b, s, -1)), k, v


def decode(lm, x, pos, mask, where=None, deep=(), cache=None):
    """Decoder on embeddings x [B, S, d], positions pos [3, B, S], bool mask [B, 1, S, S]; `where`
    [B, S] marks vision tokens; `cache`, a list, holds each layer's keys and values so far and is
    extended.
     Returns normed states and the balance loss."""
    with torch.autocast("cpu", enabled=False):
        cos, sin = lm.rotary_emb(x.float(), pos)
    cos, sin = cos[:, None], sin[:, None]
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    balance = 0.0
    b, s, _ = x.shape
    seen = where.view(-1).nonzero()[:, 0] if where is not None else None
    for i, layer in enumerate(lm.layers):
        past = cache[i] if cache is not None and i < len(cache) else None
        x, k, v = _mix(layer, x, cos, sin, mask, past)
        if cache is not None:
            cache[i:] = [(k, v)]
        ex = layer.mlp.experts
        h, top, which, p = _route(layer, x.view(b * s, -1))
        y = _Experts.apply(h.to(half), top, which, ex.gate_up_proj, ex.down_proj)
        share = which.reshape(-1).bincount(minlength=ex.num_experts) / len(which)
        x, balance = x + y.view(b, s, -1), balance + ex.num_experts * (share * p).sum()
        if i < len(deep) and seen is not None:
            x = x.view(b * s, -1).index_add(0, seen, deep[i].reshape(-1, x.shape[-1]).to(x.dtype))
            x = x.view(b, s, -1)
    return _rms(lm.norm, x), balance / len(lm.layers)


# -------------------------------------------------------------------------- generation
@torch.no_grad()
def see(m, build, frames, times, system="", image=False):
    """Prefill of a film: uint8 frames [pairs, 2, H, W, 3], a time per pair.

    Returns (cache, next position)."""
    h, w = frames.shape[2:4]
    ids, pos, cuts = build.trunk(h // 32, w // 32, times, system, image=image)
    main, deep = encode(m.model.visual, patches(frames), h // 16, w // 16)
    ids, pos = torch.tensor([ids]), torch.from_numpy(pos)[:, None]
    where = (ids == build.video) | (ids == build.image)
    x = m.model.language_model.embed_tokens(ids)
    x = x.masked_scatter(where[..., None], main.reshape(-1, x.shape[-1]))
    cache, n = [], ids.shape[1]
    decode(
        m.model.language_model,
        x,
        pos,
        torch.ones(1, 1, n, n, dtype=torch.bool).tril(),
        where,
        deep,
        cache,
    )
    return cache, cuts[-1][1]


@torch.no_grad()
def ask(m, build, seen, prompt, most=64):
    """Greedy answer on a fork of what `see` returned."""
    cache, p = list(seen[0]), seen[1]
    ids, out = build.fork(prompt)[0], []
    while len(out) < most:
        n, old = len(ids), cache[0][0].shape[2]
        x = m.model.language_model.embed_tokens(torch.tensor([ids]))
        pos = torch.arange(p, p + n).expand(3, 1, n)
        mask = torch.ones(1, 1, n, old + n, dtype=torch.bool).tril(old)
        h, _ = decode(m.model.language_model, x, pos, mask, cache=cache)
        p += n
        t = int(m.lm_head(h[0, -1]).argmax())
        if t == build.end:
            break
        out.append(t)
        ids = [t]
    return build.tok.decode(out)
