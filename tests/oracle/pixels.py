#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""pixels.py OUT.vec - what transformers' processors make of test pictures.

Writes for checkgpu, from Qwen2VLImageProcessor and Qwen3VLVideoProcessor themselves:
  smart_resize    i32 [case, 6]: width, height, frames (0: the image rule), index of the limits,
                  width and height of the result (0, 0 where the reference refuses)
  limits          i32 [index, 3]: factor, min_pixels, max_pixels
  pictures        i32 [case, 7]: width, height, index of cases.picture(), result width and height,
                  index of means, 1 for a frame of a film
  means           f32 [index, 6]: mean and standard deviation of R, G, B
  levels_N        u8 [height, width, 3]: picture N after the resize (small ones)
  sums            f64 [case, 4]: checksum of its pixel_values
  first           f32 [case, 16]: its first pixel_values

tests/oracle/README.md says what must be installed.
"""
import sys

import numpy as np
import torch
from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as image_rule
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as film_rule

import cases
import vec

LIMITS = [(32, 65536, 16777216), (32, 4096, 25165824), (28, 3136, 1003520), (32, 15360, 15360)]
MEANS = [(0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
         (0.48145466, 0.4578275, 0.40821073, 0.26862954, 0.26130258, 0.27577711)]
SIDES = [1, 2, 15, 16, 17, 31, 33, 37, 48, 53, 80, 112, 144, 176, 199, 200, 240, 333, 400, 800, 1080, 1279,
         1280, 1920, 3199, 3200, 4000, 4320, 7680, 16384]
# Width, height, index, means, film; the size follows from limits that make it small.
PICTURES = [(1, 1, 0, 0, 0), (37, 53, 1, 0, 0), (201, 149, 2, 1, 0), (64, 48, 3, 0, 0), (40, 700, 4, 0, 0),
            (333, 32, 5, 1, 0), (150, 101, 6, 0, 1), (160, 96, 7, 0, 1), (640, 360, 8, 0, 1),
            (1920, 1080, 9, 0, 1), (23, 11, 10, 0, 1)]
PICTURE_LIMITS = (32, 4096, 40960)


def resize_cases():
    rows = []
    for index, (factor, low, high) in enumerate(LIMITS):
        for width in SIDES:
            for height in SIDES:
                for frames in (0, 2, 3, 5, 16, 768):
                    if (width * 7 + height * 3 + frames + index) % 11:
                        continue  # one in eleven: enough, and a small file
                    try:
                        if frames:
                            h, w = film_rule(frames, height, width, 2, factor, low, high)
                        else:
                            h, w = image_rule(height, width, factor, low, high)
                    except ValueError:
                        w = h = 0
                    rows.append((width, height, frames, index, w, h))
    return np.array(rows, np.int32)


def pixel_values(rgb, means, film):
    factor, low, high = PICTURE_LIMITS
    common = dict(patch_size=16, temporal_patch_size=2, merge_size=2,
                  image_mean=list(means[:3]), image_std=list(means[3:]),
                  size=dict(shortest_edge=low * (2 if film else 1),
                            longest_edge=high * (2 if film else 1)))
    if not film:
        out = Qwen2VLImageProcessor(**common)(
            images=[torch.from_numpy(rgb).permute(2, 0, 1)], return_tensors="pt")
        return out["pixel_values"].numpy(), out["image_grid_thw"][0].tolist()
    frames = torch.from_numpy(np.stack([rgb, rgb])).permute(0, 3, 1, 2)
    processor = Qwen3VLVideoProcessor(do_sample_frames=False, cap_pixels_per_frame=False, **common)
    out = processor(videos=[frames], return_tensors="pt")
    return out["pixel_values_videos"].numpy(), out["video_grid_thw"][0].tolist()


def levels_of(values, grid, means):
    """The bytes that were normalised and cut, put together again."""
    _, rows, columns = grid
    x = values.reshape(rows // 2, columns // 2, 2, 2, 3, 2, 16, 16)[:, :, :, :, :, 0]
    x = x.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * 16, columns * 16, 3)
    x = x * np.array(means[3:]) * 255 + np.array(means[:3]) * 255
    return np.rint(x).astype(np.uint8)


def main():
    torch.set_num_threads(1)
    arrays = dict(smart_resize=resize_cases(), limits=np.array(LIMITS, np.int32),
                  means=np.array(MEANS, np.float32))
    table, sums, first, levels = [], [], [], {}
    for n, (width, height, index, mean, film) in enumerate(PICTURES):
        values, grid = pixel_values(cases.picture(width, height, index), MEANS[mean], film)
        table.append((width, height, index, grid[2] * 16, grid[1] * 16, mean, film))
        sums.append(vec.checksum(values))
        first.append(values.ravel()[:16])
        if values.size <= 2 * 3 * 64 * 160:
            levels[f"levels_{n}"] = levels_of(values, grid, MEANS[mean])
    arrays.update(pictures=np.array(table, np.int32), sums=np.array(sums),
                  first=np.array(first, np.float32), **levels)
    vec.write(sys.argv[1], arrays)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
