#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/dual.py — dual encoders (CLIP, SigLIP) in transformers, against the engine.
"""dual.py MODEL.gguf [VISION.gguf] --vlm BUILD/tools/vlm [--labels FILE]
dual.py MODEL.gguf --out FILE.vec [--made-by ARGUMENTS]

Loads the file into transformers' CLIPModel or SiglipModel (float32, eager, one thread), with its own
image processor, and compares logits_per_image of a few pictures and labels with those of `vlm rank`,
or records them for tests/check_dual.c. The tokenizer is transformers' CLIPTokenizer, or for SigLIP
what its vocabulary gives in the package sentencepiece.
"""
import argparse
import json
import os
import subprocess
import tempfile

import cases
import gguf_model
import numpy as np
import torch
import transformers
import vec

SIZES = [(80, 80), (1, 1), (1, 400), (400, 1), (37, 53), (201, 149), (400, 800)]
LABELS = ["a photo of a cat", "Dogs!", "the red car's in the street", "a woman walks, running", "x",
          "Two   blue\ttriangles and 12 green squares?", "CAF\u00c9 caf\u00e9 \u4e2d \U0001f408",
          "a " * 90 + "cat"]


def merges_of(tokens):
    """The merges that the order of a CLIP vocabulary stands for: each token is made of two parts,
    those that the earlier merges leave of it."""
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for i, token in enumerate(tokens[512:-2], 512):
        body, end = (token[:-4], "</w>") if token.endswith("</w>") else (token, "")
        parts = list(body)
        parts[-1] += end
        while len(parts) > 2:
            pairs = [(ids.get(a + b, i), n) for n, (a, b) in enumerate(zip(parts, parts[1:]))]
            best, at = min(pairs)
            if best >= i:
                raise SystemExit(f"token {i} {token!r} is not made of two earlier ones")
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        merges.append(tuple(parts))
    return merges


