# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_text_model.py — models of text in the program, and vision models without their towers.
#   python3 tool_text_model.py VLM TEXT MODEL [ELEMENTS]  TEXT is a tiny text model, MODEL a tiny
#                              vision-language model with its mmproj next to it, ELEMENTS the
#                              folder of the plugin, without which the element is not looked at
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import zlib

from tool_world import World, case, finish

VLM, TEXT, MODEL = map(os.path.abspath, sys.argv[1:4])
ELEMENTS = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else None
MMPROJ = os.path.join(os.path.dirname(MODEL), "mmproj-" + os.path.basename(MODEL))


def write_png(path):
    """One pixel."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b""))


def answers(w, *args):
    r = w.vlm("run", *args, "-n", "6", "--ignore-stop", "--json")
    return r, json.loads(r.stdout)["tokens"] if r.returncode == 0 else None


def text_cases(w):
    w.copy(TEXT, "t", "text.gguf")
    r = w.vlm("info", "t")
    case("info of a text model", r.returncode == 0 and "none: for text only" in r.stdout
         and "vision " not in r.stdout and "projector" not in r.stdout, r)
    r = w.vlm("info", "t", "--json")
    out = json.loads(r.stdout) if r.returncode == 0 else {}
    case("info as JSON", out.get("mmproj", "") is None and out.get("projector", "") is None
         and out.get("vision_layers") == 0, r)
    chat, tokens = answers(w, "-m", "t", "-p", "Hello")
    case("run", bool(tokens), chat)
    raw, same = answers(w, "-m", "t", "--raw", "-p",
                        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    case("run of raw text", same == tokens, raw)
    other, differs = answers(w, "-m", "t", "--raw", "-p", "Hello")
    case("raw text has no turns", differs not in (None, tokens), other)
    r = w.vlm("run", "-m", "t", "--raw", "-s", "Be brief.", "-p", "Hello")
    case("raw text and a system prompt", r.returncode == 2 and "--system" in r.stderr, r)
    r = w.vlm("run", "-m", "t", "--raw", "-p", "")
    case("raw text that is empty", r.returncode == 1 and "empty" in r.stderr, r)
    write_png(w.path("a.png"))
    r = w.vlm("run", "-m", "t", "-i", "a.png", "-p", "What?")
    case("a picture", r.returncode == 1 and "mmproj" in r.stderr
         and "can't see pictures" in r.stderr, r)
    r = w.vlm("bench", "-m", "t", "-p", "16", "-n", "2", "-d", "0", "--repeat", "1", "--json")
    out = json.loads(r.stdout) if r.returncode == 0 else {"results": []}
    case("bench leaves frames out", [x["test"] for x in out["results"]] == ["prefill", "decode"], r)
    r = w.vlm("models", "t")
    case("list", "only for text: its vision file" in r.stdout, r)
    r = w.vlm("models", "t", "--json")
    case("list as JSON", [e["text_only"] for e in json.loads(r.stdout) if e["place"] == "folder"]
         == [True], r)
    r = w.vlm("caption", "a.png", "-m", "t")
    case("caption", r.returncode == 1 and "no vision file found" in r.stderr, r)
    # a model of text takes no notice of the vision file of another that lies beside it
    w.copy(TEXT, "both", "text.gguf")
    w.copy(MMPROJ, "both", "mmproj-other.gguf")
    r = w.vlm("info", "both")
    case("another's mmproj beside it", r.returncode == 0 and "none: for text only" in r.stdout, r)
    r = w.vlm("info", "both", "--mmproj", "both/mmproj-other.gguf")
    case("another's mmproj given", r.returncode == 1 and "does not go with" in r.stderr, r)
    r = w.vlm("info", "both", "--no-mmproj", "--mmproj", "both/mmproj-other.gguf")
    case("another's mmproj left out", r.returncode == 0 and "none: for text only" in r.stdout, r)


def part_cases(w):
    w.copy(MODEL, "v", "v.gguf")
    r = w.vlm("run", "-m", "v", "-p", "Hello")
    case("a vision model without mmproj", r.returncode == 1 and "no vision file found" in r.stderr, r)
    whole, tokens = answers(w, "-m", MODEL, "-p", "Hello")
    part, same = answers(w, "-m", "v", "--no-mmproj", "-p", "Hello")
    case("its text part by itself", same == tokens and tokens, part if tokens else whole)
    w.cache("org/text", {"m-Q8_0.gguf": TEXT})
    r = w.vlm("info", "hf:org/text", "--json")
    case("a text model of a hub", r.returncode == 0 and json.loads(r.stdout)["mmproj"] is None, r)


def perplexity_cases(w):
    text = "The quick brown fox jumps over the lazy dog. " * 60
    with open(w.path("text.txt"), "w", encoding="utf-8") as f:
        f.write(text)
    r = w.vlm("perplexity", "-m", "t", "-f", "text.txt", "-c", "64", "--json")
    out = json.loads(r.stdout) if r.returncode == 0 else {}
    case("perplexity", out.get("perplexity", 0) > 1 and out["chunks"] == out["text_tokens"] // 64
         and out["scored_tokens"] == 31 * out["chunks"] and out["error"] > 0, r)
    plain = w.vlm("perplexity", "-m", "t", "-f", "text.txt", "-c", "64", "--chunks", "2")
    case("perplexity of two chunks", plain.returncode == 0 and "2 chunks of 64" in plain.stdout
         and math.isfinite(float(plain.stdout.split()[1])), plain)
    for name, args, code, part in (
            ("no file", [], 2, "--file"), ("a file that isn't there", ["-f", "x"], 1, "x"),
            ("a short file", ["-f", "text.txt", "-c", "4096"], 1, "at least 8192")):
        r = w.vlm("perplexity", "-m", "t", *args)
        case(f"perplexity: {name}", r.returncode == code and part in r.stderr, r)
    with open(w.path("bytes.txt"), "wb") as f:
        f.write(b"\xff\xfe" * 5000)
    r = w.vlm("perplexity", "-m", "t", "-f", "bytes.txt")
    case("perplexity: no text", r.returncode == 1 and "UTF-8" in r.stderr, r)


def element_cases(w):
    env = dict(w.env, GST_PLUGIN_PATH_1_0=ELEMENTS, GST_REGISTRY_1_0=w.path("registry.bin"))
    r = subprocess.run(["gst-launch-1.0", "videotestsrc", "num-buffers=2", "!",
                        "video/x-raw,width=64,height=64", "!", "vlmcaption", "model=t/text.gguf", "!",
                        "fakesink"], capture_output=True, text=True, timeout=120, cwd=w.folder,
                       env=env, check=False)
    case("the element names the missing mmproj", r.returncode != 0
         and "no vision file found" in r.stdout + r.stderr, r)


with tempfile.TemporaryDirectory() as folder:
    world = World(VLM, folder)
    text_cases(world)
    part_cases(world)
    perplexity_cases(world)
    if ELEMENTS:
        element_cases(world)
sys.exit(finish())
