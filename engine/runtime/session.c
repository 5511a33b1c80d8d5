// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/session.c — one timeline: what callers add, ask, cancel.
#define G_LOG_DOMAIN "vlm-session"
#include "base/error.h"
#include "runtime/engine_private.h"

#include <string.h>

#define MIN_CONTEXT 256u

void vlm_item_free(vlm_item *item)
{
    if (!item)
        return;
    g_free(item->pre);
    g_free(item->post);
    for (uint32_t i = 0; i < item->n_picture; i++)
        vlm_buffer_destroy(item->picture[i]);
    vlm_buffer_destroy(item->rows_buffer);
    g_free(item);
}

// ------------------------------------------------------------------------------ tokens

// Outside text, with the protocol's VLM_SPECIAL() tokens between, followed by one of the protocol's
// own. Raw, outside text is read as the protocol's is.
static gboolean append_text(const vlm_session *session, const char *text, const char *protocol,
                            GArray *out, GError **error)
{
    const vlm_tokenizer *tok = session->engine->model->tokenizer;
    gboolean special = FALSE, continues = session->continues;

    for (const char *end; (end = strchr(text, '\xff')); text = end + 1, special = !special) {
        g_autofree char *part = g_strndup(text, (gsize) (end - text));
        if (!(special ? vlm_tokenizer_append(tok, part, -1, TRUE, out, error)
                      : vlm_tokenizer_append_turn(tok, session->raw ? "" : part,
                                                  session->raw ? part : "", continues, out, error)))
            return FALSE;
        continues = FALSE;
    }
    if (!session->raw)
        return vlm_tokenizer_append_turn(tok, text, protocol, continues, out, error);
    g_autofree char *all = g_strconcat(text, protocol, NULL);
    return vlm_tokenizer_append_turn(tok, "", all, continues, out, error);
}

// Tokens of outside text followed by one of the protocol's own. Takes the array apart.
static uint32_t *tokens_of(vlm_session *session, const char *text, const char *special, uint32_t *n,
                           GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    gsize len = 0;

    if (!append_text(session, text, special, out, error))
        return NULL;
    uint32_t *tokens = g_array_steal(out, &len);
    *n = (uint32_t) len;
    return tokens ? tokens : g_new0(uint32_t, 1);
}

// ------------------------------------------------------------------------------ queue

gboolean vlm_session_check(vlm_session *session, GError **error)
{
    if (session->cancelled) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_CANCELLED, "the session was cancelled");
        return FALSE;
    }
    if (session->engine->failure) {
        g_propagate_error(error, g_error_copy(session->engine->failure));
        return FALSE;
    }
    if (session->failure) {
        g_propagate_error(error, g_steal_pointer(&session->failure));
        return FALSE;
    }
    return TRUE;
}

gboolean vlm_session_enqueue(vlm_session *session, vlm_item *item, GError **error)
{
    vlm_engine *engine = session->engine;
    gboolean ok;

    g_mutex_lock(&engine->lock);
    while ((ok = vlm_session_check(session, error)) && item->n_picture > 0
           && session->n_waiting >= VLM_MAX_WAITING)
        g_cond_wait(&engine->changed, &engine->lock);
    if (ok) {
        session->n_waiting += item->n_picture > 0;
        g_queue_push_tail(&session->items, item);
        g_cond_signal(&engine->work);
    }
    g_mutex_unlock(&engine->lock);
    if (!ok)
        vlm_item_free(item);
    return ok;
}

// The same of what a caller adds, which is kept for good while examples are added.
static gboolean enqueue(vlm_session *session, vlm_item *item, GError **error)
{
    if (session->examples_open) {
        item->is_prefix = TRUE;
        if (!vlm_prefix_charge(session, vlm_item_n_rows(item), "up to here the examples have",
                               error)) {
            vlm_item_free(item);
            return FALSE;
        }
    }
    return vlm_session_enqueue(session, item, error);
}

// ------------------------------------------------------------------------------ life

