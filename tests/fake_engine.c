// SPDX-License-Identifier: LGPL-2.1-or-later
// fake_engine.c — an engine that plays a script, for tests of the element.
#include "fake_engine.h"

#include <string.h>

G_DEFINE_QUARK(vlm - error - quark, vlm_error)

struct vlm_engine {
    char *key;
    guint n_ref;
    gboolean lost;
    vlm_model_info info;
};

struct vlm_session {
    vlm_engine *engine;
    gboolean cancelled;
    guint n_calls;  // in progress
    guint n_frames, n_new;
    char *examples_key;  // NULL = none
    gboolean examples_open;
    GString *example;  // what the turn has been given
    gint64 first_ns, last_ns;
    vlm_session_stats stats;
};

typedef struct {
    gboolean held;
    guint n_held, n_step;
    guint n_begun, n_done;
    guint fail_from, fail_to;  // numbers of calls, 1 = the first since fake_start()
    vlm_error_code code;
    char *message;
} point_state;

static GMutex lock;  // protects everything in this file
static GCond changed;
static point_state points[FAKE_N_POINT];
static GPtrArray *engines;   // of vlm_engine, not owned
static GPtrArray *sessions;  // of vlm_session, not owned
static guint n_sessions, n_uploads;
static char *fixed_answer;
static GString *call_log;
static fake_frame last_frame;

static const char *const point_names[FAKE_N_POINT] = { "open",     "create", "frame",  "end",
                                                       "generate", "reset",  "example" };

// ------------------------------------------------------------------------------- the script

void fake_start(void)
{
    g_mutex_lock(&lock);
    if (engines == NULL)
        engines = g_ptr_array_new();
    if (sessions == NULL)
        sessions = g_ptr_array_new();
    g_assert_cmpuint(engines->len, ==, 0);
    g_assert_cmpuint(n_sessions, ==, 0);
    for (guint i = 0; i < FAKE_N_POINT; i++) {
        g_free(points[i].message);
        points[i] = (point_state){ 0 };
    }
    n_uploads = 0;
    g_clear_pointer(&fixed_answer, g_free);
    if (call_log == NULL)
        call_log = g_string_new(NULL);
    g_string_truncate(call_log, 0);
    last_frame = (fake_frame){ 0 };
    g_mutex_unlock(&lock);
}

void fake_hold(fake_point point)
{
    g_mutex_lock(&lock);
    points[point].held = TRUE;
    points[point].n_step = 0;
    g_mutex_unlock(&lock);
}

void fake_release(fake_point point)
{
    g_mutex_lock(&lock);
    points[point].held = FALSE;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

void fake_step(fake_point point, guint n)
{
    g_mutex_lock(&lock);
    points[point].n_step += n;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

void fake_wait_held(fake_point point)
{
    g_mutex_lock(&lock);
    while (points[point].n_held == 0)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
}

void fake_wait_done(fake_point point, guint n)
{
    g_mutex_lock(&lock);
    while (points[point].n_done < n)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
}

void fake_fail(fake_point point, guint nth, guint count, vlm_error_code code, const char *message)
{
    g_mutex_lock(&lock);
    points[point].fail_from = points[point].n_begun + nth;
    points[point].fail_to = points[point].fail_from + count - 1;
    points[point].code = code;
    g_free(points[point].message);
    points[point].message = g_strdup(message);
    g_mutex_unlock(&lock);
}

void fake_set_answer(const char *text)
{
    g_mutex_lock(&lock);
    g_free(fixed_answer);
    fixed_answer = g_strdup(text);
    g_mutex_unlock(&lock);
}

guint fake_count(fake_point point)
{
    g_mutex_lock(&lock);
    const guint n = points[point].n_begun;
    g_mutex_unlock(&lock);
    return n;
}

char *fake_get_log(void)
{
    g_mutex_lock(&lock);
    char *text = g_strdup(call_log->str);
    g_mutex_unlock(&lock);
    return text;
}

guint fake_n_engines(void)
{
    g_mutex_lock(&lock);
    const guint n = engines != NULL ? engines->len : 0;
    g_mutex_unlock(&lock);
    return n;
}

guint fake_n_sessions(void)
{
    g_mutex_lock(&lock);
    const guint n = n_sessions;
    g_mutex_unlock(&lock);
    return n;
}

guint fake_n_uploads(void)
{
    g_mutex_lock(&lock);
    const guint n = n_uploads;
    g_mutex_unlock(&lock);
    return n;
}

fake_frame fake_get_frame(void)
{
    g_mutex_lock(&lock);
    const fake_frame frame = last_frame;
    g_mutex_unlock(&lock);
    return frame;
}

// Begins a call: waits while the point is held, and fails when the script says so. Lock held.
// `session` may be NULL.
static gboolean enter(fake_point point, vlm_session *session, GError **error)
{
    point_state *p = &points[point];
    const guint number = ++p->n_begun;
    const gboolean cancellable = session != NULL && point != FAKE_RESET;

    if (session != NULL) {
        if (point == FAKE_RESET)
            g_assert_cmpuint(session->n_calls, ==, 0);
        session->n_calls++;
    }
    p->n_held++;
    g_cond_broadcast(&changed);
    while (p->held && p->n_step == 0 && !(cancellable && session->cancelled))
        g_cond_wait(&changed, &lock);
    p->n_held--;
    if (p->held && p->n_step > 0)
        p->n_step--;
    if (cancellable && session->cancelled) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_CANCELLED, "cancelled");
        return FALSE;
    }
    if (session != NULL && session->engine->lost) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST, "the device is lost");
        return FALSE;
    }
    if (number >= p->fail_from && number <= p->fail_to) {
        g_set_error(error, VLM_ERROR, (gint) p->code, "%s", p->message);
        if (session != NULL && p->code == VLM_ERROR_DEVICE_LOST)
            session->engine->lost = TRUE;
        return FALSE;
    }
    return TRUE;
}

