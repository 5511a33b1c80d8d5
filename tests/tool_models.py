# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_models.py — every way to name a model: files, folders, caches of hubs; no network.
#   python3 tool_models.py VLM MODEL SPLIT [ELEMENTS]  MODEL is a tiny model with its mmproj next to
#                          it, SPLIT the same in parts, ELEMENTS the folder of the plugin,
#                          without which the element is not looked at
import json
import os
import shutil
import subprocess
import sys
import tempfile

from tool_world import REV, World, case, finish

VLM, MODEL, SPLIT = map(os.path.abspath, sys.argv[1:4])
ELEMENTS = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else None
MMPROJ = os.path.join(os.path.dirname(MODEL), "mmproj-" + os.path.basename(MODEL))


def found(world, name, model, text="", mmproj=None, **env):
    """`vlm info MODEL` takes the file that ends in `text`, and the mmproj. MODEL None: the default."""
    r = world.vlm("info", *([model] if model else []), "--json", **env)
    out = json.loads(r.stdout) if r.returncode == 0 else {}
    case(name, out.get("model", "").endswith(text)
         and (mmproj is None or out.get("mmproj", "").endswith(mmproj)), r)


def fails(world, name, model, *texts, code=1, **env):
    r = world.vlm("info", model, **env)
    case(name, r.returncode == code and all(t in r.stderr for t in texts) and not r.stdout
         and r.stderr.count("\n") == 1, r)


def folder_cases(w):
    w.copy(MODEL, "one", "a-Q8_0.gguf")
    fails(w, "a folder without mmproj", "one", "a-Q8_0.gguf: no vision file found in one")
    w.copy(MMPROJ, "one", "mmproj-a.gguf")
    w.copy(MODEL, "one", "a-imatrix.gguf")
    found(w, "a folder", "one", "one/a-Q8_0.gguf", "one/mmproj-a.gguf")
    found(w, "a folder with a slash", "one/", "a-Q8_0.gguf")
    found(w, "a folder as the default model", None, "one/a-Q8_0.gguf", VLM_MODEL="one")
    r = w.vlm("run", "-m", "one", "-p", "What?", "-n", "4", "--ignore-stop", "--json")
    plain = w.vlm("run", "-m", MODEL, "-p", "What?", "-n", "4", "--ignore-stop", "--json")
    case("run from a folder", r.returncode == 0
         and json.loads(r.stdout)["tokens"] == json.loads(plain.stdout)["tokens"], r)
    w.copy(MODEL, "one", "b-Q4_0.gguf")
    fails(w, "a folder of two models", "one", "holds 2 models", "a-Q8_0.gguf, b-Q4_0.gguf")
    os.makedirs(os.path.join(w.folder, "empty"))
    fails(w, "an empty folder", "empty", "no text model (*.gguf) in this folder")
    for part in range(1, 4):
        name = os.path.basename(SPLIT).replace("-00001-", f"-0000{part}-")
        w.copy(os.path.join(os.path.dirname(SPLIT), name), "parts", name)
    w.copy(MMPROJ, "parts", "mmproj-split.gguf")
    found(w, "a folder of parts", "parts", "-00001-of-00003.gguf")
    os.remove(os.path.join(w.folder, "parts", "split-00002-of-00003.gguf"))
    fails(w, "a folder without a part", "parts", "part 2 of 3", "split-00002-of-00003.gguf")
    os.remove(os.path.join(w.folder, "parts", "split-00001-of-00003.gguf"))
    fails(w, "a folder without the first part", "parts", "lacks its first part")


def name_cases(w):
    for name in ("hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/b:", "hf:a/b\nc"):
        fails(w, f"refused: {name!r}", name, "hf:ORG/REPO")
    fails(w, "nothing anywhere", "hf:org/repo:Q8_0", "not on this machine",
          "vlm models fetch hf:org/repo:Q8_0", "/org/repo", w.hub, w.llama)


