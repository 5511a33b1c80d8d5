// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/answer.c — one answer from its request to its text.
#define G_LOG_DOMAIN "vlm-session"
#include "runtime/engine_private.h"

#include <string.h>

#define DEFAULT_MAX_TOKENS 256u
#define MAX_TOP_LOGITS     1000u

vlm_answer *vlm_answer_new(vlm_session *session, const vlm_generate_params *params)
{
    vlm_answer *answer = g_new0(vlm_answer, 1);

    answer->session = session;
    answer->sampler = vlm_sampler_create(&params->sampling, params->banned, params->n_banned);
    answer->max_tokens = params->max_tokens > 0 ? params->max_tokens : DEFAULT_MAX_TOKENS;
    answer->n_top_logits =
        MIN(MIN(params->n_top_logits, MAX_TOP_LOGITS), session->engine->model->sizes.n_vocab);
    answer->keep = params->keep;
    answer->ignore_stop = params->ignore_stop;
    answer->since = params->since_ns;
    answer->n_named = params->n_labels;
    answer->on_text = params->on_text;
    answer->user_data = params->user_data;
    answer->tokens = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    answer->top = g_array_new(FALSE, FALSE, sizeof(vlm_top_logit));
    answer->text = g_string_new(NULL);
    answer->t_start = g_get_monotonic_time();
    return answer;
}

void vlm_answer_free(vlm_answer *answer)
{
    if (!answer)
        return;
    if (!answer->keep)
        vlm_kv_seq_destroy(answer->seq);
    g_free(answer->prompt);
    g_free(answer->question);
    vlm_labels_free(answer->labels, answer->n_label);
    g_clear_error(&answer->error);
    vlm_sampler_destroy(answer->sampler);
    g_array_unref(answer->tokens);
    g_array_unref(answer->top);
    g_string_free(answer->text, TRUE);
    g_free(answer);
}

static void end(vlm_answer *answer, vlm_finish finish)
{
    answer->finish = finish;
    answer->done = TRUE;
    answer->t_end = g_get_monotonic_time();
    vlm_utf8_stream_finish(&answer->utf8, answer->text);
}

void vlm_answer_step(vlm_answer *answer, float *logits, uint32_t n_vocab)
{
    if (answer->n_top_logits > 0) {
        const guint at = answer->top->len;
        g_array_set_size(answer->top, at + answer->n_top_logits);
        vlm_sampler_top(logits, n_vocab, answer->n_top_logits,
                        &g_array_index(answer->top, vlm_top_logit, at));
    }
    vlm_answer_take(answer, vlm_sampler_choose(answer->sampler, logits, n_vocab));
}

void vlm_answer_take(vlm_answer *answer, uint32_t token)
{
    const vlm_tokenizer *tok = answer->session->engine->model->tokenizer;
    size_t n_bytes = 0;

    if (answer->t_first == 0)
        answer->t_first = g_get_monotonic_time();
    if (!answer->ignore_stop && vlm_tokenizer_is_end(tok, token)) {
        g_array_set_size(answer->top, answer->tokens->len * answer->n_top_logits);
        end(answer, VLM_FINISH_STOP);
        return;
    }
    g_array_append_val(answer->tokens, token);
    answer->last_token = token;
    answer->decoding = TRUE;
    if (vlm_tokenizer_type(tok, token) != VLM_TOKEN_CONTROL) {
        const char *bytes = vlm_tokenizer_bytes(tok, token, !answer->has_text, &n_bytes);
        answer->has_text = TRUE;
        vlm_utf8_stream_push(&answer->utf8, bytes, n_bytes, answer->text);
    }
    if (answer->tokens->len >= answer->max_tokens)
        end(answer, VLM_FINISH_LENGTH);
}

vlm_generation *vlm_answer_finish(vlm_answer *answer)
{
    vlm_generation *g = g_new0(vlm_generation, 1);

    g->text = g_strdup(answer->text->str);
    g->n_tokens = answer->tokens->len;
    g->tokens = g_memdup2(answer->tokens->data, answer->tokens->len * sizeof(uint32_t));
    g->n_prompt = answer->n_prompt;
    g->n_context = answer->n_context;
    g->finish = answer->finish;
    g->us_total = answer->t_end - answer->t_start;
    g->us_first = answer->t_first > 0 ? answer->t_first - answer->t_start : g->us_total;
    g->labels = g_steal_pointer(&answer->labels);
    g->n_labels = answer->n_label;
    g->n_top_logits = answer->n_top_logits;
    g->top = g_memdup2(answer->top->data, answer->top->len * sizeof(vlm_top_logit));
    return g;
}

void vlm_generation_free(vlm_generation *generation)
{
    if (!generation)
        return;
    g_free(generation->text);
    g_free(generation->tokens);
    g_free(generation->top);
    vlm_labels_free(generation->labels, generation->n_labels);
    g_free(generation);
}
