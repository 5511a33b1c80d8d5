# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_cli.py — the `vlm` program as a person calls it: help, wrong options, missing files, JSON.
#   python3 tool_cli.py VLM MODEL SPLIT DUAL
#                                          MODEL is a tiny model with its mmproj next to it, SPLIT
#                                          the first part of the same model in three files,
#                                          DUAL a tiny CLIP model
import json
import math
import os
import re
import subprocess
import sys
import tempfile

from tool_world import case, finish

VLM, MODEL, SPLIT, DUAL = map(os.path.abspath, sys.argv[1:5])
COMMANDS = ("caption", "run", "rank", "info", "models", "bench", "tune", "devices")


def vlm(*args, **kwargs):
    return subprocess.run([VLM, *args], capture_output=True, text=True, timeout=300, **kwargs)


def fails(name, code, text, *args, **kwargs):
    """The command ends with `code` and says `text` on stderr, in a few lines, and nothing on
    stdout."""
    r = vlm(*args, **kwargs)
    case(name, r.returncode == code and text in r.stderr and not r.stdout
         and r.stderr.startswith("vlm") and r.stderr.count("\n") <= 4, r)


def parse(text):
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return None


def help_cases():
    r = vlm("--help")
    case("help", r.returncode == 0 and all(c in r.stdout for c in COMMANDS), r)
    r = vlm("--version")
    case("version", r.returncode == 0 and r.stdout.startswith("vlm "), r)
    for command in COMMANDS:
        r = vlm(command, "--help")
        case(f"help of {command}", r.returncode == 0 and "xample" in r.stdout
             and f"vlm {command}" in r.stdout and not r.stderr, r)
        fails(f"{command} with an unknown option", 2, "--nonsense", command, "--nonsense")


def usage_cases(folder):
    fails("unknown command", 2, "'films'", "films")
    fails("caption without input", 2, "which INPUT", "caption")
    fails("caption with two inputs", 2, "one INPUT", "caption", "a", "b")
    fails("caption to a strange format", 2, ".vtt, .srt or .jsonl", "caption", "a", "-o", "a.ass")
    fails("caption of nothing", 1, "there is no file 'nothing.webm'", "caption", "nothing.webm",
          cwd=folder)
    with open(os.path.join(folder, "film.vtt"), "w", encoding="utf-8") as other:
        other.write("WEBVTT\n\n")
    fails("caption over someone's subtitles", 2, "not made by vlm", "caption", "film.webm",
          cwd=folder)
    fails("run without a prompt", 2, "--prompt", "run")
    fails("run with too many markers", 2, "<image>", "run", "-p", "<image>")
    fails("run with a bad temperature", 2, "--temp 9", "run", "-p", "x", "--temp", "9")
    fails("run with a bad cache type", 1, "--kv-type q5", "run", "-m", MODEL, "-p", "x",
          "--kv-type", "q5")
    fails("info with a bad cache type", 2, "--kv-type q5", "info", MODEL, "--kv-type", "q5")
    fails("caption with a bad cache type", 2, "--kv-type", "caption", "film.vtt", "-o", "x.vtt",
          "--kv-type", "q5", cwd=folder)
    fails("run with a missing model", 1, "nothing.gguf", "run", "-m", "nothing.gguf", "-p", "x")
    fails("run with a missing image", 1, "there is no file 'nothing.png'", "run", "-m", MODEL,
          "-i", "nothing.png", "-p", "x")
    fails("info of nothing", 1, "nothing.gguf", "info", "nothing.gguf")
    fails("info of two", 2, "one MODEL", "info", MODEL, MODEL)
    fails("info with a bad context", 2, "--context 1", "info", MODEL, "--context", "1")
    fails("info of something else", 1, "film.vtt", "info", os.path.join(folder, "film.vtt"))
    fails("bench of no number", 2, "-p x", "bench", "-p", "x")
    fails("bench of a bad size", 2, "--image 5", "bench", "--image", "5")
    fails("device that is not there", 1, "no such gpu", "run", "-m", MODEL, "-p", "x", "--device",
          "no such gpu")