def unigram(text):
    """The vocabulary of a SigLIP file as a model of sentencepiece."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    tokens, scores = text.key("tokenizer.ggml.tokens"), text.key("tokenizer.ggml.scores")
    for token, score, kind in zip(tokens, scores, text.key("tokenizer.ggml.token_type")):
        model.pieces.add(piece=token, score=float(score), type=int(kind))
    model.trainer_spec.model_type = 1
    eos, unk = (text.key(f"tokenizer.ggml.{k}_token_id") for k in ("eos", "unknown"))
    model.trainer_spec.unk_id, model.trainer_spec.eos_id = unk, eos
    model.trainer_spec.pad_id, model.trainer_spec.bos_id = -1, -1
    model.trainer_spec.unk_piece, model.trainer_spec.eos_piece = tokens[unk], tokens[eos]
    model.normalizer_spec.precompiled_charsmap = bytes(
        b & 255 for b in text.key("tokenizer.ggml.precompiled_charsmap", []) or [])
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    model.normalizer_spec.escape_whitespaces = True
    with tempfile.NamedTemporaryFile(suffix=".model", delete=False) as f:
        f.write(model.SerializeToString())
    sentencepiece.SentencePieceProcessor(model_file=f.name)
    return f.name


class Dual:
    def __init__(self, text_path, vision_path=None):
        self.text = gguf_model.File(text_path)
        self.vision = gguf_model.File(vision_path) if vision_path else self.text
        self.siglip = self.text.key("clip.model_type", "clip") == "siglip"
        self.config = self.make_config()
        cls = transformers.SiglipModel if self.siglip else transformers.CLIPModel
        self.config._attn_implementation = "eager"
        self.hf = cls(self.config).to(torch.float32).eval()
        self.load()
        self.size = self.vision.key("clip.vision.image_size")
        mean, std = (list(self.vision.key(f"clip.vision.image_{k}")) for k in ("mean", "std"))
        square = {"height": self.size, "width": self.size}
        self.processor = transformers.SiglipImageProcessor(
            size=square, image_mean=mean, image_std=std) if self.siglip else \
            transformers.CLIPImageProcessor(size={"shortest_edge": self.size}, crop_size=square,
                                            image_mean=mean, image_std=std)
        self.tokenizer = self.make_tokenizer()

    def make_config(self):
        def tower(file, name):
            return dict(
                hidden_size=file.key(f"clip.{name}.embedding_length"),
                intermediate_size=file.key(f"clip.{name}.feed_forward_length"),
                num_hidden_layers=file.key(f"clip.{name}.block_count"),
                num_attention_heads=file.key(f"clip.{name}.attention.head_count"),
                layer_norm_eps=file.key(f"clip.{name}.attention.layer_norm_epsilon"),
                hidden_act=act)
        gelu = "gelu_pytorch_tanh" if self.siglip else "gelu"
        act = gelu if self.text.key("clip.use_gelu", False) else "quick_gelu"
        dim = self.text.key("clip.text.projection_dim")
        tokens = self.text.key("tokenizer.ggml.tokens")
        end = self.text.key("tokenizer.ggml.eos_token_id") if self.siglip \
            else tokens.index("<|endoftext|>")
        text = dict(tower(self.text, "text"), vocab_size=len(tokens), eos_token_id=end,
                    bos_token_id=end, pad_token_id=end,
                    max_position_embeddings=self.text.key("clip.text.context_length"))
        vision = dict(tower(self.vision, "vision"),
                      image_size=self.vision.key("clip.vision.image_size"),
                      patch_size=self.vision.key("clip.vision.patch_size"))
        if self.siglip:
            return transformers.SiglipConfig(text_config=dict(text, projection_size=dim),
                                             vision_config=vision)
        return transformers.CLIPConfig(text_config=dict(text, projection_dim=dim),
                                       vision_config=dict(vision, projection_dim=dim),
                                       projection_dim=dim)

    def make_tokenizer(self):
        if self.siglip:
            return transformers.SiglipTokenizer(unigram(self.text), model_max_length=self.n_ctx())
        tokens = self.text.key("tokenizer.ggml.tokens")
        return transformers.CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)},
                                          merges=merges_of(tokens), model_max_length=self.n_ctx())

    def n_ctx(self):
        return self.text.key("clip.text.context_length")

    # ------------------------------------------------------------------ weights
    def weights(self):
        def both(ours, file, theirs):
            for part in ("weight", "bias"):
                yield f"{ours}.{part}", file.tensor(f"{theirs}.{part}")

        def tower(ours, file, letter, n):
            for i in range(n):
                layer, blk = f"{ours}.encoder.layers.{i}.", f"{letter}.blk.{i}."
                # Published files have the names of the perceptron's two layers swapped.
                up, down = ("ffn_up", "ffn_down") if file.tensors[
                    blk + "ffn_up.bias"].shape[0] != file.tensors[
                    blk + "ln1.bias"].shape[0] else ("ffn_down", "ffn_up")
                for a, b in (("layer_norm1", "ln1"), ("layer_norm2", "ln2"), ("mlp.fc1", up),
                             ("mlp.fc2", down), ("self_attn.q_proj", "attn_q"),
                             ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
                             ("self_attn.out_proj", "attn_out")):
                    yield from both(layer + a, file, blk + b)
        t, v = self.text, self.vision
        yield "text_model.embeddings.token_embedding.weight", t.tensor("t.token_embd.weight")
        yield "text_model.embeddings.position_embedding.weight", t.tensor("t.position_embd.weight")
        yield from both("text_model.final_layer_norm", t, "t.post_ln")
        yield from tower("text_model", t, "t", self.config.text_config.num_hidden_layers)
        yield "vision_model.embeddings.patch_embedding.weight", v.tensor("v.patch_embd.weight")
        yield "vision_model.embeddings.position_embedding.weight", v.tensor(
            "v.position_embd.weight")
        yield from both("vision_model.post_layernorm", v, "v.post_ln")
        yield from tower("vision_model", v, "v", self.config.vision_config.num_hidden_layers)
        if not self.siglip:
            yield "vision_model.embeddings.class_embedding", v.tensor("v.class_embd")
            yield from both("vision_model.pre_layrnorm", v, "v.pre_ln")
            yield "visual_projection.weight", v.tensor("visual_projection.weight")
            yield "text_projection.weight", t.tensor("text_projection.weight")
            yield "logit_scale", torch.tensor(t.key("clip.logit_scale", float(np.log(100))))
            return
        yield "vision_model.embeddings.patch_embedding.bias", v.tensor("v.patch_embd.bias")
        yield "vision_model.head.probe", v.tensor("v.head.probe").reshape(1, 1, -1)
        for part in ("weight", "bias"):
            yield f"vision_model.head.attention.in_proj_{part}", torch.cat(
                [v.tensor(f"v.head.attn_{k}.{part}") for k in "qkv"])
        for a, b in (("attention.out_proj", "attn_out"), ("layernorm", "ln"), ("mlp.fc1", "ffn_up"),
                     ("mlp.fc2", "ffn_down")):
            yield from both("vision_model.head." + a, v, "v.head." + b)
        yield from both("text_model.head", t, "t.head")
        for key in ("logit_scale", "logit_bias"):
            yield key, torch.tensor([t.key("clip." + key)])

    def load(self):
        parameters = dict(self.hf.named_parameters())
        with torch.no_grad():
            for name, value in self.weights():
                parameter = parameters.pop(name, None)
                if parameter is None or parameter.shape != value.shape:
                    raise SystemExit(f"{name}: {tuple(value.shape)} does not fit the model")
                parameter.copy_(value)
        if parameters:
            raise SystemExit(f"parameters without a tensor: {sorted(parameters)}")
        if self.text.left or self.vision.left:
            raise SystemExit(f"unused tensors {sorted(self.text.left | self.vision.left)}")

    # ------------------------------------------------------------------ results
    def ids(self, labels):
        return self.tokenizer(labels, padding="max_length", truncation=True,
                              max_length=self.n_ctx(), return_tensors="pt")["input_ids"]

    def pixels(self, picture):
        return self.processor(torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1),
                              return_tensors="pt")["pixel_values"]

    def run(self, pictures, labels):
        ids = self.ids(labels)
        pixels = torch.cat([self.pixels(p) for p in pictures])
        with torch.no_grad():
            out = self.hf(input_ids=ids, pixel_values=pixels)
            text, image = (first(f) for f in (self.hf.get_text_features(ids),
                                              self.hf.get_image_features(pixels)))
        return ids, pixels, text.numpy(), image.numpy(), out.logits_per_image.numpy()


def first(out):
    return out if isinstance(out, torch.Tensor) else out.pooler_output


def picture(size, index):
    return np.asarray(cases.picture(*size, index)).reshape(size[1], size[0], 3)


def compare(model, args, labels):
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for i, size in enumerate(SIZES):
            names.append(os.path.join(folder, f"{i}.png"))
            Image.fromarray(picture(size, i)).save(names[-1])
        listed = os.path.join(folder, "labels.txt")
        with open(listed, "w", encoding="utf-8") as f:
            f.writelines(label + "\n" for label in labels)
        command = [args.vlm, "rank", "--model", args.model[0], *names, "--labels", listed, "--json",
                   "--top", "0"]
        if len(args.model) > 1:
            command += ["--mmproj", args.model[1]]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _, _, _, _, want = model.run([picture(s, i) for i, s in enumerate(SIZES)], labels)
    worst = 0
    for line, row, size in zip(lines.splitlines(), want, SIZES):
        got = {x["label"]: x["logit"] for x in json.loads(line)["labels"]}
        got = np.array([got[label.strip()] for label in labels])
        error = np.abs(got - row).max() / np.abs(row).max()
        worst = max(worst, error)
        print(f"{size[0]}x{size[1]}: relative error of the logits {error:.1e}")
    print(f"worst {worst:.1e}")
    return worst


def record(model, args, labels):
    ids, pixels, text, image, logits = model.run([picture(s, i) for i, s in enumerate(SIZES)], labels)
    # The convolution leaves out what is no whole patch.
    side = model.size // model.config.vision_config.patch_size * model.config.vision_config.patch_size
    pixels = pixels[:, :, :side, :side]
    vec.write(args.out, {
        "made_by": args.made_by, "labels": "\n".join(labels),
        "pictures": np.array([(*s, i) for i, s in enumerate(SIZES)], np.int32),
        "input_ids": ids.numpy().astype(np.int32),
        "pixels_used": np.array([pixels[0].numel()], np.int32),
        "pixel_checksum": np.stack([vec.checksum(np.ascontiguousarray(p)) for p in pixels.numpy()]),
        "text_embeds": text.astype(np.float32), "image_embeds": image.astype(np.float32),
        "logits_per_image": logits.astype(np.float32)})


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    parser.add_argument("--vlm")
    parser.add_argument("--labels")
    parser.add_argument("--out")
    parser.add_argument("--made-by", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    labels = LABELS
    if args.labels:
        with open(args.labels, encoding="utf-8") as f:
            labels = [line.rstrip("\n") for line in f]
    model = Dual(*args.model)
    if args.out:
        record(model, args, labels)
    if args.vlm and compare(model, args, labels) > 1e-3:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
