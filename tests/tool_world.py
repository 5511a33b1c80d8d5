# SPDX-License-Identifier: LGPL-2.1-or-later
# tool_world.py — what the tests of model names share: a home of its own, and the count of cases.
import os
import shutil
import subprocess

REV = "0123456789abcdef0123456789abcdef01234567"
failed = []
number = 0


class World:
    """A home of its own: caches, and an environment that points there."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.hub = os.path.join(folder, "hf", "hub")
        self.llama = os.path.join(folder, "llama.cpp")
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("HF_") and k not in ("VLM_MODEL", "LLAMA_CACHE")}
        self.env.update(HOME=folder, XDG_CACHE_HOME=os.path.join(folder, "cache"),
                        HF_HOME=os.path.join(folder, "hf"), LLAMA_CACHE=self.llama,
                        HF_HUB_OFFLINE="1")

    def vlm(self, *args, **env):
        return subprocess.run([self.program, *args], capture_output=True, text=True, timeout=300,
                              cwd=self.folder, env=dict(self.env, **env), check=False)

    def path(self, *names):
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def copy(self, source, *names):
        path = self.path(*names)
        shutil.copyfile(source, path)
        return path

    def cache(self, repo, files, rev=REV, main=True):
        """Files as a hub's library keeps them: blobs, and links to them in a snapshot."""
        base = os.path.join("hf", "hub", "models--" + repo.replace("/", "--"))
        for i, (name, source) in enumerate(files.items()):
            blob = self.path(base, "blobs", f"{rev[:8]}{i}")
            if source:
                shutil.copyfile(source, blob)
            link = self.path(base, "snapshots", rev, name)
            os.symlink(os.path.relpath(blob, os.path.dirname(link)), link)
        if main:
            with open(self.path(base, "refs", "main"), "w", encoding="utf-8") as ref:
                ref.write(rev)


def case(name, good, result):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        failed.append(name)
        print(f"# exit {result.returncode}\n# stdout: {result.stdout!r}\n# stderr: {result.stderr!r}")


def finish():
    """The plan, and the exit code."""
    print(f"1..{number}")
    return 1 if failed else 0
