# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_fetch.py — `vlm models fetch` against a hub on this machine: what arrives, what is refused,
# what a broken transfer leaves.
#   python3 tool_fetch.py VLM MODEL SPLIT ALONE    MODEL is a tiny model with its mmproj next to
#                                                  it, SPLIT the same in parts, ALONE one of text
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from fake_hub import COMMIT, Hub
from tool_world import World, case, finish

VLM, MODEL, SPLIT = map(os.path.abspath, sys.argv[1:4])
MMPROJ = os.path.join(os.path.dirname(MODEL), "mmproj-" + os.path.basename(MODEL))
ALONE = os.path.abspath(sys.argv[4])


def content(path):
    with open(path, "rb") as f:
        return f.read()


TEXT, VISION = content(MODEL), content(MMPROJ)
FILES = {"README.md": b"read me", "m-Q8_0.gguf": TEXT, "m-F16.gguf": TEXT + b"x",
         "mmproj-m-F32.gguf": VISION + b"x", "mmproj-m-F16.gguf": VISION}
NAME = "hf:org/repo:Q8_0"


@contextlib.contextmanager
def scene(files=None, **settings):
    """A hub and an empty home that asks it."""
    hub = Hub(FILES if files is None else files)
    for key, value in settings.items():
        setattr(hub, key, value)
    with tempfile.TemporaryDirectory() as folder:
        w = World(VLM, folder)
        for name in list(w.env):
            if name.lower().endswith("_proxy"):
                del w.env[name]
        w.env.update(HF_ENDPOINT=hub.hub.url, HF_HUB_OFFLINE="0")
        w.repo = os.path.join(w.hub, "models--org--repo")
        try:
            yield hub, w
        finally:
            hub.close()


def blob(hub, w, name):
    return os.path.join(w.repo, "blobs", hub.oid(name))


def snapshot(w, name):
    return os.path.join(w.repo, "snapshots", COMMIT, name)


def is_there(hub, w, *names):
    """The layout of the hub's library: links to blobs, the commit in refs, nothing left over."""
    with contextlib.suppress(OSError):
        return (content(os.path.join(w.repo, "refs", "main")).decode() == COMMIT
                and all(os.path.islink(snapshot(w, n))
                        and not os.path.isabs(os.readlink(snapshot(w, n)))
                        and os.path.samefile(snapshot(w, n), blob(hub, w, n))
                        and content(snapshot(w, n)) == hub.files[n] for n in names)
                and sorted(os.listdir(os.path.join(w.repo, "blobs")))
                == sorted({hub.oid(n) for n in names}))
    return False


def nothing_there(w):
    """No name that somebody would take for a model."""
    return not any(os.path.isdir(os.path.join(w.repo, d)) for d in ("snapshots", "refs"))


def left(w, ending=".incomplete"):
    folder = os.path.join(w.repo, "blobs")
    return [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(ending)] \
        if os.path.isdir(folder) else []


