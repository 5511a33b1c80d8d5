# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_readme.py — runs what the README says, as it is written.
#   python3 tool_readme.py SOURCE PLUGIN_FOLDER
# The gst-launch lines, the C program (compiled with cc and pkg-config) and the Python program (where
# python3-gi is installed). Skipped without the default model or the sample clip.
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE, PLUGIN = map(os.path.abspath, sys.argv[1:3])
number = 0
failed = 0


def report(name, good, text=""):
    global number, failed
    number += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print("\n".join("# " + line for line in text.splitlines()[-30:]))


def run(command, folder):
    env = dict(os.environ, GST_PLUGIN_PATH=PLUGIN, GST_REGISTRY=os.path.join(folder, "registry"))
    env.pop("GST_PLUGIN_PATH_1_0", None)
    env.pop("GST_REGISTRY_1_0", None)
    r = subprocess.run(command, shell=True, cwd=folder, env=env, text=True, capture_output=True,
                       timeout=900)
    return r.returncode, r.stdout + r.stderr


def launch_lines(text, folder):
    lines = re.findall(r"^(gst-launch-1\.0 .*)$", text, re.M)
    report("three lines", len(lines) == 3)
    for line in lines:
        code, out = run(line, folder)
        good = code == 0 and "ERROR" not in out
        if "webvttenc" in line:
            with open(os.path.join(folder, "shapes.vtt"), encoding="utf-8") as vtt:
                out = vtt.read()
            good = good and out.startswith("WEBVTT") and out.count("-->") >= 1
        elif "matroskamux" in line:
            good = good and os.path.getsize(os.path.join(folder, "captioned.mkv")) > 1000
        else:
            good = good and "vlm-caption" in out
        report(line[:60], good, out)


def c_program(text, folder):
    with open(os.path.join(folder, "app.c"), "w", encoding="utf-8") as app:
        app.write(re.search(r"```c\n(.*?)```", text, re.S).group(1))
    code, out = run("cc -Wall -Wextra -Werror app.c -o app $(pkg-config --cflags --libs "
                    "gstreamer-1.0) && ./app", folder)
    report("C program", code == 0 and len(out.split()) > 2, out)


def python_program(text, folder):
    with open(os.path.join(folder, "app.py"), "w", encoding="utf-8") as app:
        app.write(re.search(r"```python\n(.*?)```", text, re.S).group(1))
    python = next((p for p in ("/usr/bin/python3", sys.executable)
                   if subprocess.run([p, "-c", "import gi; gi.require_version('Gst', '1.0')"],
                                     capture_output=True).returncode == 0), None)
    if not python:
        print("# no python3-gi here, the Python program was left out")
        return
    code, out = run(python + " app.py", folder)
    report("Python program", code == 0 and len(out.split()) > 2, out)


def main():
    needed = ["samples/shapes.webm", "models/shapes.gguf", "models/mmproj-shapes.gguf"]
    if not all(os.path.exists(os.path.join(SOURCE, f)) for f in needed):
        print("1..0 # SKIP no default model or no sample clip")
        return
    if not shutil.which("gst-launch-1.0"):
        print("1..0 # SKIP no gst-launch-1.0")
        return
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as readme:
        text = readme.read()
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.join(SOURCE, "samples"), os.path.join(folder, "samples"))
        launch_lines(text, folder)
        c_program(text, folder)
        python_program(text, folder)
    print(f"1..{number}")
    sys.exit(1 if failed else 0)


main()