def memory_cases():
    """Less device memory than the model needs: MODEL has experts, which may stay with the host."""
    def place(mib):
        r = vlm("info", MODEL, "--context", "1000", "--json", "--device-memory", str(mib))
        out = (parse(r.stdout) or [{}])[0]
        return r, out.get("device_memory", {}), out.get("expert_bytes", 0)

    r, got, experts = place(1)
    case("info of too little memory", r.returncode == 0 and got["fits"] is False
         and got["needed_bytes"] > 1 << 20, r)
    some = math.ceil(got.get("needed_bytes", 0) / (1 << 20)) + 1
    r, got, experts = place(some)
    case("info of some memory", r.returncode == 0 and got["fits"] is True
         and 0 < got["expert_device_bytes"] < experts and got["expert_host_bytes"] == experts
         and got["needed_bytes"] + got["expert_device_bytes"] <= some << 20, r)
    r, got, experts = place(4096)
    case("info of enough memory", r.returncode == 0 and got["fits"] is True
         and got["expert_device_bytes"] == experts > 0 and got["expert_host_bytes"] == 0, r)
    r = vlm("info", MODEL, "--device-memory", str(some), "--context", "1000")
    case("info of some memory as a table", r.returncode == 0
         and "in the host's memory" in r.stdout, r)
    r = vlm("info", MODEL, "--device-memory", "1")
    case("info of too little memory as a table", r.returncode == 0 and "too little" in r.stdout, r)
    fails("info with a bad memory", 2, "--device-memory -1", "info", MODEL, "--device-memory", "-1")
    r = vlm("info", MODEL, "--device-memory", "70000000000")
    case("info with a memory beyond all", r.returncode == 2 and "out of range" in r.stderr, r)


LIMIT = r"limit of device memory{} is too low, at least ([0-9]+) MiB are needed: .*tool\.gguf needs "


def least_limit(name, *args, hint="--device-memory"):
    """The command under a limit that is too low: the least that it asks for, in MiB."""
    r = vlm(*args, "--device-memory", "1")
    needs = re.search(LIMIT.format(""), r.stderr)
    case(f"{name} with too low a limit", r.returncode == 1 and needs and not r.stdout
         and f"Raise {hint} " in r.stderr.replace("the property ", ""), r)
    fails(f"{name} with a bad limit", 2, "--device-memory -1", *args, "--device-memory", "-1")
    fails(f"{name} with words for a limit", 2, "much", *args, "--device-memory", "much")
    return needs[1] if needs else "1"


def limit_cases(folder):
    """--device-memory: experts that stay with the host change no result."""
    bench = ("bench", "-m", MODEL, "-p", "16", "-n", "8", "-d", "0", "--frames", "0", "--repeat", "1")
    limit = least_limit("bench", *bench)
    r = vlm(*bench, "--json", "--device-memory", limit)
    got = (parse(r.stdout) or [{}])[0].get("experts", {})
    case("bench with experts on the host", r.returncode == 0 and got.get("host_bytes", 0) > 0
         and got["device_bytes"] < got["host_bytes"] and got["hits"] + got["misses"] > 0, r)
    r = vlm(*bench, env={**os.environ, "VLM_DEVICE_MEMORY": limit})
    case("bench tells of them", r.returncode == 0 and "in the host's memory" in r.stdout, r)
    r = vlm(*bench, "--device-memory", "100000", env={**os.environ, "VLM_DEVICE_MEMORY": limit})
    case("the option wins over the environment", r.returncode == 0
         and "in the host's memory" not in r.stdout, r)
    r = vlm(*bench, env={**os.environ, "VLM_DEVICE_MEMORY": "1"})
    case("too low a limit in the environment", r.returncode == 1
         and re.search(LIMIT.format(r" \(VLM_DEVICE_MEMORY\)"), r.stderr), r)
    text = os.path.join(folder, "text.txt")
    with open(text, "w", encoding="utf-8") as f:
        f.write("The sun goes down behind the hills. " * 40)
    limits = {}
    for name, *args in (("run", "-p", "What?", "-n", "8", "--ignore-stop", "--top-logits", "4"),
                        ("perplexity", "-f", text, "-c", "64")):
        args = (name, "-m", MODEL, *args, "--json")
        limits[name] = least_limit(name, *args)
        r, free = vlm(*args, "--device-memory", limits[name]), vlm(*args)
        got, want = ({k: v for k, v in (parse(x.stdout) or [{}])[0].items()
                      if not k.startswith("ms_")} for x in (r, free))
        case(f"{name} under a limit", r.returncode == free.returncode == 0 and got
             and got == want, r)
    case("perplexity keeps room for no more than its context",
         int(limits["perplexity"]) < int(limits["run"]), r)
    fails("rank with too low a limit", 1, "limit of device memory", "rank", "-m", DUAL, "x.png", "-p",
          "a", "--device-memory", "1")
    fails("rank with a bad limit", 2, "--device-memory -1", "rank", "-m", DUAL, "x.png", "-p", "a",
          "--device-memory", "-1")
    film = os.path.join(folder, "ball.mkv")
    made = subprocess.run(["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=16", "pattern=ball",
                           "!", "video/x-raw,width=64,height=64,framerate=2/1", "!", "matroskamux",
                           "!", "filesink", f"location={film}"], capture_output=True, check=False)
    if made.returncode != 0:
        return      # no gst-launch-1.0 here
    caption = ("caption", film, "-q", "-m", MODEL, "-n", "6", "-c", "512", "-o")
    limit = least_limit("caption", *caption, os.path.join(folder, "none.vtt"), hint="device-memory")
    films = [os.path.join(folder, name) for name in ("free.vtt", "limited.vtt")]
    r = vlm(*caption, films[0])
    case("caption of a ball", r.returncode == 0, r)
    r = vlm(*caption, films[1], "--device-memory", limit)
    texts = [open(f, encoding="utf-8").read() if os.path.exists(f) else "" for f in films]
    case("caption under a limit", r.returncode == 0 and texts[0].count("-->") == 2
         and texts[0] == texts[1], r)


