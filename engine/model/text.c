// SPDX-License-Identifier: LGPL-2.1-or-later
// model/text.c — text models without a vision tower: Llama's and Qwen's decoders, and the ways in
// which their prompts are written.
//
// A prompt is known by a part of the file's chat template, which itself is never executed. Without
// one that is known here, a model completes raw text only.
#define G_LOG_DOMAIN "vlm-model"
#include "base/error.h"
#include "model/decoder.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ files

static void text_free(gpointer data)
{
    vlm_decoder *m = data;

    if (!m)
        return;
    vlm_decoder_clear(m);
    g_free(m);
}

static gpointer text_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes, GError **error)
{
    g_autofree vlm_decoder *m = g_new0(vlm_decoder, 1);
    const vlm_text_hparams *hp = &m->hp;

    (void) vision;
    if (!vlm_text_hparams_read(text, &m->hp, error))
        return NULL;
    *sizes = (vlm_model_sizes){
        .n_layer = hp->n_layer,
        .n_embd = hp->n_embd,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->ctx_train,
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .n_expert = hp->n_expert,
        .n_expert_used = hp->n_expert_used,
    };
    return g_steal_pointer(&m);
}

static gboolean text_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                          GError **error)
{
    vlm_decoder *m = data;
    const vlm_text_hparams *hp = &m->hp;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    (void) vision;
    // All positions of a word are the same: how sections share them out makes no difference, and
    // all sections are 0 where there is one position.
    if (hp->rope == VLM_ROPE_ADJACENT)
        vlm_rope_pairs_adjacent(pairs, hp->head_dim, (double) hp->rope_theta);
    else
        vlm_rope_pairs_imrope(pairs, hp->head_dim, hp->rope_dim, hp->rope_theta, hp->rope_sections);
    return vlm_decoder_want(m, loader, text, pairs, error);
}

static uint64_t decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok, uint32_t n_out)
{
    return vlm_decoder_bytes(data, dev, n_tok, n_out);
}

static gboolean decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error)
{
    return vlm_decoder_run(data, cmd, batch, kv, scratch, logits, trace, error);
}

// ------------------------------------------------------------------------------ prompts

#define CHATML                                                                                     \
    .system_open = "<|im_start|>system\n", .system_close = "<|im_end|>\n",                         \
    .user_open = "<|im_start|>user\n", .answer_open = "<|im_end|>\n<|im_start|>assistant\n",       \
    .answer_close = "<|im_end|>\n"

static const vlm_protocol chatml = { CHATML };
static const vlm_protocol smollm2 = {
    CHATML,
    .system_default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
};
static const vlm_protocol qwen2 = {
    CHATML,
    .system_default = "You are a helpful assistant.",
};
static const vlm_protocol qwen25 = {
    CHATML,
    .system_default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
};
// Without the dates that the templates of 3.1 and later write into a system prompt.
static const vlm_protocol llama3 = {
    .system_open = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n",
    .system_close = "<|eot_id|>",
    .user_open = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    .user_next = "<|start_header_id|>user<|end_header_id|>\n\n",
    .answer_open = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    .answer_close = "<|eot_id|>",
};
static const vlm_protocol unknown = { .user_open = "" };

static const char *const archs[] = { "llama", "qwen2", "qwen3", "qwen3moe", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "llama", .rope = VLM_ROPE_ADJACENT },
    { .name = "qwen2", .rope = VLM_ROPE_HALVES, .qkv_bias = TRUE },
    { .name = "qwen3", .rope = VLM_ROPE_HALVES, .head_norms = TRUE },
    { .name = "qwen3moe", .rope = VLM_ROPE_HALVES, .head_norms = TRUE, .sparse = TRUE },
    { .name = NULL },
};
static const char *const parts[] = { "qwen2vl", "qwen3vl", "qwen3vlmoe", NULL };

#define FUNCTIONS                                                                                  \
    .text_archs = text_archs, .read = text_read, .free = text_free, .want = text_want,             \
    .decode_bytes = decode_bytes, .decode = decode

static const vlm_family by_prompt[] = {
    { archs, NULL, "named SmolLM, trained by Hugging Face", FALSE, &smollm2, FUNCTIONS },
    { archs, NULL, "You are Qwen, created by Alibaba Cloud", FALSE, &qwen25, FUNCTIONS },
    { archs, NULL, "You are a helpful assistant.<|im_end|>", FALSE, &qwen2, FUNCTIONS },
    { archs, NULL, "<|im_end|>", FALSE, &chatml, FUNCTIONS },
    { archs, NULL, "<|start_header_id|>", FALSE, &llama3, FUNCTIONS },
    { archs, NULL, NULL, FALSE, &unknown, FUNCTIONS },
    { parts, NULL, NULL, TRUE, &chatml, FUNCTIONS },
};

const vlm_family *const vlm_families_text[] = { &by_prompt[0], &by_prompt[1], &by_prompt[2],
                                                &by_prompt[3], &by_prompt[4], &by_prompt[5],
                                                &by_prompt[6], NULL };