// The family's texts; `raw`: without those of turns.
static gboolean choose_protocol(const vlm_engine *engine, const vlm_session_params *params,
                                vlm_protocol *p, GError **error)
{
    *p = *engine->model->family->protocol;
    if (params->raw) {
        p->system_open = p->system_close = p->user_open = p->answer_open = p->answer_close = "";
        p->system_default = p->system_text_open = NULL;
        p->user_next = p->text_open = p->still_open = p->known_open = NULL;
    }
    if (params->raw && params->system_prompt && *params->system_prompt) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "raw text has no place for a system prompt");
        return FALSE;
    }
    if (!p->answer_open) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s: the chat format of this model is not known here; have it complete raw "
                    "text (vlm run --raw)",
                    engine->info->path);
        return FALSE;
    }
    return TRUE;
}

vlm_session *vlm_session_create(vlm_engine *engine, const vlm_session_params *params,
                                GError **error)
{
    const vlm_model_sizes *sizes = &engine->model->sizes;
    const uint32_t size = params->context_size > 0
                              ? params->context_size
                              : MAX(MIN(VLM_DEFAULT_CONTEXT, sizes->n_ctx_train), MIN_CONTEXT);
    g_autoptr(vlm_session) session = NULL;
    vlm_protocol protocol;

    if (!choose_protocol(engine, params, &protocol, error))
        return NULL;
    if (size < MIN_CONTEXT || size > VLM_MAX_CONTEXT) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "a context of %u tokens (%u to %u)", size,
                    MIN_CONTEXT, VLM_MAX_CONTEXT);
        return NULL;
    }
    session = g_new0(vlm_session, 1);
    session->engine = vlm_engine_ref(engine);
    session->continues = !params->raw;
    session->system_prompt = g_strdup(params->system_prompt);
    session->raw = params->raw;
    session->protocol = protocol;
    session->context_size = size;
    session->reserve = vlm_context_reserve(size);
    session->prefix_key = vlm_prefix_key(params);
    session->examples_open = session->prefix_key != NULL;
    session->any_film =
        (vlm_film){ .n_frames = params->film_frames, .duration = MAX(params->film_duration, 0) };
    session->this_film = session->any_film;
    session->max_pixels = params->max_pixels;
    g_mutex_init(&session->add_lock);
    session->pending = g_string_new(NULL);
    g_queue_init(&session->items);
    g_queue_init(&session->units);
    session->answers = g_ptr_array_new();
    session->store = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    session->stats.context_size = size;
    if (!(engine->model->family->ranker ? vlm_rank_begin(session, params->examples_key, error)
                                        : vlm_prefix_begin(session, params->examples_key, error)))
        return NULL;
    return g_steal_pointer(&session);
}

// With the lock held: drops everything that waits and waits for what runs.
static void drain(vlm_session *session)
{
    vlm_engine *engine = session->engine;

    while (session->in_step)
        g_cond_wait(&engine->changed, &engine->lock);
    for (guint i = 0; i < session->answers->len; i++) {
        vlm_answer *answer = g_ptr_array_index(session->answers, i);
        answer->done = TRUE;
        if (!answer->error)
            g_set_error(&answer->error, VLM_ERROR, VLM_ERROR_CANCELLED,
                        "the session was cancelled");
    }
    g_ptr_array_set_size(session->answers, 0);
    vlm_item *item;
    while ((item = g_queue_pop_head(&session->items))) {
        if (item->answer) {
            item->answer->done = TRUE;
            if (!item->answer->error)
                g_set_error(&item->answer->error, VLM_ERROR, VLM_ERROR_CANCELLED,
                            "the session was cancelled");
        }
        vlm_item_free(item);
    }
    session->n_waiting = 0;
    g_cond_broadcast(&engine->changed);
}

// With add_lock held, what the last turn was given being in items: the next one begins.
static void begin_turn(vlm_session *session)
{
    g_string_truncate(session->pending, 0);
    session->content = VLM_CONTENT_NOTHING;
    session->has_content = session->continues = TRUE;
    session->this_film = session->any_film;
}

static void drop_parts(vlm_session *session)
{
    for (uint32_t i = 0; i < session->n_part; i++)
        g_clear_pointer(&session->part[i], vlm_buffer_destroy);
    session->n_part = 0;
}