def plain_cases():
    with scene() as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("fetch", r.returncode == 0 and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and r.stdout == snapshot(w, "m-Q8_0.gguf") + "\n" + snapshot(w, "mmproj-m-F16.gguf")
             + "\n" and "fetching m-Q8_0.gguf (4.6\u00a0MB)" in r.stderr and "\r" not in r.stderr, r)
        case("no token, no cookie", not any("Authorization" in q[3] for q in hub.log), r)
        hub.log.clear()
        r = w.vlm("models", "fetch", NAME)
        case("fetch again takes nothing", r.returncode == 0 and not hub.requests("cdn")
             and not r.stderr, r)
        r = w.vlm("models", "fetch", "hf:org/repo")
        case("without a quantisation: what ranks first", r.returncode == 0
             and "m-Q8_0.gguf" in r.stdout, r)
        hub.log.clear()
        r = w.vlm("info", NAME, "--json")
        case("what was fetched is found, without a request", r.returncode == 0 and not hub.log
             and json.loads(r.stdout)["architecture"] == "qwen3vlmoe", r)
        r = w.vlm("models", "--json")
        case("and listed", any(e["name"] == NAME and not e["problem"]
                               for e in json.loads(r.stdout)), r)
        os.remove(snapshot(w, "mmproj-m-F16.gguf"))
        os.remove(blob(hub, w, "mmproj-m-F16.gguf"))
        r = w.vlm("models", "fetch", NAME)
        case("only what is missing", r.returncode == 0
             and [q[2][:18] for q in hub.requests("cdn")] == ["/mmproj-m-F16.gguf"], r)
    with scene(page=2) as (hub, w):
        r = w.vlm("models", "fetch", "hf:org/old:q8_0")
        with contextlib.suppress(ValueError):
            w.repo = w.repo.replace("--repo", "--old")
        case("a list of several pages, a renamed repository", r.returncode == 0
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and len(hub.requests("hub", "GET", "cursor=")) == 2, r)
    with scene(files={"a b/\u00e4-Q8_0.gguf": TEXT, "mmproj.gguf": VISION},
               small={"a b/\u00e4-Q8_0.gguf"}, direct=True) as (hub, w):
        r = w.vlm("models", "fetch", "hf:org/repo")
        case("a folder, a strange name, no LFS, no second host", r.returncode == 0
             and is_there(hub, w, "a b/\u00e4-Q8_0.gguf", "mmproj.gguf"), r)
        r = w.vlm("info", "hf:org/repo")
        case("is found", r.returncode == 0, r)
    parts = {os.path.basename(SPLIT).replace("-00001-", f"-0000{i}-"):
             content(SPLIT.replace("-00001-", f"-0000{i}-")) for i in (1, 2, 3)}
    with scene(files=dict(parts, **{"mmproj-s.gguf": VISION})) as (hub, w):
        r = w.vlm("models", "fetch", "hf:org/repo")
        case("all parts", r.returncode == 0 and is_there(hub, w, "mmproj-s.gguf", *parts), r)


