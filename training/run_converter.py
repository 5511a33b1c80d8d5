# SPDX-License-Identifier: LGPL-2.1-or-later
# training/run_converter.py — starts llama.cpp's converter for a vocabulary that it doesn't know
"""run_converter.py PRE CONVERTER [converter arguments...]

The converter recognises a vocabulary by a hash of what it produces and refuses any other.  Ours is
made by training/, so the name of its pre-tokenizer, PRE, is given instead; nothing else changes."""

import importlib.util
import os
import sys

pre, path = sys.argv[1], os.path.realpath(sys.argv[2])
sys.argv = [path] + sys.argv[3:]
here = os.path.dirname(path)
for d in (
    here,
    os.path.join(here, "../../../../../usr/share/llama.cpp/llama.cpp-tools"),
    os.path.join(here, "../share/llama.cpp/llama.cpp-tools"),
    "/usr/share/llama.cpp/llama.cpp-tools",
):
    if os.path.isdir(os.path.join(d, "conversion")):
        sys.path.insert(0, d)
        break
spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", path)
mod = importlib.util.module_from_spec(spec)
sys.modules["convert_hf_to_gguf"] = mod
spec.loader.exec_module(mod)
try:  # 2026: a package of files, one per family
    from conversion.base import TextModel
except ImportError:  # 2025: one file
    TextModel = getattr(mod, "TextModel", None) or mod.Model
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
mod.main()