static void clear_parts(vlm_session *session)
{
    drop_parts(session);
    begin_turn(session);
}

void vlm_session_destroy(vlm_session *session)
{
    vlm_engine *engine;

    if (!session)
        return;
    engine = session->engine;
    g_mutex_lock(&engine->lock);
    session->cancelled = TRUE;
    drain(session);
    vlm_kv_seq_destroy(session->seq);
    vlm_kv_seq_destroy(session->base);
    if (session->n_page_reserved > 0)
        vlm_kv_pool_reserve(engine->pool, -session->n_page_reserved, -VLM_SESSION_STATES, NULL);
    g_ptr_array_remove_fast(engine->sessions, session);
    g_mutex_unlock(&engine->lock);
    clear_parts(session);
    g_queue_clear(&session->units);
    g_ptr_array_unref(session->answers);
    g_ptr_array_unref(session->store);
    vlm_rank_free(session->rank);
    g_string_free(session->pending, TRUE);
    g_clear_error(&session->failure);
    g_mutex_clear(&session->add_lock);
    g_free(session->system_prompt);
    g_free(session->prefix_key);
    g_free(session);
    vlm_engine_unref(engine);
}

void vlm_session_cancel(vlm_session *session)
{
    g_mutex_lock(&session->engine->lock);
    session->cancelled = TRUE;
    g_cond_broadcast(&session->engine->changed);
    g_cond_signal(&session->engine->work);
    g_mutex_unlock(&session->engine->lock);
}

gboolean vlm_session_reset(vlm_session *session, GError **error)
{
    vlm_engine *engine = session->engine;
    gboolean need_prefix;

    g_mutex_lock(&session->add_lock);
    clear_parts(session);
    const gboolean had_film = session->film_in_prefix;
    session->has_content = session->film_in_prefix = FALSE;
    session->continues = !session->raw;
    g_mutex_unlock(&session->add_lock);
    g_mutex_lock(&engine->lock);
    drain(session);
    session->cancelled = FALSE;
    g_clear_error(&session->failure);
    g_queue_clear(&session->units);
    session->n_film = 0;
    if (session->rank) {
        vlm_rank_forget(session->rank);
        g_mutex_unlock(&engine->lock);
        return TRUE;
    }
    // cancelled before the prefix was in, or there is more in it than belongs there
    need_prefix = !session->base && (session->prefix_pos == 0 || had_film);
    if (session->base) {
        vlm_prefix_restore(session);
    } else if (need_prefix) {
        vlm_kv_seq_destroy(session->seq);
        session->seq = vlm_kv_seq_create(engine->pool);
        session->next_pos = session->prefix_pos = 0;
    } else {
        vlm_kv_seq_truncate_to_prefix(session->seq);
        session->next_pos = session->prefix_pos;
    }
    session->stats.context_used = vlm_kv_seq_n_tokens(session->seq);
    g_mutex_unlock(&engine->lock);
    return !need_prefix || vlm_prefix_push(session, error);
}

// ------------------------------------------------------------------------------ adding

static gboolean check_utf8(const char *text, GError **error)
{
    if (g_utf8_validate(text, -1, NULL))
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "the text is not valid UTF-8");
    return FALSE;
}

// Appends what the protocol has between what the turn was given last and `next`, a text or film
// (`is_text`) or a still. With add_lock held.
static void append_joint(vlm_session *session, vlm_content next, gboolean is_text, GString *out)
{
    const vlm_protocol *p = &session->protocol;

    const char *open = is_text ? p->text_open : p->still_open;

    if (session->content == VLM_CONTENT_NOTHING && open)
        g_string_append(out, open);
    if (session->content == VLM_CONTENT_FILM && next != VLM_CONTENT_FILM && p->film_close)
        g_string_append(out, p->film_close);
    if (session->content != VLM_CONTENT_FILM && next == VLM_CONTENT_FILM && p->film_open) {
        g_autofree char *film =
            p->film_open(session->this_film.n_frames, session->this_film.duration);
        g_string_append(out, film);
    }
    session->content = next;
}