// Ends a call. Lock held.
static void leave(fake_point point, vlm_session *session)
{
    points[point].n_done++;
    if (session != NULL)
        session->n_calls--;
    g_cond_broadcast(&changed);
}

static void G_GNUC_PRINTF(2, 3) say(fake_point point, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_string_append_printf(call_log, "%s ", point_names[point]);
    g_string_append_vprintf(call_log, format, args);
    g_string_append_c(call_log, '\n');
    va_end(args);
}

// ------------------------------------------------------------------------------- engine

vlm_engine *vlm_engine_open(const vlm_engine_params *params, GError **error)
{
    vlm_engine *engine = NULL;
    static const char *const kv_types[] = { "", "|f32", "|q8", "|q4" };
    g_autofree char *limit =
        params->device_memory > 0
            ? g_strdup_printf("|%" G_GUINT64_FORMAT " bytes", (guint64) params->device_memory)
            : g_strdup("");
    g_autofree char *key =
        g_strdup_printf("%s|%s|%s%s%s", params->model ? params->model : "default",
                        params->mmproj ? params->mmproj : "beside",
                        params->device ? params->device : "best", kv_types[params->kv_type], limit);

    if (params->on_progress != NULL)
        params->on_progress(0.5, params->user_data);
    g_mutex_lock(&lock);
    gboolean ok = enter(FAKE_OPEN, NULL, error);
    if (ok && params->model != NULL && !g_file_test(params->model, G_FILE_TEST_IS_REGULAR)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: no such file", params->model);
        ok = FALSE;
    }
    for (guint i = 0; ok && engine == NULL && i < engines->len; i++) {
        vlm_engine *other = g_ptr_array_index(engines, i);

        if (strcmp(other->key, key) == 0 && !other->lost)
            engine = other;
    }
    if (ok && engine == NULL) {
        engine = g_new0(vlm_engine, 1);
        engine->key = g_strdup(key);
        g_ptr_array_add(engines, engine);
        n_uploads++;
    }
    if (ok) {
        engine->n_ref++;
        say(FAKE_OPEN, "%s", key);
    }
    leave(FAKE_OPEN, NULL);
    g_mutex_unlock(&lock);
    return engine;
}

vlm_engine *vlm_engine_ref(vlm_engine *engine)
{
    g_mutex_lock(&lock);
    engine->n_ref++;
    g_mutex_unlock(&lock);
    return engine;
}

