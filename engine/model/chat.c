// SPDX-License-Identifier: LGPL-2.1-or-later
// model/chat.c — ChatML as the Qwen families use it.
#define G_LOG_DOMAIN "vlm-model"

#include "model/chat.h"

static const char *const role_names[VLM_CHAT_N_ROLE] = { "system\n", "user\n", "assistant\n" };

gboolean vlm_chat_init(vlm_chat *chat, const char *arch, vlm_tokenizer *tokenizer, GError **error)
{
    const struct {
        const char *text;
        uint32_t *id;
    } wanted[] = {
        { "<|im_start|>", &chat->im_start },         { "<|im_end|>", &chat->im_end },
        { "<|vision_start|>", &chat->vision_start }, { "<|vision_end|>", &chat->vision_end },
        { "<|image_pad|>", &chat->image_pad },       { "<|video_pad|>", &chat->video_pad },
    };

    *chat = (vlm_chat){ .tokenizer = NULL };
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++) {
        if (!vlm_tokenizer_find(tokenizer, wanted[i].text, wanted[i].id)
            || vlm_tokenizer_type(tokenizer, *wanted[i].id) != VLM_TOKEN_CONTROL) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "the vocabulary has no special token %s, which %s models need",
                        wanted[i].text, arch);
            return FALSE;
        }
    }
    chat->tokenizer = vlm_tokenizer_ref(tokenizer);
    return TRUE;
}

void vlm_chat_finish(vlm_chat *chat)
{
    g_clear_pointer(&chat->tokenizer, vlm_tokenizer_unref);
}

gboolean vlm_chat_open_turn(const vlm_chat *chat, vlm_chat_role role, GArray *out, GError **error)
{
    g_return_val_if_fail((guint) role < VLM_CHAT_N_ROLE, FALSE);

    g_array_append_val(out, chat->im_start);
    return vlm_tokenizer_append(chat->tokenizer, role_names[role], -1, FALSE, out, error);
}

gboolean vlm_chat_text(const vlm_chat *chat, const char *text, GArray *out, GError **error)
{
    return vlm_tokenizer_append(chat->tokenizer, text, -1, FALSE, out, error);
}

gboolean vlm_chat_close_turn(const vlm_chat *chat, GArray *out, GError **error)
{
    g_array_append_val(out, chat->im_end);
    return vlm_tokenizer_append(chat->tokenizer, "\n", -1, FALSE, out, error);
}

static void append_media(const vlm_chat *chat, uint32_t pad, uint32_t n_tokens, GArray *out)
{
    g_array_append_val(out, chat->vision_start);
    for (uint32_t i = 0; i < n_tokens; i++)
        g_array_append_val(out, pad);
    g_array_append_val(out, chat->vision_end);
}

void vlm_chat_image(const vlm_chat *chat, uint32_t n_tokens, GArray *out)
{
    append_media(chat, chat->image_pad, n_tokens, out);
}

gboolean vlm_chat_frame_pair(const vlm_chat *chat, double seconds, uint32_t n_tokens, GArray *out,
                             GError **error)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE], text[G_ASCII_DTOSTR_BUF_SIZE + 16];

    // Not printf itself, which would write a decimal comma in some locales.
    g_ascii_formatd(number, sizeof number, "%.1f", seconds);
    g_snprintf(text, sizeof text, "<%s seconds>", number);
    if (!vlm_tokenizer_append(chat->tokenizer, text, -1, FALSE, out, error))
        return FALSE;
    append_media(chat, chat->video_pad, n_tokens, out);
    return TRUE;
}
