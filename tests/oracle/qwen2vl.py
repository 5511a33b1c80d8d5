# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/qwen2vl.py — Qwen2-VL and Qwen2.5-VL: a pair of files as transformers' model, and what
# its processors make of a case.
import gguf_model
import numpy as np
import torch
import transformers

SECOND = 1_000_000_000
# Of the published models: the system prompt of the chat template, limits of stills and of each frame
# of a film, positions for a second of film.
SYSTEM = "You are a helpful assistant."
IMAGE_MIN_PIXELS, IMAGE_MAX_PIXELS = 56 * 56, 28 * 28 * 16384
FRAME_MIN_PIXELS, FRAME_MAX_PIXELS = 28 * 28 * 128, 28 * 28 * 768
TOKENS_PER_SECOND = 2


class Qwen2Model(gguf_model.Model):
    archs = ("qwen2vl",)

    def make_config(self):
        a, t, v = self.arch, self.text, self.mmproj
        projector = v.key("clip.projector_type")
        if projector not in ("qwen2vl_merger", "qwen2.5vl_merger"):
            raise SystemExit(f"{v.path}: not the vision half of a Qwen2-VL model")
        self.is_25 = projector == "qwen2.5vl_merger"
        if v.key("clip.use_silu", False) != self.is_25 or v.key("clip.use_gelu", False):
            raise SystemExit(f"{v.path}: another activation than {projector} has")
        text = dict(
            vocab_size=int(t.tensors["token_embd.weight"].shape[1]),
            hidden_size=t.key(f"{a}.embedding_length"), num_hidden_layers=t.key(f"{a}.block_count"),
            num_attention_heads=t.key(f"{a}.attention.head_count"),
            num_key_value_heads=t.key(f"{a}.attention.head_count_kv"),
            intermediate_size=t.key(f"{a}.feed_forward_length"),
            max_position_embeddings=t.key(f"{a}.context_length"),
            rms_norm_eps=t.key(f"{a}.attention.layer_norm_rms_epsilon"),
            bos_token_id=None, eos_token_id=self.vocab["<|im_end|>"],
            rope_parameters=dict(
                rope_type="default", rope_theta=float(t.key(f"{a}.rope.freq_base")),
                mrope_section=list(t.key(f"{a}.rope.dimension_sections")[:3])))
        self.patch = v.key("clip.vision.patch_size")
        self.merge = v.key("clip.vision.spatial_merge_size", 2)
        self.mean = list(v.key("clip.vision.image_mean"))
        self.std = list(v.key("clip.vision.image_std"))
        self.min_pixels = v.key("clip.vision.image_min_pixels", IMAGE_MIN_PIXELS)
        self.max_pixels = v.key("clip.vision.image_max_pixels", IMAGE_MAX_PIXELS)
        layers = v.key("clip.vision.block_count")
        width, out = v.key("clip.vision.embedding_length"), v.key("clip.vision.projection_dim")
        ff = int(v.tensors["v.blk.0.ffn_up.weight"].shape[1])
        vision = dict(depth=layers, num_heads=v.key("clip.vision.attention.head_count"),
                      patch_size=self.patch, spatial_merge_size=self.merge, temporal_patch_size=2)
        if self.is_25:
            every = v.key("clip.vision.n_wa_pattern")
            vision.update(hidden_size=width, intermediate_size=ff, out_hidden_size=out,
                          window_size=v.key("clip.vision.window_size", 112),
                          fullatt_block_indexes=list(range(every - 1, layers, every)),
                          tokens_per_second=TOKENS_PER_SECOND)
        else:
            assert ff % width == 0
            vision.update(embed_dim=width, hidden_size=out, mlp_ratio=ff // width)
        cls = transformers.Qwen2_5_VLConfig if self.is_25 else transformers.Qwen2VLConfig
        return cls(text_config=text, vision_config=vision, tie_word_embeddings=False,
                   image_token_id=self.vocab["<|image_pad|>"],
                   video_token_id=self.vocab["<|video_pad|>"],
                   vision_start_token_id=self.vocab["<|vision_start|>"],
                   vision_end_token_id=self.vocab["<|vision_end|>"])

    def make_model(self):
        self.config._attn_implementation = "eager"
        cls = transformers.Qwen2_5_VLForConditionalGeneration if self.is_25 \
            else transformers.Qwen2VLForConditionalGeneration
        hf = cls(self.config).to(torch.float32).eval()
        inner, rope_index = hf.model, hf.model.get_rope_index
        self.moved = 0

        def behind_films(input_ids, *args, mm_token_type_ids, **kwargs):
            """transformers 5.3 to 5.24 put what follows a film behind its rows and columns, even
            when the film is longer than that; up to 5.2, and in the paper, it comes behind the
            largest position. (Equal for films shorter than wide.)"""
            positions, deltas = rope_index(input_ids, *args, mm_token_type_ids=mm_token_type_ids,
                                           **kwargs)
            kinds = mm_token_type_ids[0].tolist()
            for i in range(1, len(kinds)):
                if kinds[i - 1] == 2 and kinds[i] != 2:
                    start = next(j for j in range(i, -1, -1) if j == 0 or kinds[j - 1] != 2)
                    shift = positions[:, 0, start:i].max() + 1 - positions[:, 0, i].min()
                    positions[:, :, i:] += shift
                    self.moved = max(self.moved, int(shift))
            return positions, positions.amax((0, 2))[:, None] + 1 - len(kinds)
        inner.get_rope_index = behind_films
        return hf

    def text_weights(self):
        t, tree = self.text, "model.language_model."
        yield tree + "embed_tokens.weight", t.tensor("token_embd.weight")
        yield tree + "norm.weight", t.tensor("output_norm.weight")
        yield "lm_head.weight", t.tensor("output.weight" if t.has("output.weight")
                                         else "token_embd.weight")
        same = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
                "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
                "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
                "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
        for i in range(self.config.text_config.num_hidden_layers):
            layer, blk = f"{tree}layers.{i}.", f"blk.{i}."
            for ours, theirs in same.items():
                yield f"{layer}{ours}.weight", t.tensor(f"{blk}{theirs}.weight")
            for part in "qkv":
                yield f"{layer}self_attn.{part}_proj.bias", t.tensor(f"{blk}attn_{part}.bias")

    def vision_weights(self):
        v, tree = self.mmproj, "model.visual."
        parts = ("weight",) if self.is_25 else ("weight", "bias")     # of norms
        ffn = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"} \
            if self.is_25 else {"mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}
        yield tree + "patch_embed.proj.weight", torch.stack(
            [v.tensor("v.patch_embd.weight"), v.tensor("v.patch_embd.weight.1")], 2)
        for part in parts:
            yield f"{tree}merger.ln_q.{part}", v.tensor(f"v.post_ln.{part}")
        for part in ("weight", "bias"):
            yield f"{tree}merger.mlp.0.{part}", v.tensor(f"mm.0.{part}")
            yield f"{tree}merger.mlp.2.{part}", v.tensor(f"mm.2.{part}")
        for i in range(self.config.vision_config.depth):
            for part in parts:
                for n in "12":
                    yield f"{tree}blocks.{i}.norm{n}.{part}", v.tensor(f"v.blk.{i}.ln{n}.{part}")
            for part in ("weight", "bias"):
                for ours, theirs in {"attn.proj": "attn_out", **ffn}.items():
                    yield f"{tree}blocks.{i}.{ours}.{part}", v.tensor(f"v.blk.{i}.{theirs}.{part}")
                fused = f"v.blk.{i}.attn_qkv.{part}"
                yield f"{tree}blocks.{i}.attn.qkv.{part}", v.tensor(fused) if v.has(fused) \
                    else torch.cat([v.tensor(f"v.blk.{i}.attn_{x}.{part}") for x in "qkv"])


