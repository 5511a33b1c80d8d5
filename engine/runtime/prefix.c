// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/prefix.c — what a session begins with and never lets go: system prompt and examples.
#define G_LOG_DOMAIN "vlm-session"
#include "base/error.h"
#include "runtime/engine_private.h"

gboolean vlm_prefix_charge(vlm_session *session, uint32_t n_tok, const char *what, GError **error)
{
    session->n_prefix += n_tok;
    if (session->n_prefix < session->context_size - session->reserve)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "%s %u tokens, too many for a context of %u (%u of them kept for answers)", what,
                session->n_prefix, session->context_size, session->reserve);
    return FALSE;
}

gboolean vlm_prefix_push(vlm_session *session, GError **error)
{
    const vlm_protocol *p = &session->protocol;
    const vlm_tokenizer *tok = session->engine->model->tokenizer;
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    const char *prompt = session->system_prompt && *session->system_prompt ? session->system_prompt
                                                                           : p->system_default;
    const gboolean has_system = prompt != NULL;
    g_autofree char *system =
        g_strconcat(p->system_text_open ? p->system_text_open : "", prompt, NULL);
    const char *user = has_system && p->user_next ? p->user_next : p->user_open;
    g_autofree char *end = g_strconcat(has_system ? p->system_close : "", user, NULL);
    uint32_t start;
    gsize len = 0;

    if (session->raw ? vlm_tokenizer_bos(tok, &start) : vlm_tokenizer_start(tok, &start))
        g_array_append_val(out, start);
    if ((has_system && !vlm_tokenizer_append(tok, p->system_open, -1, TRUE, out, error))
        || !vlm_tokenizer_append_turn(tok, has_system ? system : "", end, FALSE, out, error))
        return FALSE;
    session->n_prefix = 0;
    if (!vlm_prefix_charge(session, out->len, "the system prompt has", error))
        return FALSE;
    if (out->len == 0)
        return TRUE;
    vlm_item *item = g_new0(vlm_item, 1);
    item->is_prefix = TRUE;
    item->ends_prefix = !session->examples_open;
    item->pre = g_array_steal(out, &len);
    item->n_pre = (uint32_t) len;
    return vlm_session_enqueue(session, item, error);
}

char *vlm_prefix_key(const vlm_session_params *params)
{
    if (!params->examples_key)
        return NULL;
    return g_strdup_printf("%s|%d|%u|%" G_GINT64_FORMAT "|%u|%s", params->examples_key, params->raw,
                           params->film_frames, params->film_duration, params->max_pixels,
                           params->system_prompt ? params->system_prompt : "");
}

void vlm_prefix_restore(vlm_session *session)
{
    vlm_kv_seq_destroy(session->seq);
    session->seq = vlm_kv_seq_fork(session->base);
    session->next_pos = session->prefix_pos = session->base_pos;
}

// Begins as another session did whose examples are the same, if there is one. With the lock held.
static void share(vlm_session *session, const char *examples_key)
{
    const GPtrArray *sessions = session->engine->sessions;

    if (!examples_key || !*examples_key)
        return;
    for (guint i = 0; i < sessions->len && !session->seq; i++) {
        const vlm_session *like = g_ptr_array_index(sessions, i);
        if (!like->base || g_strcmp0(like->prefix_key, session->prefix_key) != 0)
            continue;
        session->base = vlm_kv_seq_fork(like->base);
        session->base_pos = like->base_pos;
        vlm_prefix_restore(session);
        session->stats.context_used = vlm_kv_seq_n_tokens(session->seq);
        session->examples_open = FALSE;
    }
}

gboolean vlm_prefix_begin(vlm_session *session, const char *examples_key, GError **error)
{
    vlm_engine *engine = session->engine;
    const gint64 n_page = vlm_context_pages(session->context_size);
    gboolean shares = FALSE;

    g_mutex_lock(&engine->lock);
    const gboolean reserved = vlm_kv_pool_reserve(engine->pool, n_page, VLM_SESSION_STATES, error);
    if (reserved) {
        session->n_page_reserved = n_page;
        share(session, examples_key);
        shares = session->seq != NULL;
        if (!shares)
            session->seq = vlm_kv_seq_create(engine->pool);
        g_ptr_array_add(engine->sessions, session);
    }
    g_mutex_unlock(&engine->lock);
    if (shares)
        return vlm_prefix_charge(session, session->stats.context_used, "the examples have", error);
    return reserved && vlm_prefix_push(session, error);
}

gboolean vlm_session_end_examples(vlm_session *session, GError **error)
{
    gboolean ok;

    g_mutex_lock(&session->add_lock);
    if (!session->examples_open) {
        ok = TRUE;
    } else if (session->content != VLM_CONTENT_NOTHING || session->n_part > 0) {
        ok = FALSE;
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "the last example has no answer");
    } else {
        g_mutex_lock(&session->engine->lock);
        ok = vlm_session_wait_idle(session, error);
        if (ok) {
            vlm_kv_seq_seal_prefix(session->seq);
            session->base = vlm_kv_seq_fork(session->seq);
            session->base_pos = session->prefix_pos = session->next_pos;
            session->examples_open = session->has_content = FALSE;
            session->this_film = session->any_film;  // those of examples are over
        }
        g_mutex_unlock(&session->engine->lock);
    }
    g_mutex_unlock(&session->add_lock);
    return ok;
}

gboolean vlm_session_has_examples(vlm_session *session)
{
    g_mutex_lock(&session->add_lock);
    const gboolean has = session->prefix_key && !session->examples_open;
    g_mutex_unlock(&session->add_lock);
    return has;
}