def json_cases(folder):
    r = vlm("devices", "--json")
    out = parse(r.stdout)
    case("devices as JSON", r.returncode == 0 and out and out[0][0]["memory_bytes"] > 0, r)
    r = vlm("info", MODEL, "--context", "1000", "--json")
    out = parse(r.stdout)
    case("info as JSON", r.returncode == 0 and out
         and 1000 * out[0]["kv_bytes_per_token"] < out[0]["context_bytes"]
         < 1600 * out[0]["kv_bytes_per_token"]
         and out[0]["architecture"].startswith("qwen3vl"), r)
    kinds = out[0].get("kv_types", {}) if out else {}
    case("info of every cache type", list(kinds) == ["f16", "f32", "q8", "q4"]
         and out[0]["kv_type"] == "f16"
         and out[0]["total_bytes"] == kinds["f16"]["total_bytes"]
         and kinds["f32"]["context_bytes"] > kinds["f16"]["context_bytes"]
         > kinds["q8"]["context_bytes"] > kinds["q4"]["context_bytes"], r)
    r = vlm("info", MODEL, "--context", "1000", "--json", "--kv-type", "q4")
    out = parse(r.stdout)
    case("info of q4", r.returncode == 0 and out and out[0]["kv_type"] == "q4"
         and out[0]["context_bytes"] == kinds["q4"]["context_bytes"], r)
    r = vlm("info", MODEL)
    case("info as a table", r.returncode == 0 and "device memory" in r.stdout, r)
    memory_cases()
    r = vlm("run", "-m", MODEL, "-p", "What?", "-n", "3", "--ignore-stop", "--json",
            "--top-logits", "2")
    out = (parse(r.stdout) or [{}])[0]
    case("run as JSON", r.returncode == 0 and len(out.get("tokens", [])) == 3
         and out["finish"] == "length" and out["n_context"] > 0 and out["ms_total"] > 0
         and [len(t) for t in out["top"]] == [2, 2, 2]
         and all(t[0]["token"] == token and t[0]["logit"] >= t[1]["logit"]
                 for t, token in zip(out["top"], out["tokens"])), r)
    first = out.get("tokens", [0])[0]
    r = vlm("run", "-m", MODEL, "-p", "What?", "-n", "1", "--ignore-stop", "--json",
            "--ban-token", str(first))
    out = (parse(r.stdout) or [{}])[0]
    case("banned token", r.returncode == 0 and out.get("tokens", [first])[0] != first, r)
    r = vlm("bench", "-m", MODEL, "-p", "16", "-n", "4", "-d", "0,16", "-b", "1,2", "--frames", "2",
            "--image", "64x64", "--repeat", "2", "--json")
    out = (parse(r.stdout) or [{}])[0]
    case("bench as JSON", r.returncode == 0 and len(out.get("results", [])) == 7
         and all(len(x["all"]) == 2 and x["min"] <= x["median"] <= x["max"]
                 for x in out["results"]), r)
    case("decode allocates nothing", all(
        x["step_allocations"] == 0 and x["step_pipelines"] == 0
        for x in out.get("results", [{"test": "decode", "step_allocations": 1}])
        if x["test"] == "decode"), r)


