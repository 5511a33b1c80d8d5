#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/spm_vectors.py — records what sentencepiece and Hugging Face's tokenizers make of
# awkward text with a vocabulary of Llama's kind.
"""spm_vectors.py > tests/vectors/tokenizer-spm.txt
spm_vectors.py --compare BUILD/tests/tokenize [--count N] [--seed S]

The vocabulary is trained by sentencepiece with Llama's options. Lines of the output, read by
unit_tokenizer.c:
  v TYPE SCORE HEX    a token (GGUF token type, text), with the next free id
  t HEX IDS...        a text with special tokens recognised, and its tokens: sentencepiece's where
                      there are none, else those of the `tokenizers` package, set up as in the
                      tokenizer.json of transformers' LLaVA-1.5 (and of Llama 2)
  d IDS... = HEX      tokens and the text that sentencepiece decodes them to
--compare writes the vocabulary to a GGUF file and compares N random texts in the engine's tokenizer.
"""
import argparse
import io
import random
import subprocess
import sys
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizer_common import TEXTS, fuzz_texts
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import generate_merges

CONTROL, USER_DEFINED = 3, 4
SPECIALS = ["<s>", "</s>", "<image>", "<|im_end|>", "<think>"]
MORE = [" <s>a</s> b", "<image>\nDescribe <image>", "<image><image>", "x</s>", "</s", "<s", "<0x41>",
        "\u2581a \u2581", "USER: a\n ASSISTANT: b</s>USER:", "a<think> b", "\u2581", "[PAD3]", "<unk>"]


def train():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((" ".join(TEXTS) + " ").split("\n") * 2), model_writer=model,
        model_type="bpe", vocab_size=900, character_coverage=0.98, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=True, remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        control_symbols=["<image>", "<|im_end|>"], user_defined_symbols=["<think>"],
        minloglevel=2)
    return model.getvalue()


def pieces_of(model):
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    return [(p.piece, p.score, p.type) for p in proto.pieces]


def tokenizer_json(pieces):
    vocab = {text: i for i, (text, _, _) in enumerate(pieces)}
    merges = generate_merges(vocab, {text: score for text, score, _ in pieces})
    normal = {text for text, _, kind in pieces if kind == 1}
    merges = [m for m in merges if m[0] + m[1] in normal and m[0] in normal and m[1] in normal]
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(),
                                     decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_tokens([AddedToken(text, normalized=False, special=kind == CONTROL)
                    for text, _, kind in pieces if kind in (CONTROL, USER_DEFINED)])
    return tok


def expected(text, sp, tok):
    ids = tok.encode(text, add_special_tokens=False).ids
    if any(special in text for special in SPECIALS):
        return ids
    own = sp.encode(text)
    if own != ids:      # the tokenizers package breaks equal scores otherwise
        print(f"note: sentencepiece {own} and tokenizers {ids} of {text!r}", file=sys.stderr)
    return own


def write_gguf(path, pieces):
    from gguf import GGUFWriter
    w = GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list([p[0] for p in pieces])
    w.add_token_scores([p[1] for p in pieces])
    w.add_token_types([p[2] for p in pieces])
    w.add_eos_token_id(2)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def compare(args, pieces, sp, tok):
    texts = TEXTS + MORE + list(fuzz_texts(args.seed, args.count)) + [" ".join(TEXTS) * 20]
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        write_gguf(f.name, pieces)
        out = subprocess.run([args.compare, f.name, "--special"], check=True, capture_output=True,
                             text=True, input="\n".join(t.encode().hex() for t in texts) + "\n")
    bad = 0
    for text, line in zip(texts, out.stdout.splitlines(), strict=True):
        got, want = [int(x) for x in line.split()], expected(text, sp, tok)
        bad += got != want
        if got != want and bad <= 5:
            print(f"{text!r}\n  got  {got}\n  want {want}", file=sys.stderr)
    print(f"{len(texts)} texts, {bad} differ")
    sys.exit(bad != 0)


def decodings(pieces, count):
    """Random tokens, those of bytes as whole characters."""
    rng = random.Random(2)
    normal = [i for i, (_, _, kind) in enumerate(pieces) if kind in (1, USER_DEFINED)]
    byte_of = {text: i for i, (text, _, kind) in enumerate(pieces) if kind == 6}
    blank = next(i for i, p in enumerate(pieces) if p[0] == "\u2581")
    for _ in range(count):
        ids = [blank] * rng.choice((0, 0, 1, 2))
        for _ in range(rng.randint(1, 12)):
            if rng.random() < 0.7:
                ids.append(rng.choice(normal))
            else:
                char = rng.choice("\na\u00e9\ud55c\U0001f408\x00")
                ids += [byte_of[f"<0x{b:02X}>"] for b in char.encode()]
        yield ids


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", metavar="TOKENIZE")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model = train()
    pieces = pieces_of(model)
    sp, tok = sentencepiece.SentencePieceProcessor(model_proto=model), tokenizer_json(pieces)
    if args.compare:
        compare(args, pieces, sp, tok)
    print("# Made by tests/oracle/spm_vectors.py; do not edit.")
    for text, score, kind in pieces:
        print("v", kind, f"{score:g}", text.encode().hex())
    for text in TEXTS + MORE + list(fuzz_texts(1, 300)):
        print("t", text.encode().hex() or "-", *expected(text, sp, tok))
    for ids in decodings(pieces, 60):
        print("d", *ids, "=", sp.decode(ids).encode().hex() or "-")


if __name__ == "__main__":
    main()
