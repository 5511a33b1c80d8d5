# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/oracle/cases.py — what is shown to a model: test pictures, the parts of a turn, and the
# ids, pixels and positions that transformers makes of them.
import numpy as np
import torch

SECOND = 1_000_000_000
# Limits of the published models for the sum of the pixels of all frames of a film.
FILM_MIN_PIXELS, FILM_MAX_PIXELS = 4096, 25165824


def picture(width, height, index):
    """Test picture `index`, uint8 [height, width, 3]: the same bytes as vectors_picture() in C."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    rgb = np.empty((height, width, 3), np.int64)
    rgb[..., 0] = x * 255 // max(width - 1, 1)
    rgb[..., 1] = y * 255 // max(height - 1, 1)
    rgb[..., 2] = (x + y) * 255 // max(width + height - 2, 1)
    corner = (x < width // 4) & (y < height // 4)
    rgb[corner] = np.where(((x + y) // 4 % 2 == 0)[corner][:, None], 255, 0)
    noise = (x * 73856093 ^ y * 19349663 ^ index * 83492791) & 0xFFFFFFFF
    strip = y >= height - height // 8
    for channel, shift in enumerate((8, 16, 24)):
        rgb[..., channel][strip] = (noise >> shift & 255)[strip]
    quarter = max(height // 4, 1)
    left = index * 8 % max(width - quarter, 1)
    rgb[height // 2:height // 2 + quarter, left:left + quarter] = (230, 30, 40)
    disc = (x - 3 * width // 4) ** 2 + (y - height // 3) ** 2 < (height // 6) ** 2
    rgb[disc] = (20, 60, 220)
    return rgb.astype(np.uint8)


class Case:
    """Parts in the order in which they are given to the model: ("system" | "text" | "answer" |
    "prompt", TEXT), ("image", W, H, INDEX) and ("frame", W, H, INDEX, NANOSECONDS). An answer ends
    the user's turn, what follows is the next one."""

    def __init__(self, name, parts):
        self.name, self.parts = name, parts

    def input(self):
        """The parts as lines of text."""
        return "".join(" ".join(str(x) for x in part) + "\n" for part in self.parts)


def film(width, height, count, rate):
    return [("frame", width, height, i, int(i * SECOND / rate)) for i in range(count)]


ASK = "Describe this video in detail."


def standard():
    """The cases of the recorded set."""
    return [
        Case("text", [
            ("system", "You are a helpful assistant."),
            ("prompt", "The quick brown fox didn't see 1234 cars:  a man walks. What is it?")]),
        # Too small for the model and of odd sides: scaled up to 320 x 224.
        Case("image", [("image", 201, 149, 0), ("prompt", "What is in the picture?")]),
        # Wide, tall and small pictures between texts.
        Case("images", [
            ("text", "First "), ("image", 333, 190, 1), ("text", ", then "),
            ("image", 150, 410, 2), ("text", " and "), ("image", 64, 48, 3),
            ("prompt", ". Which is the largest?")]),
        # Five frames at 2 a second: the last is shown twice. 150 x 101 becomes 160 x 96.
        Case("video", [
            ("system", "You are a helpful assistant."), *film(150, 101, 5, 2), ("prompt", ASK)]),
        # A frame in two seconds: a film that is longer than wide where positions count seconds.
        Case("slow", [*film(101, 150, 5, 0.5), ("prompt", ASK)]),
        # Far from the shape of a square, and one pixel.
        Case("odd", [
            ("image", 1, 1, 4), ("image", 1, 4000, 5), ("image", 4000, 1, 6), ("image", 400, 800, 7),
            ("image", 37, 53, 8), ("prompt", "Which of them is small?")]),
        # Two films and a still between texts.
        Case("mixed", [
            ("text", "First "), *film(64, 64, 3, 2), ("text", ", then "), ("image", 64, 48, 3),
            *film(96, 40, 2, 1), ("prompt", ASK)]),
    ]


def odd():
    """Pictures of odd shapes without a text between them."""
    sizes = ((1, 1), (1, 4000), (4000, 1), (400, 800), (37, 53))
    return Case("odd", [*(("image", w, h, i) for i, (w, h) in enumerate(sizes)),
                        ("prompt", "Which of these is a picture?")])


def chats():
    """Conversations: turns that have been answered before the question."""
    turns = [
        ("image", 201, 149, 4), ("text", "What is it?"), ("answer", "A red square, 1 of 2."),
        ("text", "And "), ("image", 64, 48, 5), ("text", "?"), ("answer", "(the same)"),
        ("text", "No picture here."), ("answer", " None."),
        ("image", 150, 101, 6), ("prompt", "What is it?")]
    return [
        Case("chat", [("system", "You are a helpful assistant."), *turns]),
        Case("history", turns),
        Case("films", [
            *film(96, 96, 3, 2), ("text", "What happens?"), ("answer", "It moves."),
            *film(150, 101, 5, 2), ("prompt", "What happens?")])]