static gboolean plan_picture(const vlm_session *session, const vlm_pixels *pixels,
                             gboolean is_still, vlm_plan *plan, GError **error)
{
    const vlm_model *model = session->engine->model;
    const vlm_showing showing = { .is_still = is_still,
                                  .film_frames = session->this_film.n_frames,
                                  .max_pixels = session->max_pixels };

    return model->family->plan(model->data, &showing, pixels->width, pixels->height, plan, error);
}

// The texts around a picture or a group of frames, or around one of the tiles of a still.
static gboolean set_texts(vlm_session *session, vlm_item *item, const char *before, GError **error)
{
    const vlm_protocol *p = &session->protocol;
    const gboolean is_group = !item->is_still && p->group_open;
    const char *close = is_group ? p->group_close : item->tile.row ? "" : p->visual_close;
    g_autofree char *open = is_group       ? g_strdup(p->group_open)
                            : p->tile_open ? p->tile_open(&item->tile)
                                           : g_strdup(p->visual_open);

    item->pre = tokens_of(session, before, open, &item->n_pre, error);
    item->post = item->pre ? tokens_of(session, "", close, &item->n_post, error) : NULL;
    return item->post != NULL;
}

// Makes an item of the pictures in `session->part` with `label` before them.
static vlm_item *make_group(vlm_session *session, const char *label, gboolean is_still,
                            const vlm_tile *tile, GError **error)
{
    const vlm_model *model = session->engine->model;
    const vlm_model_sizes *sizes = &model->sizes;
    vlm_item *item = g_new0(vlm_item, 1);
    vlm_plan plan;
    g_autofree char *before = g_strconcat(session->pending->str, label, NULL);

    item->n_picture = session->n_part;
    for (uint32_t i = 0; i < session->n_part; i++) {
        item->picture[i] = g_steal_pointer(&session->part[i]);
        item->pixels[i] = session->part_pixels[i];
    }
    session->n_part = 0;
    item->is_still = is_still;
    item->tile = *tile;
    if (!set_texts(session, item, before, error)
        || !plan_picture(session, &item->pixels[0], is_still, &plan, error)) {
        vlm_item_free(item);
        return NULL;
    }
    item->grid_h = plan.grid_h;
    item->grid_w = plan.grid_w;
    item->rows = plan.grid_h / sizes->merge;
    item->cols = plan.grid_w / sizes->merge;
    item->n_cross = plan.n_cross;
    item->n_visual = plan.n_cross > 0 ? 0 : item->rows * item->cols;
    item->rows_buffer = vlm_session_take_buffer(
        session, (size_t) (item->n_visual * sizes->n_planes + item->n_cross) * sizes->n_embd * 4,
        session->rank ? VLM_MEMORY_READBACK : VLM_MEMORY_SCRATCH, error);
    if (!item->rows_buffer) {
        vlm_item_free(item);
        return NULL;
    }
    const char *next = session->protocol.visual_next;
    g_string_assign(session->pending, next ? next : "");
    session->has_content = TRUE;
    session->continues = FALSE;
    return item;
}

// Notes that frames come, a new film when something else came before or time goes back; appends
// what opens a film.
// When nothing came before and it ends in a special token (so that it can be an item of its own),
// it is kept for good: the film still begins with it when its oldest frames have been let go.
static gboolean open_film(vlm_session *session, gint64 time, GString *before, GError **error)
{
    if (session->content == VLM_CONTENT_FILM && time < session->film_time)
        append_joint(session, VLM_CONTENT_OTHER, FALSE, before);
    if (session->content != VLM_CONTENT_FILM) {
        session->film_added++;
        session->n_film_group = 0;
        session->film_start = time;
    }
    session->film_time = time;
    const gboolean is_first = !session->has_content && session->pending->len == 0;
    append_joint(session, VLM_CONTENT_FILM, TRUE, before);
    if (!is_first || !g_str_has_suffix(before->str, "\xff"))
        return TRUE;
    vlm_item *item = g_new0(vlm_item, 1);
    item->is_prefix = TRUE;
    item->pre = tokens_of(session, before->str, "", &item->n_pre, error);
    if (!item->pre) {
        vlm_item_free(item);
        return FALSE;
    }
    g_string_truncate(before, 0);
    if (!session->examples_open)
        session->film_in_prefix = item->ends_prefix = TRUE;
    session->continues = FALSE;
    return enqueue(session, item, error);
}

