# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/tokenizer_common.py — texts and tokenizers for comparing with Hugging Face tokenizers.
"""Needs the Python package tokenizers; nothing is downloaded."""
import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, trainers

# The pre-tokenizer of Qwen2 to Qwen3-VL, as their tokenizer.json has it.
QWEN2_RE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

LLAMA3_RE = QWEN2_RE.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# That of Qwen3.5: combining marks belong to the letters.
QWEN35_RE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
             r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# Special tokens: text, special flag. Two share a beginning, one is not ASCII, some are not special.
SPECIALS = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
            ("<|im_end|>x", True), ("<|vision_start|>", True), ("<|vision_end|>", True),
            ("<|image_pad|>", True), ("<|video_pad|>", True), ("<tool_call>", False),
            ("</tool_call>", False), ("<think>", False), ("</think>", False), ("\u2401end", False)]

TEXTS = [
    "The quick brown fox jumps over the lazy dog. It's the dog's; we're sure they'll've said I'd",
    "IT'Sx I'M\u00e9 d'LLama 'tis 'T\u017f '\u017fx 'REx 'VEx 'Dx",
    "IT'S HE'LL WE'RE I'M YOU'VE 'S 'T 'RE 'll's '\u017f \u017fs 'm\u00e9",
    "fichier r\u00e9sum\u00e9 na\u00efve co\u00f6perate \u00c5ngstr\u00f6m \u1e9e \u0130stanbul",
    "e\u0301 a\u0308\u0323 a\u0323\u0308 \u1100\u1161\u11a8 \u0958 \u2126 \ufb01 q\u0307\u0323",
    "\uace0\uc591\uc774\uac00 \ub2ec\ub9b0\ub2e4. \ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4!",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a \u0e01\u0e33\u0e25\u0e31\u0e07",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u732b\u548c\u72d7\uff0c\u3000\u5168\u89d2\u3000",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c \u30cb\u30e3\u30fc \u30ab\u3099 \uff76\uff9e",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0661\u0662\u0663",
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0967\u0968",
    "\U0001f408\u200d\u2b1b \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f0\U0001f1f7 \u2764\ufe0f",
    "def f(x):\n    return x**2  # comment\n\n\nif __name__ == '__main__':\n\tprint(f(3))\n",
    "for (int i = 0; i < n; i++) { a[i] += b[i] ?: 0x1F; }\r\n\r\n  // done\r\n",
    "a  b   c    d\t\te \t f\n g\n\n h \n \n i\r\n\r\nj   ", "   ", " ", "\n", "\n\n\n", " \n ",
    "\u00a0x\u2003y\u3000z\u180ew\u200bv\u0085u\u2028t\u2029s\x1cr\x0bq\x0cp",
    " \u180e\u180e! \u180e\n \u0085\u0085 \u2028\n \u00a0\u3000 x  \u1680!",
    "12345 3.14159 1,000,000 \u00bd \u2167 \u0663\u0664 x\u00b2 H\u2082O 4th 1st",
    "\x00\x01\x02 \x7f \x1b[31m", "\ufffd \ufeffbom \ue000 \U0010ffff \ufdd0",
    "https://example.org/a?b=c&d=%20#e user@example.org C:\\dir\\file.txt",
    "...!!!???  --- *** ### ~~~ ||| <<<>>> $100 50% (a)[b]{c} \"q\" 'q' `q`",
    "<0.2 seconds><1.2 seconds><12.5 seconds> <|im_start|user|> <|im_end|",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n<|im_end|>xy",
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|><tool_call>{\"a\": 1}</tool_call>",
    "a\u2401end b\u2401en <think>e\u0301</think>\u0301 <|im_end|>\u0301", "<<|im_end|>>",
    "I", "'", "''s", " 's", "\u2019s don\u2019t", "\u0301", "\u0301\u0301\u0323", "A\u030a\u0323",
]


def fuzz_texts(seed, count):
    """Random mixtures of awkward pieces."""
    rng = random.Random(seed)
    pieces = ([" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "\u180e", "'s", "'LL", "'", "."]
              + ["a", "B", "the", " the", "\u00e9", "e\u0301", "\u0323", "\u1161", "\u11a8", "\u1100"]
              + ["1", "\u0663", "\u00bd", "\u732b", "\uace0", "\u0e31", "\U0001f408", "\u200d", "\x00"]
              + [t for t, _ in SPECIALS] + ["<|", "|>", "<think", "\u017f", "\u212a", "_", "-", "!!"])
    for _ in range(count):
        n = rng.randint(1, 14)
        text = "".join(rng.choice(pieces) for _ in range(n))
        if rng.random() < 0.5:
            text += "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(160, 0x250),
                                            rng.randrange(0x300, 0x370), rng.randrange(0x900, 0xa00),
                                            rng.randrange(0x1e00, 0x2000),
                                            rng.randrange(0x1f300, 0x1f600)]))
                            for _ in range(rng.randint(1, 8)))
        # U+09FE got its combining class in Unicode 11; the normaliser of tokenizers is older.
        yield text.replace("\u09fe", "")


def make_tokenizer(pre="qwen2", n_tokens=700):
    """Byte-level BPE as Qwen's (qwen2, qwen35), SmolLM2's or Llama 3's, trained on TEXTS, with
    SPECIALS."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN35_RE if pre == "qwen35" else QWEN2_RE),
                             behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if pre == "smollm":
        tok.normalizer = None
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if pre == "llama-bpe":
        tok.normalizer = None
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3_RE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TEXTS * 2, trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=[], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    if pre == "llama-bpe":      # Llama 3 has tokens that its merges don't make: a third of them here
        model = json.loads(tok.to_str())["model"]
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        tok.model = models.BPE(vocab=model["vocab"], merges=merges[:2 * len(merges) // 3],
                               ignore_merges=True)
    for text, special in SPECIALS:
        token = AddedToken(text, special=special, normalized=False)
        (tok.add_special_tokens if special else tok.add_tokens)([token])
    return tok
