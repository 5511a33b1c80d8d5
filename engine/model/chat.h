// SPDX-License-Identifier: LGPL-2.1-or-later
// model/chat.h — the prompt format of the supported families, ChatML, in pieces.
//
//   <|im_start|>system\nYou watch a video.<|im_end|>\n
//   <|im_start|>user\n... images, frames and text ...<|im_end|>\n
//   <|im_start|>assistant\n... answer ...<|im_end|>
//
// A chat template in a file is never executed. Text from outside is encoded without special
// tokens, so that it cannot open a turn or place an image. Thread-safety: a vlm_chat is immutable.
#ifndef VLM_MODEL_CHAT_H
#define VLM_MODEL_CHAT_H

#include "model/tokenizer.h"

typedef enum vlm_chat_role {
    VLM_CHAT_SYSTEM,
    VLM_CHAT_USER,
    VLM_CHAT_ASSISTANT,
    VLM_CHAT_N_ROLE
} vlm_chat_role;

// Ids of the special tokens of a family, looked up in the vocabulary by name.
typedef struct vlm_chat {
    vlm_tokenizer *tokenizer;
    uint32_t im_start, im_end;
    uint32_t vision_start, vision_end;  // around the tokens of an image or a frame pair
    uint32_t image_pad, video_pad;      // one per token of an image or a frame pair
} vlm_chat;

// `arch` is vlm_text_hparams.arch. Keeps a reference on the tokenizer. FORMAT when the vocabulary
// lacks one of the tokens.
gboolean vlm_chat_init(vlm_chat *chat, const char *arch, vlm_tokenizer *tokenizer, GError **error);
void vlm_chat_finish(vlm_chat *chat);  // accepts a zeroed one

// Each appends tokens to `out`, a GArray of uint32_t.

// "<|im_start|>user\n"
gboolean vlm_chat_open_turn(const vlm_chat *chat, vlm_chat_role role, GArray *out, GError **error);

// Text from outside, inside a turn; specials in it are plain characters.
gboolean vlm_chat_text(const vlm_chat *chat, const char *text, GArray *out, GError **error);

// "<|im_end|>\n"
gboolean vlm_chat_close_turn(const vlm_chat *chat, GArray *out, GError **error);

// A still image of n_tokens tokens: vision_start, image_pad * n_tokens, vision_end.
void vlm_chat_image(const vlm_chat *chat, uint32_t n_tokens, GArray *out);

// A frame pair of a video whose mean time is `seconds`: "<12.5 seconds>", vision_start,
// video_pad * n_tokens, vision_end. Times round to one decimal, exact ties to even.
gboolean vlm_chat_frame_pair(const vlm_chat *chat, double seconds, uint32_t n_tokens, GArray *out,
                             GError **error);

#endif