# ------------------------------------------------------------------------- as transformers sees it
def film_pixels(model, frames):
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    processor = Qwen2VLVideoProcessor(
        patch_size=model.patch, temporal_patch_size=2, merge_size=model.merge,
        image_mean=model.mean, image_std=model.std, do_sample_frames=False,
        cap_pixels_per_frame=True,
        size=dict(shortest_edge=FRAME_MIN_PIXELS, longest_edge=FRAME_MAX_PIXELS))
    frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    out = processor(videos=[frames], return_tensors="pt", input_data_format="channels_first")
    return out["pixel_values_videos"], out["video_grid_thw"][0].tolist()


def inputs_of(model, case, picture, image_pixels):
    """As cases.inputs_of()."""
    n_merge = model.merge * model.merge
    system = "".join(p[1] for p in case.parts if p[0] == "system") or SYSTEM
    prompt = expanded = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    images, films, grids, rates = [], [], {"image": [], "film": []}, []
    parts = [p for p in case.parts if p[0] != "system"]
    at = 0
    while at < len(parts):
        part = parts[at]
        at += 1
        if part[0] in ("text", "prompt"):
            prompt, expanded = prompt + part[1], expanded + part[1]
            continue
        if part[0] == "answer":
            turn = f"{model.known_open}{part[1]}<|im_end|>\n<|im_start|>user\n"
            prompt, expanded = prompt + turn, expanded + turn
            continue
        if part[0] == "image":
            pixels, grid = image_pixels(model, picture(*part[1:4]))
            images.append(pixels)
            pad = "<|image_pad|>"
        else:
            frames = [part]
            while at < len(parts) and parts[at][0] == "frame":
                frames.append(parts[at])
                at += 1
            pixels, grid = film_pixels(model, [picture(*f[1:4]) for f in frames])
            films.append(pixels)
            rates.append(SECOND / (frames[1][4] - frames[0][4]))
            pad = "<|video_pad|>"
        grids["image" if part[0] == "image" else "film"].append(grid)
        count = grid[0] * grid[1] * grid[2] // n_merge
        prompt += f"<|vision_start|>{pad}<|vision_end|>"
        expanded += f"<|vision_start|>{pad * count}<|vision_end|>"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    prompt, expanded = prompt + tail, expanded + tail

    ids = model.encode(expanded)
    image_pad, video_pad = model.banned()
    kinds = [1 if i == image_pad else 2 if i == video_pad else 0 for i in ids]
    inputs = dict(input_ids=torch.tensor([ids]),
                  attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                  mm_token_type_ids=torch.tensor([kinds], dtype=torch.int32))
    if images:
        inputs.update(pixel_values=torch.cat(images), image_grid_thw=torch.tensor(grids["image"]))
    if films:
        inputs.update(pixel_values_videos=torch.cat(films),
                      video_grid_thw=torch.tensor(grids["film"]))
        if model.is_25:
            inputs.update(second_per_grid_ts=torch.tensor([2 / rate for rate in rates]))
    return inputs, prompt, expanded