// With add_lock held: completes the group that waits and queues it.
static gboolean flush_group(vlm_session *session, GError **error)
{
    const uint32_t n_want = session->engine->model->sizes.group_frames;
    gint64 times[4];

    if (session->n_part == 0)
        return TRUE;
    for (uint32_t i = 0; i < n_want;
         i++)  // the encoder repeats the last picture, so its time counts
        times[i] = session->part_time[MIN(i, session->n_part - 1)];
    g_autofree char *label = session->protocol.group_label(times, n_want);
    g_autoptr(GString) before = g_string_new(NULL);
    if (!open_film(session, times[0], before, error))
        return FALSE;
    g_string_append(before, label);
    vlm_item *item = make_group(session, before->str, FALSE, &(vlm_tile){ 0 }, error);
    if (!item)
        return FALSE;
    item->film = session->film_added;
    item->film_group = session->n_film_group++;
    item->film_time = times[0] - session->film_start;
    item->time = times[0];
    return enqueue(session, item, error);
}

gboolean vlm_session_add_text(vlm_session *session, const char *text, GError **error)
{
    if (!check_utf8(text, error))
        return FALSE;
    g_mutex_lock(&session->engine->lock);
    gboolean ok = vlm_session_check(session, error);
    g_mutex_unlock(&session->engine->lock);
    if (ok && *text) {
        g_mutex_lock(&session->add_lock);
        ok = flush_group(session, error);
        if (ok) {
            append_joint(session, VLM_CONTENT_OTHER, TRUE, session->pending);
            g_string_append(session->pending, text);
        }
        g_mutex_unlock(&session->add_lock);
    }
    return ok;
}

// Queues one part of a still. With add_lock held.
static gboolean add_part(vlm_session *session, const vlm_image *image, const vlm_tile *tile,
                         GError **error)
{
    session->part[0] = vlm_picture_copy(session, image, &session->part_pixels[0], error);
    session->n_part = session->part[0] ? 1 : 0;
    vlm_item *item = session->part[0] ? make_group(session, "", TRUE, tile, error) : NULL;

    return item && enqueue(session, item, error);
}

gboolean vlm_session_add_image(vlm_session *session, const vlm_image *image, GError **error)
{
    vlm_pixels pixels;
    vlm_plan plan = { 0 };
    gboolean ok;

    if (!vlm_engine_check_vision(session->engine, error))
        return FALSE;
    g_mutex_lock(&session->add_lock);
    ok = flush_group(session, error) && vlm_pixels_layout(image, &pixels, error)
         && plan_picture(session, &pixels, TRUE, &plan, error);
    if (ok)
        append_joint(session, VLM_CONTENT_OTHER, FALSE, session->pending);
    vlm_tile tile = { .rows = plan.tile_rows, .cols = plan.tile_cols };
    for (tile.row = 1; ok && tile.row <= plan.tile_rows; tile.row++)
        for (tile.col = 1; ok && tile.col <= plan.tile_cols; tile.col++)
            ok = add_part(session, image, &tile, error);
    tile.row = tile.col = 0;
    ok = ok && add_part(session, image, &tile, error);
    g_mutex_unlock(&session->add_lock);
    return ok;
}