def split_cases():
    command = ("-p", "What?", "-n", "8", "--ignore-stop", "--json")
    whole, split = vlm("run", "-m", MODEL, *command), vlm("run", "-m", SPLIT, *command)
    tokens = [(parse(r.stdout) or [{}])[0].get("tokens") for r in (whole, split)]
    case("a split model answers as the whole one", split.returncode == 0 and tokens[0]
         and tokens[0] == tokens[1], split)
    infos = [(parse(vlm("info", m, "--json").stdout) or [{}])[0] for m in (MODEL, SPLIT)]
    case("info of a split model", infos[0].get("parameters", 0) > 0
         and all(infos[0][k] == infos[1].get(k)
                 for k in ("parameters", "weight_bytes", "quantisation")), split)
    fails("info of a later part", 1, "open the first part", "info",
          SPLIT.replace("-00001-", "-00002-"))


def cache_cases():
    for kind in ("auto", "f16", "f32", "q8", "q4"):
        r = vlm("run", "-m", MODEL, "-p", "What?", "-n", "4", "--ignore-stop", "--json",
                "--kv-type", kind)
        out = (parse(r.stdout) or [{}])[0]
        case(f"run with a cache in {kind}", r.returncode == 0 and len(out.get("tokens", [])) == 4, r)
    r = vlm("bench", "-m", MODEL, "-p", "16", "-n", "0", "-d", "0", "--frames", "0", "--repeat",
            "1", "--json", "--kv-type", "q4")
    out = (parse(r.stdout) or [{}])[0]
    case("bench says its cache type", r.returncode == 0 and out.get("kv_type") == "q4", r)


def tune_cases(folder):
    quick = ("-p", "16", "-n", "2", "-b", "2", "-d", "70", "--image", "64x64", "--rounds", "1")
    own = dict(os.environ, VLM_CACHE_DIR=os.path.join(folder, "tuned"))
    own.pop("VLM_TUNING", None)

    r = vlm("tune", "-m", MODEL, *quick, "--json", env=own)
    out = (parse(r.stdout) or [{}])[0]
    names = [s["name"] for s in out.get("sizes", [])]
    case("tune measures", r.returncode == 0 and "attention-items" in names
         and all(s["gain"] >= 1 for s in out["sizes"])
         and (out["file"] is None) == (out["tuning"] == ""), r)
    shown = vlm("tune", "-m", MODEL, "--show", "--json", env=own)
    case("tune shows what is kept",
         (parse(shown.stdout) or [{}])[0].get("tuning") == out.get("tuning"), shown)
    r = vlm("tune", "-m", MODEL, "--reset", env=own)
    case("tune forgets", r.returncode == 0 and "none: defaults" in r.stdout, r)
    wish = dict(own, VLM_TUNING="attention-items=64")
    r = vlm("bench", "-m", MODEL, "-p", "16", "-n", "0", "-d", "0", "--frames", "0", "--repeat",
            "1", env=wish)
    case("bench says the tuning", r.returncode == 0 and "tuned  attention-items=64" in r.stdout, r)
    r = vlm("tune", "-m", MODEL, "--show", env=dict(own, VLM_TUNING="attention-items=65"))
    case("a tuning that is none", r.returncode == 0 and "none: defaults" in r.stdout
         and "attention-items can be 8, 16," in r.stderr, r)
    r = vlm("tune", "-m", MODEL, *quick, env=dict(own, VLM_CACHE_DIR="/dev/null/x"))
    case("tune without a folder to write to", r.returncode in (0, 1)
         and (r.returncode == 0) == ("the defaults stay" in r.stdout), r)
    fails("tune shows or forgets", 2, "exclude each other", "tune", "--show", "--reset")
    fails("tune of too many sequences", 2, "-b", "tune", "-b", "65")


