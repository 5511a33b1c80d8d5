# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/smolvlm.py — what transformers' SmolVLM processors make of a case.
import datetime

import numpy as np
import torch
from num2words import num2words
from transformers.models.smolvlm import processing_smolvlm as protocol
from transformers.models.smolvlm import video_processing_smolvlm as video

FAKE, GLOBAL, IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
SECOND = 1_000_000_000


def image_pixels(model, rgb):
    """Tiles and the whole as [n, 3, side, side], rows and columns of tiles."""
    from transformers import SmolVLMImageProcessor
    processor = SmolVLMImageProcessor(
        size=dict(longest_edge=model.longest_edge), max_image_size=dict(longest_edge=model.image_size),
        image_mean=model.mean, image_std=model.std, return_row_col_info=True)
    rgb = torch.from_numpy(rgb).permute(2, 0, 1)
    out = processor(images=[[rgb]], return_tensors="pt", input_data_format="channels_first")
    return out["pixel_values"][0], out["rows"][0][0], out["cols"][0][0]


def film_pixels(model, frames):
    from transformers import SmolVLMVideoProcessor
    processor = SmolVLMVideoProcessor(
        size=dict(longest_edge=model.image_size), max_image_size=dict(longest_edge=model.image_size),
        image_mean=model.mean, image_std=model.std, do_sample_frames=False)
    frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return processor(videos=[frames], return_tensors="pt",
                     input_data_format="channels_first")["pixel_values"][0]


def film_text(model, times):
    """The prompt of a film, as SmolVLMProcessor.replace_video_token() writes it."""
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    duration = datetime.timedelta(seconds=int(step * len(times) / SECOND))
    text = video.DEFAULT_VIDEO_INTRO.format(frame_count=num2words(len(times)),
                                            video_duration=str(duration))
    for time in times:
        seconds = time / SECOND
        stamp = f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"
        text += video.FRAME_TIMESTAMP_MESSAGE.format(timestamp=stamp)
        text += protocol._prompt_single_image(model.n_rows, FAKE, IMAGE, GLOBAL)
    return text + video.DEFAULT_MEDIA_OUTTRO


def inputs_of(model, case, picture):
    """As cases.inputs_of()."""
    text, pixels = "<|im_start|>", []
    for part in case.parts:
        if part[0] == "system":
            text += f"System: {part[1]}<end_of_utterance>\n"
    parts = [p for p in case.parts if p[0] != "system"]
    at, begins = 0, True
    while at < len(parts):
        part = parts[at]
        if begins:
            text += "User:" if part[0] == "image" else "User: "
        begins = part[0] == "answer"
        if part[0] in ("text", "prompt"):
            text += part[1]
        elif part[0] == "answer":
            text += f"<end_of_utterance>\nAssistant: {part[1]}<end_of_utterance>\n"
        elif part[0] == "image":
            values, rows, cols = image_pixels(model, picture(*part[1:4]))
            pixels.append(values)
            text += protocol.get_image_prompt_string(rows, cols, model.n_rows, FAKE, IMAGE, GLOBAL)
        else:
            film = []
            while at < len(parts) and parts[at][0] == "frame":
                film.append(parts[at])
                at += 1
            at -= 1
            pixels.append(film_pixels(model, [picture(*f[1:4]) for f in film]))
            text += film_text(model, [f[4] for f in film])
        at += 1
    text += "<end_of_utterance>\nAssistant:"
    ids = model.encode(text)
    inputs = dict(input_ids=torch.tensor([ids]),
                  attention_mask=torch.ones(1, len(ids), dtype=torch.long))
    if pixels:
        inputs["pixel_values"] = torch.cat(pixels)[None]
    return inputs, text.replace(IMAGE * model.n_rows, IMAGE), text


def rows_of(model, values):
    """Pixels [1, n, 3, side, side] as the rows of patches that go into the tower."""
    p, m = model.patch, model.merge
    n = values.shape[-1] // p // m
    v = values[0][..., :n * m * p, :n * m * p].reshape(-1, 3, n, m, p, n, m, p)
    return v.transpose(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3 * p * p)