gboolean vlm_session_add_frame(vlm_session *session, const vlm_image *image, gint64 time_ns,
                               GError **error)
{
    const uint32_t n_want = session->engine->model->sizes.group_frames;
    gboolean ok = TRUE, in_place = FALSE;

    if (!vlm_engine_check_vision(session->engine, error))
        return FALSE;
    if (time_ns < 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "a frame before the start of the film");
        return FALSE;
    }
    g_mutex_lock(&session->add_lock);
    // Of an example nothing can be let go later, and of a film that has an end the text before it
    // would go with the first frame: only the newest frame is shown at all.
    const gboolean newest_only = session->engine->model->sizes.film_groups == 1
                                 && (session->examples_open || session->this_film.n_frames > 0);
    if (newest_only && session->n_part == n_want)
        drop_parts(session);
    if (session->n_part > 0
        && (session->part_pixels[0].width != image->width
            || session->part_pixels[0].height != image->height))
        ok = flush_group(session, error);
    if (ok) {
        const uint32_t i = session->n_part;
        // others would be held until their partners come
        if (i + 1 == n_want && !newest_only)
            session->part[i] = vlm_picture_import(session, image, &session->part_pixels[i]);
        in_place = session->part[i] != NULL;
        if (!in_place)
            session->part[i] = vlm_picture_copy(session, image, &session->part_pixels[i], error);
        session->part_time[i] = time_ns;
        ok = session->part[i] != NULL;
        session->n_part += ok;
    }
    if (ok && !newest_only && session->n_part == n_want)
        ok = flush_group(session, error) && (!in_place || vlm_picture_wait_read(session, error));
    if (!ok)  // no picture stays in the caller's memory
        drop_parts(session);
    g_mutex_unlock(&session->add_lock);
    return ok;
}

gboolean vlm_session_end_film(vlm_session *session, GError **error)
{
    g_mutex_lock(&session->add_lock);
    const gboolean ok = flush_group(session, error);
    g_mutex_unlock(&session->add_lock);
    return ok;
}

gboolean vlm_session_begin_film(vlm_session *session, uint32_t n_frames, gint64 duration_ns,
                                GError **error)
{
    g_mutex_lock(&session->add_lock);
    const gboolean ok = flush_group(session, error);
    if (ok && session->content == VLM_CONTENT_FILM)
        append_joint(session, VLM_CONTENT_OTHER, FALSE, session->pending);
    session->this_film = (vlm_film){ .n_frames = n_frames, .duration = MAX(duration_ns, 0) };
    g_mutex_unlock(&session->add_lock);
    return ok;
}

// The rest of the turn, the answer and the beginning of the next turn; NULL on failure.
static vlm_item *make_answer(vlm_session *session, const char *text, GError **error)
{
    const vlm_protocol *p = &session->protocol;
    const char *open = p->known_open ? p->known_open : p->answer_open;
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autofree char *answer = g_strconcat(p->text_open ? p->text_open : "", text, NULL);
    g_autofree char *close =
        g_strconcat(p->answer_close, p->user_next ? p->user_next : p->user_open, NULL);
    gboolean ok = TRUE;
    gsize len = 0;

    if (strchr(open, '<')) {
        ok = append_text(session, session->pending->str, open, out, error);
        session->continues = TRUE;
    } else {  // no token divides what comes before it from the answer
        char *joined = g_strconcat(session->pending->str, open, answer, NULL);
        g_free(answer);
        answer = joined;
    }
    if (!ok || !append_text(session, answer, close, out, error))
        return NULL;
    vlm_item *item = g_new0(vlm_item, 1);
    item->pre = g_array_steal(out, &len);
    item->n_pre = (uint32_t) len;
    return item;
}

gboolean vlm_session_add_answer(vlm_session *session, const char *text, GError **error)
{
    gboolean ok = FALSE;

    if (!check_utf8(text, error) || !vlm_rank_check_turn(session, error))
        return FALSE;
    g_mutex_lock(&session->add_lock);
    if (flush_group(session, error)) {
        if (session->content == VLM_CONTENT_FILM)
            append_joint(session, VLM_CONTENT_OTHER, FALSE, session->pending);
        vlm_item *item = make_answer(session, text, error);
        ok = item && enqueue(session, item, error);
        if (ok)
            begin_turn(session);
    }
    g_mutex_unlock(&session->add_lock);
    return ok;
}

gboolean vlm_session_wait_idle(vlm_session *session, GError **error)
{
    gboolean ok;

    while ((ok = vlm_session_check(session, error))
           && (!g_queue_is_empty(&session->items) || session->in_step))
        g_cond_wait(&session->engine->changed, &session->engine->lock);
    return ok;
}

gboolean vlm_session_wait(vlm_session *session, GError **error)
{
    g_mutex_lock(&session->engine->lock);
    const gboolean ok = vlm_session_wait_idle(session, error);
    g_mutex_unlock(&session->engine->lock);
    return ok;
}