def batch_cases(folder):
    lines = ['{"id": 7, "prompts": ["one", "two"], "max_tokens": 2}', "", "nonsense",
             '{"id": "c", "prompts": "three", "max_tokens": 2}',
             '{"id": 8, "video": "nothing.webm", "prompts": ["x"]}', '{"id": 9}']
    path = os.path.join(folder, "batch.jsonl")
    with open(path, "w", encoding="utf-8") as batch:
        batch.write("\n".join(lines) + "\n")
    r = vlm("run", "-m", MODEL, "--batch", path)
    out = parse(r.stdout) or []
    case("batch", r.returncode == 1 and [x.get("id") for x in out] == [7, 7, None, "c", 8, 9]
         and [x.get("prompt") for x in out[:2]] == ["one", "two"]
         and ["text" in x for x in out] == [True, True, False, True, False, False]
         and "nothing.webm" in out[4].get("error", ""), r)
    r = vlm("run", "-m", MODEL, "--batch", "-", "-n", "2", "--top-logits", "3",
            input='{"prompts": ["one"]}\n')
    with_top = (parse(r.stdout) or [{}])[0]
    case("batch with top logits", r.returncode == 0 and len(with_top.get("tokens", [])) == 2
         and [len(t) for t in with_top.get("top", [])] == [3, 3]
         and with_top["top"][0][0]["token"] == with_top["tokens"][0], r)
    r = vlm("run", "-m", MODEL, "--batch", "-", "-n", "2", input='{"prompts": ["one"]}\n')
    alone = parse(r.stdout) or [{}]
    case("batch from standard input", r.returncode == 0 and len(alone) == 1 and out
         and alone[0].get("text") == out[0].get("text"), r)


def rank_cases(folder):
    image = os.path.join(folder, "square.png")
    made = subprocess.run(["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=1", "!",
                           "video/x-raw,width=40,height=30", "!", "pngenc", "!", "filesink",
                           f"location={image}"], capture_output=True, check=False)
    words = os.path.join(folder, "words.txt")
    with open(words, "w", encoding="utf-8") as f:
        f.write("cat, big\ndog\n\ncat, big\nred car\n")
    fails("rank without an image", 2, "an image", "rank", "-p", "a")
    fails("rank without labels", 2, "--labels", "rank", "a.png")
    fails("rank with a template that isn't", 2, "{}", "rank", "a.png", "-l", words, "-p", "a cat")
    if made.returncode != 0:
        return      # no gst-launch-1.0 here
    r = vlm("rank", "-m", DUAL, image, image, "--labels", words, "-p", "a photo of a {}", "--json",
            "--top", "0")
    out = parse(r.stdout) or []
    labels = [x["label"] for x in out[0]["labels"]] if out else []
    case("rank by a file of labels", r.returncode == 0 and len(out) == 2 and out[0] == out[1]
         and sorted(labels) == ["cat, big", "dog", "red car"]
         and abs(sum(x["probability"] for x in out[0]["labels"]) - 1) < 1e-6, r)
    r = vlm("rank", "-m", DUAL, image, "-p", "cat, dog, car", "--top", "1")
    case("rank as text", r.returncode == 0 and r.stdout.count("%") == 1, r)
    r = vlm("run", "-m", DUAL, "--image", image, "-p", "a cat, a dog, a car")
    case("run ranks labels", r.returncode == 0 and r.stdout.count("%") == 3
         and "a dog" in r.stdout, r)
    fails("run without labels", 1, "must list some", "run", "-m", DUAL, "--image", image, "-p", " ")
    fails("a decoder ranks nothing", 1, "does not rank labels", "rank", "-m", MODEL, image, "-p", "a")
    r = vlm("bench", "-m", DUAL)
    case("a dual encoder decodes nothing", r.returncode == 1 and "no decoder" in r.stderr, r)
    r = vlm("info", DUAL)
    case("info of a dual encoder", r.returncode == 0 and "ranks labels" in r.stdout, r)


def main():
    help_cases()
    with tempfile.TemporaryDirectory() as folder:
        usage_cases(folder)
        json_cases(folder)
        limit_cases(folder)
        split_cases()
        cache_cases()
        tune_cases(folder)
        batch_cases(folder)
        rank_cases(folder)
    sys.exit(finish())


main()