def command_cases():
    with scene() as (hub, w):
        r = w.vlm("info", NAME)
        case("info fetches nothing", r.returncode == 1 and not hub.log
             and f"vlm models fetch {NAME}" in r.stderr, r)
        r = w.vlm("run", "-m", NAME, "-p", "What?", "-n", "4", "--ignore-stop", "--json",
                  HF_HUB_OFFLINE="1")
        case("offline nothing is asked", r.returncode == 1 and not hub.log
             and f"vlm models fetch {NAME}" in r.stderr, r)
        r = w.vlm("models", "fetch", NAME, HF_HUB_OFFLINE="1")
        case("fetch offline", r.returncode == 1 and not hub.log and "HF_HUB_OFFLINE" in r.stderr, r)
        args = ("-p", "What?", "-n", "4", "--ignore-stop", "--json")
        r = w.vlm("run", "-m", NAME, *args)
        plain = w.vlm("run", "-m", MODEL, *args)
        case("run fetches and runs", r.returncode == 0 and json.loads(r.stdout)["tokens"]
             == json.loads(plain.stdout)["tokens"], r)
        hub.log.clear()
        r = w.vlm("run", "-m", NAME, *args)
        case("the second time without the hub", r.returncode == 0 and not hub.log, r)
    with scene() as (hub, w):
        r = w.vlm("bench", "-m", NAME, "--mmproj", MMPROJ, "-p", "16", "-n", "0", "-d", "0",
                  "--frames", "0", "--repeat", "1", "--json")
        case("bench with an mmproj given fetches no other", r.returncode == 0
             and is_there(hub, w, "m-Q8_0.gguf"), r)
    with scene() as (hub, w):
        r = w.vlm("caption", "nothing.webm", VLM_MODEL=NAME)
        case("caption fetches the default model", r.returncode == 1 and "nothing.webm" in r.stderr
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf"), r)


def text_cases():
    """Models of text: a repository without a vision file."""
    args = ("-m", NAME, "-p", "Hello", "-n", "2", "--ignore-stop", "--json")
    with scene(files={"m-Q8_0.gguf": content(ALONE)}) as (hub, w):
        r = w.vlm("run", *args)
        case("run fetches a model of text", r.returncode == 0
             and is_there(hub, w, "m-Q8_0.gguf"), r)
        hub.log.clear()
        r = w.vlm("run", *args)
        case("the second time without a transfer", r.returncode == 0 and not hub.requests("cdn"), r)
        r = w.vlm("run", *args, HF_HUB_OFFLINE="1")
        case("and offline", r.returncode == 0, r)
        r = w.vlm("run", *args, HF_ENDPOINT="http://127.0.0.1:1")
        case("and when nobody answers", r.returncode == 0, r)
    with scene(files={"m-Q8_0.gguf": TEXT}) as (hub, w):
        r = w.vlm("models", "fetch", NAME, "--no-mmproj")
        case("fetch of a text part by itself", r.returncode == 0 and r.stdout.count("\n") == 1
             and is_there(hub, w, "m-Q8_0.gguf"), r)
        r = w.vlm("run", *args)
        case("which is no model of text", r.returncode == 1
             and "without its vision file" in r.stderr, r)


def resume_cases():
    with scene(break_after=[1000000, 500000]) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        gets = hub.requests("cdn", "GET", "/m-Q8_0")
        case("a transfer that breaks goes on where it was", r.returncode == 0
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and [q[3].get("Range") for q in gets] == [None, "bytes=1000000-", "bytes=1500000-"]
             and [q[3].get("If-Range") for q in gets] == [None, '"one"', '"one"'], r)
    with scene(break_after=[1000000, 0, 0, 0]) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("one that keeps breaking is an error", r.returncode == 1 and nothing_there(w)
             and "keeps breaking" in r.stderr and [os.path.getsize(f) for f in left(w)]
             == [1000000], r)
        hub.log.clear()
        r = w.vlm("models", "fetch", NAME)
        case("the next call goes on", r.returncode == 0 and "1.0\u00a0MB are here" in r.stderr
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and [q[3].get("Range") for q in hub.requests("cdn", "GET", "/m-Q8_0")]
             == ["bytes=1000000-"], r)
    for name, change in (("ignores ranges", {"ranges": False}),
                         ("has another content", {"etag": '"two"'}),
                         ("gives a wrong range", {"wrong_by": 1})):
        with scene(break_after=[1000000, 0, 0, 0]) as (hub, w):
            w.vlm("models", "fetch", NAME)
            hub.log.clear()
            for key, value in change.items():
                setattr(hub, key, value)
            r = w.vlm("models", "fetch", NAME)
            case(f"a server that {name}: from the beginning", r.returncode == 0
                 and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf"), r)
    with scene() as (hub, w):
        os.makedirs(os.path.join(w.repo, "blobs"))
        with open(blob(hub, w, "m-Q8_0.gguf") + ".incomplete", "wb") as other:
            other.write(TEXT[:1000] + bytes(5000))
        r = w.vlm("models", "fetch", NAME)
        case("a beginning with holes: once anew", r.returncode == 0
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and len(hub.requests("cdn", "GET", "/m-Q8_0")) == 2, r)
    for size in (len(TEXT), len(TEXT) + 1):
        with scene() as (hub, w):
            os.makedirs(os.path.join(w.repo, "blobs"))
            with open(blob(hub, w, "m-Q8_0.gguf") + ".incomplete", "wb") as other:
                other.write((TEXT + b"y")[:size])
            r = w.vlm("models", "fetch", NAME)
            case(f"all there but the name, {size - len(TEXT)} too many", r.returncode == 0
                 and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
                 and len(hub.requests("cdn", "GET", "/m-Q8_0")) == size - len(TEXT), r)


def check_cases():
    with scene(corrupt=1) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("a wrong checksum", r.returncode == 1 and "checksum" in r.stderr
             and nothing_there(w) and not left(w, ""), r)
    with scene(linked={"m-Q8_0.gguf": "2" * 64}) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("two checksums for one file", r.returncode == 1 and "two things" in r.stderr
             and not hub.requests("cdn"), r)
    with scene(sizes={"m-Q8_0.gguf": len(TEXT) - 1}) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("longer than listed", r.returncode == 1 and "longer" in r.stderr
             and nothing_there(w), r)
    with scene(sizes={"m-Q8_0.gguf": 1 << 49}) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("no room", r.returncode == 1 and "free" in r.stderr and "HF_HUB_CACHE" in r.stderr
             and not hub.requests("cdn"), r)
    with scene(commit="../../../../outside") as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("a commit that leads out", r.returncode == 0 and os.path.islink(
            os.path.join(w.repo, "snapshots", "main", "m-Q8_0.gguf")), r)
    entry = {"type": "file", "size": 10, "oid": "1" * 40, "lfs": {"oid": "3" * 64, "size": 10}}
    bad = ["../m-Q4_K_M.gguf", "/tmp/m-Q4_K_M.gguf", "a/../../m-Q4_K_M.gguf", "m\n-Q4_K_M.gguf",
           "m\u001b[2J-Q4_K_M.gguf", "a//m-Q4_K_M.gguf", "m\u0000-Q4_K_M.gguf"]
    with scene(extra=[dict(entry, path=p) for p in bad]) as (hub, w):
        r = w.vlm("models", "fetch", "hf:org/repo:Q4_K_M")
        case("names that lead out or steer terminals are no files", r.returncode == 1
             and "of quantisation Q4_K_M, but one of Q8_0, F16" in r.stderr
             and "\x1b" not in r.stderr, r)
    odd = [{}, 5, None, [], {"type": "file"}, {"type": 5, "path": 6}, dict(entry, path=[]),
           dict(entry, path="x-Q4_K_M.gguf", lfs={"oid": "../../../x", "size": 10}),
           dict(entry, path="y-Q4_K_M.gguf", lfs={"oid": "3" * 64, "size": -1}),
           dict(entry, path="z-Q4_K_M.gguf", lfs={"oid": 7, "size": "x"}),
           dict(entry, path="u-Q4_K_M.gguf", lfs={"oid": "3" * 64, "size": 1e300}),
           dict(entry, path="v-Q4_K_M.gguf", oid="A" * 40, lfs=None)]
    with scene(extra=odd) as (hub, w):
        r = w.vlm("models", "fetch", "hf:org/repo:Q4_K_M")
        case("entries that are none", r.returncode == 1 and "but one of Q8_0, F16" in r.stderr, r)
    for listing in (b"", b"{}", b"[", b"\xff\xfe", b"[" * 100000, b'[{"a":' * 100000, b'/*"*/' + b'["]",' * 100000, b"null",
                    b"x" * (17 << 20)):
        with scene(listing=listing) as (hub, w):
            r = w.vlm("models", "fetch", NAME)
            case(f"a list that is none: {listing[:4]!r}, {len(listing)} bytes", r.returncode == 1
                 and r.stderr.startswith("vlm models: " + NAME) and nothing_there(w), r)


def refusal_cases():
    for path, status, text in (("/api/", 401, "HF_TOKEN"), ("/api/", 403, "HF_TOKEN"),
                               ("/api/", 404, "no such repository"), ("/api/", 500, "try again"),
                               ("/org/", 403, "HF_TOKEN"), ("/m-Q8_0", 403, "HTTP 403"),
                               ("/m-Q8_0", 500, "keeps breaking")):
        with scene(status={path: status}) as (hub, w):
            r = w.vlm("models", "fetch", NAME)
            case(f"{status} at {path}", r.returncode == 1 and text in r.stderr and nothing_there(w)
                 and "--model FOLDER" in r.stderr and not r.stdout and "\x1b" not in r.stderr
                 and (path == "/api/" or "m-Q8_0.gguf, mmproj-m-F16.gguf" in r.stderr), r)
    with scene() as (hub, w):
        w.env["HF_ENDPOINT"] = "http://127.0.0.1:1"
        r = w.vlm("models", "fetch", NAME)
        case("nobody answers", r.returncode == 1 and "127.0.0.1:1" in r.stderr, r)
        for url in ("ftp://127.0.0.1/", "nonsense://", "file:///etc"):
            r = w.vlm("models", "fetch", NAME, HF_ENDPOINT=url)
            case(f"HF_ENDPOINT={url}", r.returncode == 1 and "HF_ENDPOINT" in r.stderr, r)
    with scene(files={"m-Q8_0.gguf": TEXT}) as (hub, w):
        r = w.vlm("models", "fetch", NAME)
        case("no mmproj on the hub", r.returncode == 1 and "without its vision file" in r.stderr
             and not hub.requests("cdn"), r)
    with scene() as (hub, w):
        r = w.vlm("models", "fetch")
        case("fetch of nothing", r.returncode == 2 and "fetch what?" in r.stderr, r)
        r = w.vlm("models", "fetch", "hf:org")
        case("fetch of no name", r.returncode == 1 and "hf:ORG/REPO" in r.stderr and not hub.log, r)


def token_cases():
    for where in ("variable", "file"):
        with scene(token="hf_secret") as (hub, w):
            if where == "variable":
                w.env["HF_TOKEN"] = "hf_secret"
            else:
                with open(w.path("hf", "token"), "w", encoding="utf-8") as token:
                    token.write("hf_secret\n")
            r = w.vlm("models", "fetch", NAME)
            case(f"token from the {where}", r.returncode == 0
                 and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf"), r)
            case("it goes to the hub and nowhere else", hub.requests("cdn")
                 and all("Authorization" in q[3] for q in hub.requests("hub"))
                 and not any("secret" in str(q[3]) for q in hub.requests("cdn")), r)
    with scene(token="hf_secret") as (hub, w):
        r = w.vlm("models", "fetch", NAME, HF_TOKEN="x\r\nEvil: 1")
        case("a token of several lines is none", r.returncode == 1
             and not any("Evil" in q[3] or "Authorization" in q[3] for q in hub.log), r)


def start(w, *args):
    return subprocess.Popen([VLM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=w.folder, env=w.env)


def ended(process):
    out, err = process.communicate(timeout=45)  # far below what ends a stalled transfer
    return subprocess.CompletedProcess([], process.returncode, out, err)


def process_cases():
    for number in (signal.SIGINT, signal.SIGTERM):
        with scene() as (hub, w):
            out, go_on = threading.Event(), threading.Event()
            hub.hold = (1000000, out, go_on)
            process = start(w, "models", "fetch", NAME)
            out.wait()
            while sum(os.path.getsize(f) for f in left(w)) < 1000000:
                time.sleep(0.01)
            process.send_signal(number)
            r = ended(process)
            go_on.set()
            case(f"{signal.Signals(number).name} keeps what came", r.returncode == 130
                 and "goes on with it" in r.stderr and nothing_there(w)
                 and os.path.getsize(left(w)[0]) >= 1000000, r)
            r = w.vlm("models", "fetch", NAME)
            case("and the next call goes on", r.returncode == 0 and "are here" in r.stderr
                 and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf"), r)
    with scene() as (hub, w):
        out, go_on = threading.Event(), threading.Event()
        hub.hold = (1000000, out, go_on)
        first = start(w, "models", "fetch", NAME)
        out.wait()
        second = start(w, "models", "fetch", NAME)
        line = second.stderr.readline()
        go_on.set()
        r1, r2 = ended(first), ended(second)
        case("two at once: one waits, both have it", r1.returncode == 0 and r2.returncode == 0
             and line.startswith("waiting for another program that fetches m-Q8_0.gguf")
             and is_there(hub, w, "m-Q8_0.gguf", "mmproj-m-F16.gguf")
             and len(hub.requests("cdn", "GET", "/m-Q8_0")) == 1, r2)


def main():
    plain_cases()
    command_cases()
    text_cases()
    resume_cases()
    check_cases()
    refusal_cases()
    token_cases()
    process_cases()
    sys.exit(finish())


main()