def hub_cache_cases(w):
    w.cache("org/repo", {"m-Q8_0.gguf": MODEL, "m-Q4_K_M.gguf": MODEL, "m-F16.gguf": None,
                         "mmproj-m-F32.gguf": MMPROJ, "mmproj-m-BF16.gguf": MMPROJ})
    found(w, "hub cache", "hf:org/repo", REV + "/m-Q4_K_M.gguf", REV + "/mmproj-m-BF16.gguf")
    found(w, "hub cache, one quantisation", "hf:org/repo:q8_0", "/m-Q8_0.gguf")
    found(w, "hub cache by HF_HUB_CACHE", "hf:org/repo", "/m-Q4_K_M.gguf", HF_HOME="elsewhere",
          HF_HUB_CACHE=w.hub)
    os.makedirs(os.path.join(w.folder, "cache"), exist_ok=True)
    os.symlink(os.path.join(w.folder, "hf"), os.path.join(w.folder, "cache", "huggingface"))
    found(w, "hub cache by default", "hf:org/repo", "/m-Q4_K_M.gguf", HF_HOME="")
    found(w, "hub cache, as the default model", None, "/m-Q8_0.gguf", VLM_MODEL="hf:org/repo:Q8_0")
    fails(w, "hub cache, a link to nothing", "hf:org/repo:F16",
          "no text GGUF of quantisation F16, but one of Q4_K_M, Q8_0")
    w.cache("org/repo", {"m-Q6_K.gguf": MODEL, "m-Q4_K_M.gguf": MODEL, "mmproj.gguf": MMPROJ},
            rev="0" * 40, main=False)
    found(w, "hub cache, an older snapshot", "hf:org/repo:Q6_K", "000/m-Q6_K.gguf")
    found(w, "hub cache, the current snapshot first", "hf:org/repo", REV + "/m-Q4_K_M.gguf")
    w.cache("org/alone", {"m-Q8_0.gguf": MODEL})
    fails(w, "hub cache without mmproj", "hf:org/alone", "m-Q8_0.gguf is there without its vision",
          "vlm models fetch hf:org/alone")
    r = w.vlm("info", "hf:org/alone", "--mmproj", MMPROJ)
    case("hub cache with an mmproj given", r.returncode == 0, r)
    split = {f"Q8_0/{os.path.basename(SPLIT).replace('-00001-', f'-0000{i}-')}":
             SPLIT.replace("-00001-", f"-0000{i}-") for i in (1, 2, 3)}
    w.cache("org/split", dict(split, **{"mmproj.gguf": MMPROJ}))
    found(w, "hub cache, parts in a folder", "hf:org/split:Q8_0", "Q8_0/split-00001-of-00003.gguf")
    w.cache("org/torn", dict(list(split.items())[:2], **{"mmproj.gguf": MMPROJ}))
    fails(w, "hub cache, a part missing", "hf:org/torn", "Q8_0/split-00003-of-00003.gguf is missing")
    w.cache("org/evil", {"m-Q8_0.gguf": MODEL, "mmproj.gguf": MMPROJ}, main=False)
    ref = w.path("hf", "hub", "models--org--evil", "refs", "main")
    with open(ref, "w", encoding="utf-8") as main_ref:
        main_ref.write("../../models--org--repo/snapshots/" + REV)
    found(w, "hub cache, a reference that leads out", "hf:org/evil",
          "models--org--evil/snapshots/" + REV + "/m-Q8_0.gguf")


def llama_cache_cases(w):
    w.copy(MODEL, "llama.cpp", "us_them-GGUF_m-Q8_0.gguf")
    w.copy(MMPROJ, "llama.cpp", "other_thing_mmproj-m-F16.gguf")
    fails(w, "llama.cpp cache, another's mmproj", "hf:us/them-GGUF", "without its vision file")
    w.copy(MMPROJ, "llama.cpp", "us_them-GGUF_mmproj-m-F16.gguf")
    found(w, "llama.cpp cache", "hf:us/them-GGUF:Q8_0", "us_them-GGUF_m-Q8_0.gguf",
          "us_them-GGUF_mmproj-m-F16.gguf")
    found(w, "llama.cpp cache by default", "hf:us/them-GGUF", "llama.cpp/us_them-GGUF_m-Q8_0.gguf",
          LLAMA_CACHE="", XDG_CACHE_HOME=w.folder)


def listed(world, *args, **env):
    r = world.vlm("models", *args, "--json", **env)
    try:
        return r, {(e["name"], e["path"]): e for e in json.loads(r.stdout)}
    except ValueError:
        return r, {}


