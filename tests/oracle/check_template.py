#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/check_template.py — the prompts of recorded cases against a model's chat template.
"""check_template.py TEMPLATE.jinja|smolvlm VECTOR-FILE...

Renders the conversation of each recorded case with transformers' own template engine and compares
it with the prompt that the case was recorded with, character by character. TEMPLATE is the
`chat_template.jinja` (or `tokenizer.chat_template` of a GGUF) of a published model; "smolvlm" is
the one that transformers brings. Pictures are compared by their places: what stands between the
texts is made by processors, not templates. Exit status 0: all equal.

Known differences, which are passed over: the brackets that the template of Qwen3-VL writes around
a film, and white space around texts, which the templates of Qwen3.5 take away.
"""
import re
import sys

import vec

TILE = r"<fake_token_around_image>(?:<row_\d_col_\d>|<global-img>)<image>"
PLACES = (
    (rf"You are provided the following series of \S+ frames from a \S+ \[H:MM:SS\] video\.\n"
     rf"(?:\nFrame from \d\d:\d\d:{TILE}<fake_token_around_image>)+\n\n", "<video>"),
    (rf"(?:{TILE}\n*)+<fake_token_around_image>", "<image>"),
    (r"(?:<\d+\.\d seconds><\|vision_start\|><\|video_pad\|><\|vision_end\|>)+",
     "<|vision_start|><|video_pad|><|vision_end|>"))


def messages_of(lines):
    messages, film = [], False
    for line in lines:
        kind, _, value = line.partition(" ")
        if kind in ("system", "answer"):
            role = {"system": "system", "answer": "assistant"}[kind]
            messages.append(dict(role=role, content=[dict(type="text", text=value)]))
        else:
            if not messages or messages[-1]["role"] != "user":
                messages.append(dict(role="user", content=[]))
            content = messages[-1]["content"]
            if kind in ("text", "prompt"):
                content.append(dict(type="text", text=value))
            elif kind == "image":
                content.append(dict(type="image"))
            elif not film:
                content.append(dict(type="video"))
        film = kind == "frame"
    return messages


def trimmed(text):
    """Without white space before and after the texts of turns."""
    return re.sub(r"[ \n]*(<\|im_end\|>)", r"\1", re.sub(r"(<\|im_start\|>\w+\n)[ \n]*", r"\1", text))


def main():
    from transformers.utils.chat_template_utils import render_jinja_template
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if sys.argv[1] == "smolvlm":
        from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE as template
    else:
        with open(sys.argv[1], encoding="utf-8") as source:
            template = source.read()
    bad = 0
    for path in sys.argv[2:]:
        arrays = vec.read(path)
        want = vec.text(arrays["prompt"])
        messages = messages_of(vec.text(arrays["input"]).splitlines())
        got, _ = render_jinja_template([messages], chat_template=template, enable_thinking=False,
                                       add_generation_prompt=True, bos_token="<|begin_of_text|>")
        for pattern, place in PLACES:
            want = re.sub(pattern, place, want)
        equal, near = want == got[0], trimmed(want) == trimmed(got[0])
        bad += not near
        print(f"{'ok  ' if near else 'FAIL'} {path}" + ("" if equal else ": white space differs"
                                                        if near else f"\n  {want!r}\n  {got[0]!r}"))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
