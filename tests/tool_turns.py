# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_turns.py — `vlm` with examples and conversations: JSON files, what they give, what is wrong.
#   python3 tool_turns.py VLM MODEL    MODEL is a tiny model with its mmproj next to it
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

from tool_world import case, finish

VLM, MODEL = map(os.path.abspath, sys.argv[1:3])
FOLDER = tempfile.TemporaryDirectory()
TEXT = {"type": "text", "text": "What is it?"}


def path_of(name):
    return os.path.join(FOLDER.name, name)


def write(name, value):
    """A file with a value as JSON, or with a text as it is; its path."""
    with open(path_of(name), "w", encoding="utf-8") as out:
        out.write(value if isinstance(value, str) else json.dumps(value))
    return path_of(name)


def write_png(name, rgb, side=40):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    rows = (b"\0" + bytes(rgb) * side) * side
    with open(path_of(name), "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
                  + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(text):
    return {"role": "assistant", "content": text}


def image(name):
    return {"type": "image", "image": name}


def vlm(*args, **kwargs):
    return subprocess.run([VLM, *args], capture_output=True, text=True, timeout=300,
                          cwd=os.path.dirname(FOLDER.name), **kwargs)


def ask(*args, **kwargs):
    """Tokens of an answer, its size in context, and how the command ended."""
    r = vlm("run", "-m", MODEL, "--json", "--ignore-stop", "-n", "6", *args, **kwargs)
    out = json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 and r.stdout else {}
    return out.get("tokens"), out.get("n_context"), r


def same_cases():
    """The same conversation, said in several ways, is answered alike."""
    red, blue = path_of("red.png"), path_of("blue.png")
    turn = [user(image("red.png"), TEXT), assistant("A red one.")]
    question = ["-i", blue, "-p", "What is it?"]
    examples = write("examples.json", [{"image": "red.png", "answer": "A red one."}])
    own = write("own.json", [{"image": ["red.png"], "prompt": "What is it?",
                              "answer": "A red one."}])
    want, size, r = ask("--messages", write("whole.json", turn + [user(image("blue.png"), TEXT)]))
    case("a conversation", want and size, r)
    plain = ask(*question)
    case("and not without its history", plain[0] and plain[1] < size, plain[2])
    for name, args in {
            "examples": ["--examples", examples, *question],
            "examples with a prompt of their own": ["--examples", own, *question],
            "history and prompt": ["--messages", write("history.json", turn), *question],
            "an object with messages": ["--messages", write("object.json", {
                "messages": turn + [user(image("blue.png"), TEXT)]})],
            "OpenAI's names of pictures": ["--messages", write("urls.json", [
                user({"type": "image_url", "image_url": {"url": "red.png"}}, TEXT), turn[1],
                user({"type": "image", "path": blue}, TEXT)])],
            "texts in parts": ["--messages", write("parts.json", [
                user(image("red.png"), {"type": "text", "text": "What "},
                     {"type": "text", "text": "is it?"}),
                {"role": "assistant", "content": [{"type": "text", "text": "A red"},
                                                  {"type": "text", "text": " one."}]},
                user(image("blue.png"), TEXT)])]}.items():
        got = ask(*args)
        case(name, got[:2] == (want, size), got[2])
    got = ask("--messages", write("whole.json", turn), "--chat", input="What now?\n")
    case("a conversation goes on", got[0] and got[1] < size, got[2])
    told = [{"role": "system", "content": "Be brief."}]
    with_system = ask("--messages", write("system.json", told + turn), *question)
    got = ask("--system", "Be brief.", "--examples", examples, *question)
    case("a system prompt", with_system[0] and with_system[:2] == got[:2]
         and with_system[1] > size, with_system[2])
    both = ask("--examples", examples, "--messages", write("both.json", turn), *question)
    case("examples before a history", both[0] and both[1] > size, both[2])
    line = json.dumps({"image": [blue], "prompts": ["What is it?"]})
    r = vlm("run", "-m", MODEL, "--ignore-stop", "-n", "6", "--top-logits", "1", "--examples", own,
            "--batch", "-", input=f"{line}\n{line}\n")
    got = [json.loads(x).get("tokens") for x in r.stdout.splitlines()]
    case("a batch with examples", got == [want, want], r)
    write_png("large.png", (9, 200, 30), 1000)
    _, _, r = ask("-i", path_of("large.png"), "-p", "What is it?", "-c", "256")
    case("no answer without a picture that does not fit", r.returncode == 1
         and "do not fit a context of 256" in r.stderr and not r.stdout, r)
    moved = ask("--examples", own, "-i", red, "-p", "What is it?")
    case("another picture, another context", moved[0] and moved[1] == size, moved[2])


def error_cases():
    question = ["-p", "What is it?"]
    example = {"image": "red.png", "answer": "Red."}
    table = [
        ("--examples", None, 1, "file.json: there is no such file"),
        ("--examples", "[", 1, "file.json: not JSON: 1:"),
        ("--examples", [], 1, "file.json: must be a list of examples"),
        ("--examples", [example, "red.png"], 1, "file.json, example 2: must be an object"),
        ("--examples", [{"image": "red.png"}], 1, 'example 1: has no "answer"'),
        ("--examples", [{"image": "none.png", "answer": "A"}], 1,
         f"example 1: there is no file '{path_of('none.png')}'"),
        ("--examples", [{"image": "file.json", "answer": "A"}], 1, "file.json, example 1: '"),
        ("--examples", [{"image": ".", "answer": "A"}], 1, "is a folder"),
        ("--examples", [example] * 99, 1, "tokens, too many for a context of 256"),
        ("--messages", None, 1, "file.json: there is no such file"),
        ("--messages", {}, 1, "file.json: must be a list of messages"),
        ("--messages", [{"role": "you", "content": "x"}], 1, 'message 1: "role" must be "system"'),
        ("--messages", [{"role": "user"}], 1, 'message 1: "content" must be a string or a list'),
        ("--messages", [user("x")], 1, 'a part of "content" must be an object'),
        ("--messages", [user({"type": "audio", "audio": "x"})], 1, 'must be of type "text"'),
        ("--messages", [user({"type": "image"})], 1, 'a part of type "image" names no file'),
        ("--messages", [user(image("none.png"))], 1, "message 1: there is no file"),
        ("--messages", [user(TEXT), user(TEXT)], 1, "message 2: comes from the user, as the one"),
        ("--messages", [assistant("x")], 1, "message 1: comes from the assistant, but"),
        ("--messages", [user(TEXT), assistant("x"), {"role": "system", "content": "x"}], 1,
         "message 3: the system's message must be the first"),
        ("--messages", [user(TEXT), {"role": "assistant", "content": [image("red.png")]}], 1,
         'message 2: a message of role "assistant" can only have text'),
        ("--messages", [user(TEXT), {**assistant("x"), "name": "y"}], 1,
         'message 2: there is no "name", only "role", "content"'),
        ("--messages", [user(TEXT)], 2, "ends with a question of its own"),
    ]
    for number, (option, value, code, text) in enumerate(table):
        path = path_of("file.json")
        if value is None:
            if os.path.exists(path):
                os.remove(path)
        else:
            write("file.json", value)
        r = vlm("run", "-m", MODEL, option, path, "-c", "256", *question)
        case(f"{option} {number}: {text}", r.returncode == code and text in r.stderr
             and not r.stdout and r.stderr.count("\n") == 1, r)
    r = vlm("run", "-m", MODEL, "--messages", write("file.json", [user(TEXT), assistant("x")]))
    case("nothing to answer", r.returncode == 2 and "ends with an answer" in r.stderr, r)
    r = vlm("run", "-m", MODEL, "--system", "x", "--messages", write("file.json", [
        {"role": "system", "content": "y"}, user(TEXT)]))
    case("two system prompts", r.returncode == 2 and "--system" in r.stderr, r)


def caption_cases():
    film, out = path_of("film.webm"), path_of("film.vtt")
    subprocess.run(["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=20", "!",
                    "video/x-raw,width=64,height=64,framerate=5/1", "!", "vp8enc", "!", "webmmux",
                    "!", "filesink", f"location={film}"], check=True)
    write("film.vtt", "precious")
    examples = write("examples.json", [{"image": "red.png", "answer": "A red one."}])
    wrong = write("wrong.json", [{"image": "red.png"}])
    r = vlm("caption", film, "-m", MODEL, "-n", "4", "-o", out, "--examples", wrong)
    with open(out, encoding="utf-8") as text:
        kept = text.read() == "precious"
    case("captions with a wrong example", r.returncode == 1 and kept and r.stderr.startswith(
        f'vlm caption: {wrong}, example 1: has no "answer". '), r)
    r = vlm("caption", film, "-m", MODEL, "-n", "4", "-o", out, "--examples", examples)
    with open(out, encoding="utf-8") as text:
        case("captions with examples", r.returncode == 0 and "-->" in text.read(), r)


def main():
    write_png("red.png", (220, 30, 40))
    write_png("blue.png", (20, 60, 220))
    same_cases()
    error_cases()
    caption_cases()
    FOLDER.cleanup()
    sys.exit(finish())


main()