def list_cases(w):
    """After the caches were filled by the cases before."""
    for name in ("c.gguf", "d\x1b[2J.gguf"):
        with open(w.path("one", name), "wb") as broken:
            broken.write(b"no model")
    w.copy(MMPROJ, "odd", "text.gguf")
    w.path("llama.cpp", "x")
    with open(w.path("llama.cpp", "manifest=us=them-GGUF=Q8_0.json"), "wb"):
        pass
    w.copy(MODEL, "llama.cpp", "who_knows_m-Q8_0.gguf")
    r, entries = listed(w, "one", "odd", VLM_MODEL="hf:org/repo")
    names = {name: entry for (name, _), entry in entries.items()}
    case("list", r.returncode == 0 and len(entries) == len(names), r)
    current = names.get("hf:org/repo:Q4_K_M", {})
    case("list: the hub cache", current.get("architecture") == "qwen3vlmoe"
         and current["quantisation"] == "Q4_K_M" and current["supported"]
         and current["problem"] is None and current["mmproj"].endswith("mmproj-m-BF16.gguf")
         and current["file_bytes"] == os.path.getsize(MODEL) + os.path.getsize(MMPROJ), r)
    case("list: what can be typed finds that file", all(
        n in ("hf:org/alone:Q8_0", "hf:org/torn:Q8_0") or e["problem"] or
        e["path"] == json.loads(w.vlm("info", n, "--json").stdout)["model"]
        for n, e in names.items()), r)
    case("list: an older snapshot is named by its path", any(
        n.endswith("0" * 40 + "/m-Q4_K_M.gguf") for n in names) and "hf:org/repo:Q6_K" in names, r)
    case("list: without mmproj", "mmproj" in (names["hf:org/alone:Q8_0"]["problem"] or "")
         and names["hf:org/alone:Q8_0"]["supported"], r)
    case("list: a part is missing", any("torn" in n and "split-00003" in (e["problem"] or "")
                                        for n, e in names.items()), r)
    case("list: the llama.cpp cache", names["hf:us/them-GGUF:Q8_0"]["place"] == "llama.cpp cache"
         and names["hf:us/them-GGUF:Q8_0"]["problem"] is None
         and os.path.join(w.llama, "who_knows_m-Q8_0.gguf") in names, r)
    case("list: the default model", names["hf:org/repo"]["place"] == "default", r)
    case("list: a folder", names["one/a-Q8_0.gguf"]["problem"] is None
         and names["one/a-Q8_0.gguf"]["place"] == "folder"
         and "not a GGUF" in names["one/c.gguf"]["problem"] and "odd/text.gguf" in names
         and not names["odd/text.gguf"]["supported"]
         and names["odd/text.gguf"]["architecture"] == "clip", r)
    r = w.vlm("models", "one")
    case("list as text", r.returncode == 0 and "hf:org/repo:Q8_0\n    hub cache, qwen3vlmoe, Q8_0, "
         in r.stdout and "can't be used: one/c.gguf: not a GGUF file\n" in r.stdout
         and "\x1b" not in r.stdout, r)
    r = w.vlm("models", "nowhere")
    case("list of no folder", r.returncode == 1 and "nowhere: there is no such folder" in r.stderr, r)
    r, entries = listed(w, HF_HOME="none", LLAMA_CACHE="none", XDG_CACHE_HOME="none",
                        VLM_MODEL="hf:no/thing")
    case("list without caches", r.returncode == 0 and len(entries) == 1 and "vlm models fetch"
         in list(entries.values())[0]["problem"], r)


def element_cases(w):
    """The element looks at what is here, and says how to get what isn't."""
    launch = shutil.which("gst-launch-1.0")
    if not launch:
        return
    env = dict(w.env, GST_PLUGIN_PATH_1_0=ELEMENTS, GST_REGISTRY_1_0=w.path("registry.bin"))
    for model, good, text in (("hf:org/repo", True, "vlm-caption"),
                              ("hf:org/nothing:Q8_0", False,
                               "vlm models fetch hf:org/nothing:Q8_0")):
        r = subprocess.run(
            [launch, "-m", "videotestsrc", "num-buffers=3", "!",
             "video/x-raw,width=64,height=64,framerate=1/1", "!", "vlmcaption", f"model={model}",
             "caption-interval=1000000000", "max-tokens=2", "!", "fakesink"],
            capture_output=True, text=True, timeout=300, env=env, check=False)
        case(f"element with {model}", (r.returncode == 0) == good
             and text in r.stdout + r.stderr, r)


def main():
    with tempfile.TemporaryDirectory() as folder:
        w = World(VLM, folder)
        folder_cases(w)
        name_cases(w)
        hub_cache_cases(w)
        llama_cache_cases(w)
        list_cases(w)
        if ELEMENTS:
            element_cases(w)
    sys.exit(finish())


main()