void vlm_engine_unref(vlm_engine *engine)
{
    g_mutex_lock(&lock);
    if (--engine->n_ref == 0) {
        g_ptr_array_remove(engines, engine);
        g_free(engine->key);
        g_free(engine);
    }
    g_mutex_unlock(&lock);
}

void vlm_engine_get_stats(vlm_engine *engine, vlm_engine_stats *stats)
{
    (void) engine;
    *stats = (vlm_engine_stats){ .total_bytes = 1000 };
}

// ------------------------------------------------------------------------------- session

vlm_session *vlm_session_create(vlm_engine *engine, const vlm_session_params *params,
                                GError **error)
{
    vlm_session *session = NULL;

    g_mutex_lock(&lock);
    if (enter(FAKE_CREATE, NULL, error)) {
        session = g_new0(vlm_session, 1);
        session->engine = engine;
        session->stats.context_size = params->context_size;
        engine->n_ref++;
        n_sessions++;
        session->example = g_string_new(NULL);
        session->examples_key = g_strdup(params->examples_key);
        session->examples_open = params->examples_key != NULL;
        for (guint i = 0; session->examples_open && i < sessions->len; i++) {
            const vlm_session *like = g_ptr_array_index(sessions, i);
            if (*params->examples_key != '\0' && like->engine == engine && !like->examples_open
                && g_strcmp0(like->examples_key, params->examples_key) == 0)
                session->examples_open = FALSE;
        }
        g_ptr_array_add(sessions, session);
        say(FAKE_CREATE, "context %u system '%s'%s", params->context_size,
            params->system_prompt ? params->system_prompt : "",
            params->examples_key == NULL ? ""
            : session->examples_open     ? " examples"
                                         : " examples of another");
    }
    leave(FAKE_CREATE, NULL);
    g_mutex_unlock(&lock);
    return session;
}

void vlm_session_destroy(vlm_session *session)
{
    if (session == NULL)
        return;
    g_mutex_lock(&lock);
    g_assert_cmpuint(session->n_calls, ==, 0);
    n_sessions--;
    g_ptr_array_remove(sessions, session);
    g_mutex_unlock(&lock);
    vlm_engine_unref(session->engine);
    g_free(session->examples_key);
    g_string_free(session->example, TRUE);
    g_free(session);
}

