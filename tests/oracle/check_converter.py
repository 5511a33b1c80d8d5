#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/check_converter.py — gguf_model.py on files made by llama.cpp's own converter.
"""check_converter.py CONVERT_HF_TO_GGUF.py [--keep DIR]

Makes a random model of each family with transformers, saves it as published checkpoints are,
converts it with llama.cpp's convert_hf_to_gguf.py and reads the pair back with gguf_model.py.
Every parameter, every logit of a case with two pictures and the token ids of a text must be equal
to the original's, bit by bit (Qwen3.5's A_log, which files hold as -exp(A_log), to 1e-6). Exit
status 0: they are.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import cases
import torch
import transformers
import gguf_model
from gguf_model import QWEN2_SPLIT, QWEN35_SPLIT

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|image_pad|>", "<|video_pad|>", "<think>", "</think>"]
CORPUS = ["The quick brown fox jumps over the lazy dog. Describe this video in detail.\n\n",
          "A large red circle moves left; it's past 1234 small squares, isn't it?\n",
          "\u0915\u094d\u0937 \u0e01\u0e33\u0e25\u0e31\u0e07 q\u0307\u0323\n"] * 8


def is_qwen35(family):
    return family.startswith("qwen35")


def tokenizer(family):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN35_SPLIT if is_qwen35(family) else QWEN2_SPLIT),
                             behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=400, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL)


def qwen2_config(family, tok, ids):
    """Of the size "tiny" of random_model.c."""
    text = dict(vocab_size=(len(tok) + 63) // 64 * 64, hidden_size=128, num_hidden_layers=4,
                num_attention_heads=4, num_key_value_heads=2, intermediate_size=256,
                max_position_embeddings=8192, rms_norm_eps=1e-6, bos_token_id=None,
                eos_token_id=tok.convert_tokens_to_ids("<|im_end|>"),
                rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[4, 6, 6]))
    vision = dict(depth=4, num_heads=4, patch_size=14, spatial_merge_size=2, temporal_patch_size=2)
    if family == "qwen2vl":
        vision.update(embed_dim=64, hidden_size=128, mlp_ratio=2)
    else:
        vision.update(hidden_size=64, intermediate_size=128, out_hidden_size=128, window_size=112,
                      fullatt_block_indexes=[1, 3], tokens_per_second=2)
    kind = "Qwen2VL" if family == "qwen2vl" else "Qwen2_5_VL"
    return kind, getattr(transformers, kind + "Config")(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)


def random_model(family, tok):
    """A small model whose every parameter differs from its neighbours."""
    ids = {t: tok.convert_tokens_to_ids(t) for t in SPECIAL}
    ids = dict(image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
               vision_start_token_id=ids["<|vision_start|>"],
               vision_end_token_id=ids["<|vision_end|>"])
    make = qwen2_config if family.startswith("qwen2") else qwen3_config
    kind, config = make(family, tok, ids)
    config._attn_implementation = "eager"
    hf = getattr(transformers, kind + "ForConditionalGeneration")(config).to(torch.float32).eval()
    for module in hf.modules():
        sub = getattr(module, "config", None)
        if sub is not None and hasattr(sub, "_experts_implementation"):
            sub._experts_implementation = "eager"
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in hf.parameters():
            noise = torch.randn(p.shape, generator=generator)
            # Steps of 2^-12 near 0 and 1: files have some norms with 1 added, which is then exact.
            p.copy_(noise / p.shape[-1] ** 0.5 if p.dim() > 1
                    else torch.round((p + 0.1 * noise) * 4096) / 4096)
    return hf


def qwen3_config(family, tok, ids):
    text = dict(vocab_size=(len(tok) + 63) // 64 * 64, hidden_size=64, num_hidden_layers=3,
                num_attention_heads=4, num_key_value_heads=2, head_dim=32, intermediate_size=96,
                max_position_embeddings=4096, rms_norm_eps=1e-6,
                rope_parameters=dict(rope_type="default", rope_theta=5e6, mrope_interleaved=True,
                                     mrope_section=[6, 5, 5]))
    if family == "qwen3vlmoe":
        text.update(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32)
    if is_qwen35(family):       # the sizes of make-model's "tiny"
        text.update(hidden_size=128, num_hidden_layers=4, intermediate_size=256,
                    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=32,
                    linear_value_head_dim=32,
                    rope_parameters=dict(rope_type="default", rope_theta=1e7, mrope_interleaved=True,
                                         partial_rotary_factor=0.5, mrope_section=[3, 3, 2]))
    if family == "qwen35moe":
        text.update(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64,
                    shared_expert_intermediate_size=64)
    vision = dict(depth=4, hidden_size=48, intermediate_size=80, num_heads=4, patch_size=16,
                  spatial_merge_size=2, temporal_patch_size=2, out_hidden_size=64,
                  num_position_embeddings=36, hidden_act="gelu_pytorch_tanh",
                  deepstack_visual_indexes=[1, 2])
    if is_qwen35(family):
        del vision["deepstack_visual_indexes"]
        vision.update(hidden_size=64, intermediate_size=128, out_hidden_size=128)
    kind = dict(qwen3vl="Qwen3VL", qwen3vlmoe="Qwen3VLMoe", qwen35="Qwen3_5",
                qwen35moe="Qwen3_5Moe")[family]
    return kind, getattr(transformers, kind + "Config")(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)


def save_as_published(hf, folder):
    """Published checkpoints keep stacked experts as [expert, in, out], the module [expert, out,
    in]; what save_pretrained() writes depends on the version of transformers."""
    from safetensors.torch import load_file, save_file
    hf.save_pretrained(folder)
    path, live, changed = os.path.join(folder, "model.safetensors"), dict(hf.named_parameters()), False
    state = load_file(path)
    for name in state:
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")) \
                and state[name].shape == live[name].shape and torch.equal(state[name], live[name]):
            state[name] = state[name].transpose(1, 2).contiguous()
            changed = True
    if changed:
        save_file(state, path, metadata={"format": "pt"})


# Runs the converter with the one method replaced that recognises published vocabularies.
SHIM = """
import importlib.util, os, sys
path = sys.argv[1]
sys.argv = sys.argv[1:]
for folder in (os.path.dirname(os.path.abspath(path)), "/usr/share/llama.cpp/llama.cpp-tools"):
    if os.path.isdir(os.path.join(folder, "conversion")):
        sys.path.insert(0, folder)
        break
spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", path)
module = importlib.util.module_from_spec(spec)
sys.modules["convert_hf_to_gguf"] = module
spec.loader.exec_module(module)
try:
    from conversion.base import TextModel
except ImportError:
    TextModel = getattr(module, "TextModel", None) or module.Model
TextModel.get_vocab_base_pre = lambda self, tokenizer: os.environ["PRE_TOKENIZER"]
module.main()
"""


def convert(converter, family, folder, out, *extra):
    env = dict(os.environ, PRE_TOKENIZER="qwen35" if is_qwen35(family) else "qwen2")
    local = os.path.join(os.path.dirname(os.path.abspath(converter)), "gguf-py")
    if os.path.isdir(local):
        env["PYTHONPATH"] = local + os.pathsep + env.get("PYTHONPATH", "")
    done = subprocess.run([sys.executable, "-c", SHIM, converter, folder, "--outtype", "f32",
                           "--outfile", out, *extra], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"the converter failed:\n{done.stderr[-3000:]}")


def check(family, converter, folder):
    source = os.path.join(folder, family)
    tok = tokenizer(family)
    hf = random_model(family, tok)
    save_as_published(hf, source)
    tok.save_pretrained(source)
    with open(os.path.join(source, "preprocessor_config.json"), "w") as file:
        json.dump(dict(patch_size=14 if family.startswith("qwen2") else 16, temporal_patch_size=2,
                       merge_size=2, image_mean=[.5] * 3, image_std=[.5] * 3), file)
    pair = [os.path.join(folder, f"{family}-{part}.gguf") for part in ("text", "mmproj")]
    # (These models have no layers that predict further ahead.)
    convert(converter, family, source, pair[0], *(["--no-nextn"] if is_qwen35(family) else []))
    convert(converter, family, source, pair[1], "--mmproj")
    model = gguf_model.load(*pair)

    theirs, same = dict(model.hf.named_parameters()), True
    with torch.no_grad():
        for name, p in hf.named_parameters():
            if name.endswith(".A_log"):
                same = same and torch.allclose(p, theirs[name], 1e-6, 1e-6)
                theirs[name].copy_(p)
            same = same and torch.equal(p, theirs[name])
    text = "It's 12 o'clock,  isn't it?\n\n<|im_start|>The fox<|im_end|> \u0915\u094d\u0937"
    same_ids = model.encode(text) == tok.encode(text)
    case = cases.Case("", [("image", 100, 60, 0), *cases.film(64, 64, 3, 2), ("prompt", "What?")])
    inputs = cases.inputs_of(model, case)[0]
    torch.set_num_threads(1)
    with torch.no_grad():
        same_logits = torch.equal(hf(**inputs, use_cache=False).logits,
                                  model.hf(**inputs, use_cache=False).logits)
    print(f"{family}: parameters equal: {same}, ids equal: {same_ids}, logits equal: {same_logits}")
    return same and same_ids and same_logits


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("converter")
    parser.add_argument("--keep", help="folder to work in; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or temporary
        os.makedirs(folder, exist_ok=True)
        good = [check(family, args.converter, folder)
                for family in ("qwen2vl", "qwen2.5vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe")]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