def all_cases():
    return standard() + [odd()] + chats()


# ------------------------------------------------------------------------- as transformers sees it
def image_pixels(model, rgb):
    from transformers import Qwen2VLImageProcessor
    processor = Qwen2VLImageProcessor(
        patch_size=model.patch, temporal_patch_size=2, merge_size=model.merge,
        image_mean=model.mean, image_std=model.std,
        size=dict(shortest_edge=model.min_pixels, longest_edge=model.max_pixels))
    # Said, for it is guessed otherwise: wrongly of pictures that are 1 or 3 pixels high.
    out = processor(images=[rgb], return_tensors="pt", input_data_format="channels_last")
    return out["pixel_values"], out["image_grid_thw"][0].tolist()


def film_pixels(model, frames):
    from transformers import Qwen3VLVideoProcessor
    processor = Qwen3VLVideoProcessor(
        patch_size=model.patch, temporal_patch_size=2, merge_size=model.merge,
        image_mean=model.mean, image_std=model.std, do_sample_frames=False,
        cap_pixels_per_frame=False,
        size=dict(shortest_edge=FILM_MIN_PIXELS, longest_edge=FILM_MAX_PIXELS))
    frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    out = processor(videos=[frames], return_tensors="pt", input_data_format="channels_first")
    return out["pixel_values_videos"], out["video_grid_thw"][0].tolist()


def pair_seconds(times):
    """Time of each pair of frames in seconds, as transformers' processor computes it."""
    times = [t / SECOND for t in times]
    if len(times) % 2:
        times.append(times[-1])
    return [(a + b) / 2 for a, b in zip(times[::2], times[1::2])]


def inputs_of(model, case):
    """The arguments of the model's forward() for a case, and its prompt with one placeholder
    for each picture or pair of frames."""
    if model.config.model_type == "llava":
        import llava
        return llava.inputs_of(model, case, picture)
    if model.arch == "llama":
        import smolvlm
        return smolvlm.inputs_of(model, case, picture)
    if model.arch == "qwen2vl":
        import qwen2vl
        return qwen2vl.inputs_of(model, case, picture, image_pixels)
    n_merge = model.merge * model.merge
    prompt, expanded = "", ""
    images, films, grids = [], [], {"image": [], "film": []}
    system = [p[1] for p in case.parts if p[0] == "system"]
    for text in system:
        prompt += f"<|im_start|>system\n{text}<|im_end|>\n"
    prompt += "<|im_start|>user\n"
    expanded = prompt

    def pads(token, count):
        return "<|vision_start|>" + token * count + "<|vision_end|>"

    parts = [p for p in case.parts if p[0] != "system"]
    at = 0
    while at < len(parts):
        part = parts[at]
        if part[0] in ("text", "prompt"):
            prompt += part[1]
            expanded += part[1]
        elif part[0] == "answer":
            turn = f"{model.known_open}{part[1]}<|im_end|>\n<|im_start|>user\n"
            prompt, expanded = prompt + turn, expanded + turn
        elif part[0] == "image":
            pixels, grid = image_pixels(model, picture(*part[1:4]))
            images.append(pixels)
            grids["image"].append(grid)
            prompt += pads("<|image_pad|>", 1)
            expanded += pads("<|image_pad|>", grid[1] * grid[2] // n_merge)
        else:
            frames = []
            while at < len(parts) and parts[at][0] == "frame":
                frames.append(parts[at])
                at += 1
            at -= 1
            pixels, grid = film_pixels(model, [picture(*f[1:4]) for f in frames])
            films.append(pixels)
            grids["film"].append(grid)
            # One <t seconds> and one bracket for each pair; none around the whole film.
            for seconds in pair_seconds([f[4] for f in frames]):
                head = f"<{seconds:.1f} seconds>"
                prompt += head + pads("<|video_pad|>", 1)
                expanded += head + pads("<|video_pad|>", grid[1] * grid[2] // n_merge)
        at += 1
    prompt, expanded = prompt + model.answer_open, expanded + model.answer_open

    ids = model.encode(expanded)
    image_pad, video_pad = model.banned()
    kinds = [1 if i == image_pad else 2 if i == video_pad else 0 for i in ids]
    inputs = dict(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                  mm_token_type_ids=torch.tensor([kinds], dtype=torch.int32))
    if images:
        inputs.update(pixel_values=torch.cat(images), image_grid_thw=torch.tensor(grids["image"]))
    if films:
        inputs.update(pixel_values_videos=torch.cat(films), video_grid_thw=torch.tensor(grids["film"]))
    return inputs, prompt, expanded