void vlm_session_cancel(vlm_session *session)
{
    g_mutex_lock(&lock);
    session->cancelled = TRUE;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

gboolean vlm_session_reset(vlm_session *session, GError **error)
{
    g_mutex_lock(&lock);
    const gboolean ok = enter(FAKE_RESET, session, error);

    if (ok) {
        session->cancelled = FALSE;
        session->n_frames = session->n_new = 0;
        g_string_truncate(session->example, 0);
        say(FAKE_RESET, "film");
    }
    leave(FAKE_RESET, session);
    g_mutex_unlock(&lock);
    return ok;
}

void vlm_session_get_stats(vlm_session *session, vlm_session_stats *stats)
{
    g_mutex_lock(&lock);
    *stats = session->stats;
    g_mutex_unlock(&lock);
}

// Y, U, V of a pixel, or R, G, B.
static void read_pixel(const vlm_image *image, uint32_t x, uint32_t y, double v[3])
{
    const uint8_t *row[3];
    const uint32_t cx = x / 2, cy = y / 2;
    static const int rgb_at[][3] = {
        [VLM_PIXEL_RGB] = { 0, 1, 2 },  [VLM_PIXEL_BGR] = { 2, 1, 0 },
        [VLM_PIXEL_RGBX] = { 0, 1, 2 }, [VLM_PIXEL_BGRX] = { 2, 1, 0 },
        [VLM_PIXEL_XRGB] = { 1, 2, 3 }, [VLM_PIXEL_XBGR] = { 3, 2, 1 },
    };

    for (int i = 0; i < 3; i++)
        row[i] = image->plane[i] != NULL
                     ? image->plane[i] + (gsize) image->stride[i] * (i == 0 ? y : cy)
                     : NULL;
    v[1] = v[2] = 128;
    switch (image->format) {
    case VLM_PIXEL_I420:
    case VLM_PIXEL_YV12:
        v[0] = row[0][x];
        v[1] = row[image->format == VLM_PIXEL_I420 ? 1 : 2][cx];
        v[2] = row[image->format == VLM_PIXEL_I420 ? 2 : 1][cx];
        break;
    case VLM_PIXEL_NV12:
    case VLM_PIXEL_NV21:
        v[0] = row[0][x];
        v[1] = row[1][2 * cx + (image->format == VLM_PIXEL_NV21)];
        v[2] = row[1][2 * cx + (image->format == VLM_PIXEL_NV12)];
        break;
    case VLM_PIXEL_YUY2:
        v[0] = row[0][2 * x];
        v[1] = row[0][4 * cx + 1];
        v[2] = row[0][4 * cx + 3];
        break;
    case VLM_PIXEL_UYVY:
        v[0] = row[0][2 * x + 1];
        v[1] = row[0][4 * cx];
        v[2] = row[0][4 * cx + 2];
        break;
    case VLM_PIXEL_GRAY8:
        v[0] = row[0][x];
        break;
    default: {
        const uint32_t n_byte = image->format <= VLM_PIXEL_BGR ? 3 : 4;

        for (int i = 0; i < 3; i++)
            v[i] = row[0][x * n_byte + (uint32_t) rgb_at[image->format][i]];
        break;
    }
    }
}

static void to_rgb(const vlm_image *image, const double v[3], double rgb[3])
{
    static const double kr_kb[][2] = { [VLM_MATRIX_BT601] = { 0.299, 0.114 },
                                       [VLM_MATRIX_BT709] = { 0.2126, 0.0722 },
                                       [VLM_MATRIX_BT2020] = { 0.2627, 0.0593 } };
    const double kr = kr_kb[image->matrix][0], kb = kr_kb[image->matrix][1];
    const double y = image->full_range ? v[0] : (v[0] - 16) * 255 / 219;
    const double chroma = image->full_range ? 1 : 255.0 / 224;
    const double u = (v[1] - 128) * chroma, w = (v[2] - 128) * chroma;

    if (image->format < VLM_PIXEL_GRAY8) {
        memcpy(rgb, v, 3 * sizeof *rgb);
        return;
    }
    rgb[0] = y + 2 * (1 - kr) * w;
    rgb[2] = y + 2 * (1 - kb) * u;
    rgb[1] = (y - kr * rgb[0] - kb * rgb[2]) / (1 - kr - kb);
}

static fake_frame look(const vlm_image *image)
{
    fake_frame f = { image->format, image->width,      image->height,
                     image->matrix, image->full_range, { 0 } };

    for (uint32_t y = 0; y < image->height; y++) {
        for (uint32_t x = 0; x < image->width; x++) {
            double v[3], rgb[3];

            read_pixel(image, x, y, v);
            to_rgb(image, v, rgb);
            for (int i = 0; i < 3; i++)
                f.rgb[i] += rgb[i];
        }
    }
    for (int i = 0; i < 3; i++)
        f.rgb[i] /= (double) image->width * image->height;
    return f;
}

gboolean vlm_session_add_frame(vlm_session *session, const vlm_image *image, gint64 time_ns,
                               GError **error)
{
    g_assert_cmpint(time_ns, >=, 0);
    g_assert_cmpuint(image->format, <, VLM_N_PIXEL_FORMAT);
    g_assert_cmpuint(image->width, >=, 1);
    g_assert_cmpuint(image->height, >=, 1);
    g_assert_cmpuint(MAX(image->width, image->height), <=, VLM_MAX_SIDE);
    const fake_frame frame = look(image);

    g_mutex_lock(&lock);
    if (session->examples_open) {
        g_string_append_printf(session->example, "[frame %ux%u at %.2f]", image->width,
                               image->height, (double) time_ns / 1e9);
        g_mutex_unlock(&lock);
        return TRUE;
    }
    const gboolean ok = enter(FAKE_FRAME, session, error);

    if (ok) {
        if (session->n_frames > 0)
            g_assert_cmpint(time_ns, >=, session->last_ns);
        if (session->n_new == 0)
            session->first_ns = time_ns;
        session->last_ns = time_ns;
        session->n_frames++;
        session->n_new++;
        session->stats.n_frames++;
        last_frame = frame;
        say(FAKE_FRAME, "%.3f %ux%u %.0f %.0f %.0f", (double) time_ns / 1e9, image->width,
            image->height, frame.rgb[0], frame.rgb[1], frame.rgb[2]);
    }
    leave(FAKE_FRAME, session);
    g_mutex_unlock(&lock);
    return ok;
}

gboolean vlm_session_end_film(vlm_session *session, GError **error)
{
    g_mutex_lock(&lock);
    if (session->examples_open) {
        g_mutex_unlock(&lock);
        return TRUE;
    }
    const gboolean ok = enter(FAKE_END_FILM, session, error);

    if (ok)
        say(FAKE_END_FILM, "film");
    leave(FAKE_END_FILM, session);
    g_mutex_unlock(&lock);
    return ok;
}

gboolean vlm_session_begin_film(vlm_session *session, uint32_t n_frames, gint64 duration_ns,
                                GError **error)
{
    (void) error;
    g_mutex_lock(&lock);
    g_string_append_printf(session->example, "[film of %u, %.2f]", n_frames,
                           (double) duration_ns / 1e9);
    g_mutex_unlock(&lock);
    return TRUE;
}

gboolean vlm_session_add_text(vlm_session *session, const char *text, GError **error)
{
    (void) error;
    g_mutex_lock(&lock);
    g_string_append(session->example, text);
    g_mutex_unlock(&lock);
    return TRUE;
}

gboolean vlm_session_add_image(vlm_session *session, const vlm_image *image, GError **error)
{
    const fake_frame frame = look(image);

    (void) error;
    g_mutex_lock(&lock);
    g_string_append_printf(session->example, "[image %ux%u %.0f %.0f %.0f]", image->width,
                           image->height, frame.rgb[0], frame.rgb[1], frame.rgb[2]);
    g_mutex_unlock(&lock);
    return TRUE;
}

gboolean vlm_session_add_answer(vlm_session *session, const char *text, GError **error)
{
    g_mutex_lock(&lock);
    g_assert_true(session->examples_open);
    const gboolean ok = enter(FAKE_EXAMPLE, session, error);

    if (ok) {
        say(FAKE_EXAMPLE, "%s -> %s", session->example->str, text);
        g_string_truncate(session->example, 0);
    }
    leave(FAKE_EXAMPLE, session);
    g_mutex_unlock(&lock);
    return ok;
}

gboolean vlm_session_wait(vlm_session *session, GError **error)
{
    (void) session;
    (void) error;
    return TRUE;
}

gboolean vlm_session_end_examples(vlm_session *session, GError **error)
{
    (void) error;
    g_mutex_lock(&lock);
    g_assert_cmpuint(session->example->len, ==, 0);
    session->examples_open = FALSE;
    g_mutex_unlock(&lock);
    return TRUE;
}

gboolean vlm_session_has_examples(vlm_session *session)
{
    g_mutex_lock(&lock);
    const gboolean has = session->examples_key != NULL && !session->examples_open;
    g_mutex_unlock(&lock);
    return has;
}

const vlm_model_info *vlm_engine_get_info(vlm_engine *engine)
{
    return &engine->info;
}

vlm_generation *vlm_session_generate(vlm_session *session, const vlm_generate_params *params,
                                     GError **error)
{
    vlm_generation *g = NULL;

    g_mutex_lock(&lock);
    g_assert_false(session->examples_open && !session->cancelled);
    if (enter(FAKE_GENERATE, session, error)) {
        g = g_new0(vlm_generation, 1);
        g->text = fixed_answer != NULL
                      ? g_strdup(fixed_answer)
                      : g_strdup_printf("%u frames from %.3f to %.3f", session->n_new,
                                        (double) session->first_ns / 1e9,
                                        (double) session->last_ns / 1e9);
        g->n_tokens = 7;
        g->tokens = g_new0(uint32_t, g->n_tokens);
        session->n_new = 0;
        session->stats.n_generated += g->n_tokens;
        say(FAKE_GENERATE, "'%s' %u %g", params->prompt ? params->prompt : "", params->max_tokens,
            params->sampling.temperature);
    }
    leave(FAKE_GENERATE, session);
    g_mutex_unlock(&lock);
    return g;
}

void vlm_generation_free(vlm_generation *generation)
{
    if (generation == NULL)
        return;
    g_free(generation->text);
    g_free(generation->tokens);
    g_free(generation->top);
    g_free(generation);
}