// ------------------------------------------------------------------------------ asking

// Queues the answer; with `keep` the text that waits becomes part of it.
static gboolean ask(vlm_session *session, vlm_answer *answer, const char *prompt, GError **error)
{
    const vlm_protocol *protocol = &session->protocol;
    gboolean ok = FALSE;

    g_mutex_lock(&session->add_lock);
    if (session->examples_open) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "a prompt before the end of the examples");
        g_mutex_unlock(&session->add_lock);
        return FALSE;
    }
    const vlm_content content = session->content;
    g_autoptr(GString) text = g_string_new(session->pending->str);
    if (*prompt)
        append_joint(session, VLM_CONTENT_OTHER, TRUE, text);
    else if (content == VLM_CONTENT_FILM)
        append_joint(session, VLM_CONTENT_OTHER, FALSE, text);
    session->content = content;
    g_string_append(text, prompt);
    if (session->rank) {  // its labels are tokens of their own
        answer->question = g_strdup(prompt);
        g_string_truncate(text, 0);
    }
    answer->prompt = tokens_of(session, text->str, protocol->answer_open, &answer->n_prompt, error);
    if (answer->prompt && answer->n_prompt == 0 && !session->rank) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "the prompt is empty");
    } else if (answer->prompt) {
        vlm_item *item = g_new0(vlm_item, 1);
        item->kind = VLM_ITEM_ANSWER;
        item->answer = answer;
        ok = vlm_session_enqueue(session, item, error);
        if (ok && answer->keep)
            begin_turn(session);
    }
    g_mutex_unlock(&session->add_lock);
    return ok;
}

// Takes a cancelled answer out of wherever it is. With the lock held.
static void withdraw(vlm_session *session, vlm_answer *answer)
{
    for (GList *l = session->items.head; l; l = l->next) {
        vlm_item *item = l->data;
        if (item->answer == answer) {
            g_queue_delete_link(&session->items, l);
            vlm_item_free(item);
            break;
        }
    }
    g_ptr_array_remove(session->answers, answer);
}

// Waits for the answer, handing text on as it comes, without the lock while it does.
static gboolean wait_for(vlm_session *session, vlm_answer *answer, GError **error)
{
    vlm_engine *engine = session->engine;
    gboolean ok = TRUE;

    g_mutex_lock(&engine->lock);
    while (ok) {
        if (answer->on_text && answer->text->len > answer->n_reported) {
            g_autofree char *piece = g_strdup(answer->text->str + answer->n_reported);
            answer->n_reported = answer->text->len;
            g_mutex_unlock(&engine->lock);
            answer->on_text(piece, answer->user_data);
            g_mutex_lock(&engine->lock);
            continue;
        }
        if (!answer->in_step) {  // until then its sequence is in use
            if (answer->done)
                break;
            if (session->cancelled || engine->failure) {
                ok = vlm_session_check(session, error);
                continue;
            }
        }
        g_cond_wait(&engine->changed, &engine->lock);
    }
    if (answer->error) {
        if (ok)
            g_propagate_error(error, g_steal_pointer(&answer->error));
        ok = FALSE;
    }
    withdraw(session, answer);
    if (!answer->keep)
        g_clear_pointer(&answer->seq, vlm_kv_seq_destroy);
    g_mutex_unlock(&engine->lock);
    return ok;
}

vlm_generation *vlm_session_generate(vlm_session *session, const vlm_generate_params *params,
                                     GError **error)
{
    const char *prompt = params->prompt ? params->prompt : "";
    vlm_generation *generation = NULL;

    if (!check_utf8(prompt, error))
        return NULL;
    vlm_answer *answer = vlm_answer_new(session, params);
    if (ask(session, answer, prompt, error) && wait_for(session, answer, error))
        generation = vlm_answer_finish(answer);
    vlm_answer_free(answer);
    return generation;
}

void vlm_session_get_stats(vlm_session *session, vlm_session_stats *stats)
{
    g_mutex_lock(&session->engine->lock);
    *stats = session->stats;
    stats->context_kept = vlm_kv_seq_n_prefix(session->seq);
    g_mutex_unlock(&session->engine->lock);
}
