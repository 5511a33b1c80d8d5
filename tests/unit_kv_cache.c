// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_kv_cache.c — pages, forks, copy-on-write, eviction. Skips without a device.
#include "model/kv_cache.h"

#include "ops/ops.h"

typedef struct fixture {
    vlm_device *dev;
    vlm_cmd *cmd;
    vlm_kv_pool *pool;
    uint64_t state_bytes;
} fixture;

static gboolean setup(fixture *f, gconstpointer type)
{
    const vlm_kv_layout layout = {
        .type = GPOINTER_TO_UINT(type), .n_layer = 2, .n_kv_head = 1, .head_dim = 8
    };
    g_autoptr(GError) error = NULL;

    f->dev = vlm_device_create(&(vlm_device_params){ 0 }, &error);
    if (!f->dev) {
        g_test_skip(error->message);
        return FALSE;
    }
    f->cmd = vlm_cmd_create(f->dev, 65536, &error);
    g_assert_no_error(error);
    f->pool = vlm_kv_pool_create(f->dev, &layout, f->state_bytes);
    return TRUE;
}

static void teardown(fixture *f)
{
    vlm_kv_pool_destroy(f->pool);
    vlm_cmd_destroy(f->cmd);
    vlm_device_destroy(f->dev);
}

// Appends n tokens; returns the slot address of the last.
static uint64_t append(fixture *f, vlm_kv_seq *seq, uint32_t n)
{
    g_autofree uint64_t *slots = g_new(uint64_t, n);
    g_autoptr(GError) error = NULL;

    g_assert_true(vlm_cmd_begin(f->cmd, &error));
    g_assert_true(vlm_kv_seq_prepare(seq, f->cmd, n, &error));
    g_assert_no_error(error);
    vlm_kv_seq_append(seq, n, slots);
    g_assert_true(vlm_cmd_run(f->cmd, &error));
    return slots[n - 1];
}

// Tokens that attention would look at, counted from the page list.
static uint32_t visible(const vlm_kv_seq *seq, uint32_t n_slot)
{
    uint32_t n_page = 0, n = 0;
    const vlm_kv_page *pages = vlm_kv_seq_pages(seq, &n_page);

    for (uint32_t s = 0; s < n_slot; s++) {
        const vlm_kv_page *p = &pages[s / VLM_PAGE_TOKENS];
        n += s % VLM_PAGE_TOKENS >= p->begin && s % VLM_PAGE_TOKENS < p->end;
    }
    return n;
}

static void test_fork(gconstpointer data)
{
    fixture f = { 0 };

    if (!setup(&f, data))
        return;
    vlm_kv_seq *film = vlm_kv_seq_create(f.pool);
    append(&f, film, 70);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 2);
    vlm_kv_seq *fork = vlm_kv_seq_fork(film);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 2);  // nothing copied yet
    const uint64_t in_fork = append(&f, fork, 1);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 3);  // the half-full page was
    const uint64_t in_film = append(&f, film, 1);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 3);  // the film owns its page again
    g_assert_cmphex(in_fork, !=, in_film);
    g_assert_cmphex(in_fork % VLM_PAGE_TOKENS, ==, 6);
    g_assert_cmphex(in_film % VLM_PAGE_TOKENS, ==, 6);
    vlm_kv_seq_destroy(fork);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 2);
    vlm_kv_seq_destroy(film);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 0);
    teardown(&f);
}

static void test_evict(gconstpointer data)
{
    fixture f = { 0 };

    if (!setup(&f, data))
        return;
    vlm_kv_seq *film = vlm_kv_seq_create(f.pool);
    append(&f, film, 10);
    vlm_kv_seq_seal_prefix(film);
    g_assert_cmpuint(vlm_kv_seq_n_tokens(film), ==, 10);
    append(&f, film, 200);  // pages 1 to 4
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 5);
    g_assert_cmpuint(visible(film, 64 + 200), ==, 210);
    vlm_kv_seq_evict(film, 30);
    g_assert_cmpuint(vlm_kv_seq_n_tokens(film), ==, 180);
    g_assert_cmpuint(visible(film, 64 + 200), ==, 180);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 5);
    vlm_kv_seq_evict(film, 34);  // up to the end of the first page
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 4);
    g_assert_cmpuint(visible(film, 200), ==, 146);
    vlm_kv_seq *fork = vlm_kv_seq_fork(film);
    vlm_kv_seq_evict(film, 136);  // all of the film
    g_assert_cmpuint(vlm_kv_seq_n_tokens(film), ==, 10);
    g_assert_cmpuint(visible(fork, 200), ==, 146);  // the fork keeps its pages
    append(&f, film, 60);
    g_assert_cmpuint(vlm_kv_seq_n_tokens(film), ==, 70);
    vlm_kv_seq_destroy(fork);
    vlm_kv_seq_truncate_to_prefix(film);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 1);
    append(&f, film, 1);
    g_assert_cmpuint(visible(film, 65), ==, 11);
    vlm_kv_seq_destroy(film);
    teardown(&f);
}

// n rows of a picture beside the sequence; returns the slot address of the first.
static uint64_t look(fixture *f, vlm_kv_seq *seq, uint32_t n, gboolean alone)
{
    g_autofree uint64_t *slots = g_new(uint64_t, n);
    g_autoptr(GError) error = NULL;

    g_assert_true(vlm_cmd_begin(f->cmd, &error));
    g_assert_true(vlm_kv_seq_add_cross(seq, f->cmd, n, alone, slots, &error));
    g_assert_no_error(error);
    g_assert_true(vlm_cmd_run(f->cmd, &error));
    return slots[0];
}

// Pictures beside the sequence: runs without text between them add up, the next one takes their
// place, forks keep theirs, the prefix has none.
static void test_cross(void)
{
    const vlm_kv_layout layout = {
        .type = VLM_KV_F16, .n_layer = 3, .n_kv_head = 1, .head_dim = 8
    };
    fixture f = { 0 };
    g_autoptr(GError) error = NULL;

    if (!setup(&f, GUINT_TO_POINTER(VLM_KV_F32)))
        return;
    vlm_kv_pool_add_cross(f.pool, &layout, 100);
    g_assert_true(vlm_kv_pool_reserve(f.pool, 8, VLM_SESSION_STATES, &error));
    const uint64_t reserved = vlm_kv_pool_bytes(f.pool);
    vlm_kv_seq *film = vlm_kv_seq_create(f.pool);
    append(&f, film, 5);
    vlm_kv_seq_seal_prefix(film);
    g_assert_null(vlm_kv_seq_cross(film));
    look(&f, film, 100, FALSE);
    append(&f, film, 1);
    g_assert_cmpuint(vlm_kv_seq_n_slots(vlm_kv_seq_cross(film)), ==, 100);
    look(&f, film, 70, FALSE);  // right behind it
    append(&f, film, 3);
    g_assert_cmpuint(vlm_kv_seq_n_slots(vlm_kv_seq_cross(film)), ==, 170);
    vlm_kv_seq *fork = vlm_kv_seq_fork(film);
    const vlm_kv_seq *old = vlm_kv_seq_cross(fork);
    g_assert_cmpuint(vlm_kv_seq_n_slots(old), ==, 170);
    const uint64_t first = look(&f, film, 30, FALSE);  // text between
    append(&f, film, 1);
    g_assert_cmpuint(vlm_kv_seq_n_slots(vlm_kv_seq_cross(film)), ==, 30);
    g_assert_cmpuint(vlm_kv_seq_n_slots(vlm_kv_seq_cross(fork)), ==, 170);
    uint32_t n_page = 0;
    const vlm_kv_page *pages = vlm_kv_seq_pages(old, &n_page);
    for (uint32_t i = 0; i < n_page; i++)
        g_assert_cmphex(pages[i].addr, !=, first & ~(uint64_t) 63);
    look(&f, film, 40, TRUE);  // right behind it, but alone
    append(&f, film, 1);
    g_assert_cmpuint(vlm_kv_seq_n_slots(vlm_kv_seq_cross(film)), ==, 40);
    g_assert_cmpuint(vlm_kv_pool_bytes(f.pool), ==, reserved);
    vlm_kv_seq_truncate_to_prefix(film);
    g_assert_null(vlm_kv_seq_cross(film));
    vlm_kv_seq_destroy(fork);
    vlm_kv_seq_destroy(film);
    teardown(&f);
}

// A window that slides for long needs no more memory than it holds.
static void test_slide(gconstpointer data)
{
    fixture f = { 0 };
    g_autoptr(GError) error = NULL;

    if (!setup(&f, data))
        return;
    g_assert_true(vlm_kv_pool_reserve(f.pool, 8, 0, &error));
    const uint64_t bytes = vlm_kv_pool_bytes(f.pool);
    vlm_kv_seq *film = vlm_kv_seq_create(f.pool);
    append(&f, film, 5);
    vlm_kv_seq_seal_prefix(film);
    for (int i = 0; i < 1000; i++) {
        if (vlm_kv_seq_n_tokens(film) + 23 > 300)
            vlm_kv_seq_evict(film, 23);
        append(&f, film, 23);
        vlm_kv_seq *fork = vlm_kv_seq_fork(film);
        append(&f, fork, 17);
        vlm_kv_seq_destroy(fork);
    }
    g_assert_cmpuint(vlm_kv_pool_bytes(f.pool), ==, bytes);
    vlm_kv_seq_destroy(film);
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 0);
    teardown(&f);
}

// A tensor of one row in a new mapped buffer.
static vlm_buffer *row_buffer(fixture *f, float x)
{
    g_autoptr(GError) error = NULL;
    vlm_buffer *b = vlm_buffer_create(f->dev, f->state_bytes, VLM_MEMORY_READBACK, &error);

    g_assert_no_error(error);
    for (size_t i = 0; i < b->bytes / 4; i++)
        ((float *) b->host)[i] = x;
    return b;
}

// Takes a token whose effect on the state is that x is added to it; returns what is there then.
static float bump(fixture *f, vlm_kv_seq *seq, float x)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_buffer) src = row_buffer(f, x), got = row_buffer(f, -1);
    const uint32_t n = (uint32_t) (f->state_bytes / 4), zero = 0;
    const vlm_tensor t_src = vlm_tensor_make(src->addr, 1, n);
    const vlm_tensor t_got = vlm_tensor_make(got->addr, 1, n);
    uint64_t slot, index = 0;

    g_assert_true(vlm_cmd_begin(f->cmd, &error));
    g_assert_true(vlm_kv_seq_prepare(seq, f->cmd, 1, &error));
    vlm_kv_seq_append(seq, 1, &slot);
    const vlm_tensor state = vlm_tensor_make(vlm_kv_seq_state(seq), 1, n);
    g_assert_true(vlm_cmd_table(f->cmd, &zero, sizeof zero, &index, &error));
    g_assert_true(vlm_op_rows_scatter(f->cmd, &state, &t_src, index, TRUE, &error));
    vlm_cmd_barrier(f->cmd);
    g_assert_true(vlm_op_rows_gather(f->cmd, &t_got, &state, index, &error));
    g_assert_true(vlm_cmd_run(f->cmd, &error));
    for (uint32_t i = 1; i < n; i++)
        g_assert_cmpfloat(((float *) got->host)[i], ==, ((float *) got->host)[0]);
    return ((float *) got->host)[0];
}

// The state of recurrent layers follows forks, the prefix and the end of a sequence.
static void test_state(void)
{
    fixture f = { 0 };
    g_autoptr(GError) error = NULL;

    if (!setup(&f, GUINT_TO_POINTER(VLM_KV_F32)))
        return;
    teardown(&f);
    f.state_bytes = 40;
    g_assert_true(setup(&f, GUINT_TO_POINTER(VLM_KV_F32)));
    g_assert_true(vlm_kv_pool_reserve(f.pool, 8, VLM_SESSION_STATES, &error));
    const uint64_t bytes = vlm_kv_pool_bytes(f.pool);
    for (int i = 0; i < 2; i++) {  // the second time in states that were used
        vlm_kv_seq *film = vlm_kv_seq_create(f.pool);
        g_assert_cmphex(vlm_kv_seq_state(film), ==, 0);
        g_assert_cmpfloat(bump(&f, film, 1), ==, 1);  // zeros at first
        vlm_kv_seq_seal_prefix(film);
        g_assert_cmpfloat(bump(&f, film, 2), ==, 3);
        vlm_kv_seq *fork = vlm_kv_seq_fork(film);
        g_assert_cmpfloat(bump(&f, fork, 10), ==, 13);
        g_assert_cmpfloat(bump(&f, film, 4), ==, 7);
        g_assert_cmpfloat(bump(&f, fork, 20), ==, 33);
        vlm_kv_seq_destroy(fork);
        fork = vlm_kv_seq_fork(film);
        g_assert_cmpfloat(bump(&f, film, 1), ==, 8);  // the film is the first to go on
        g_assert_cmpfloat(bump(&f, fork, 10), ==, 17);
        vlm_kv_seq_destroy(fork);
        vlm_kv_seq_evict(film, 2);
        g_assert_cmpfloat(bump(&f, film, 1), ==, 9);  // letting go of tokens leaves it
        vlm_kv_seq_truncate_to_prefix(film);
        g_assert_cmpfloat(bump(&f, film, 5), ==, 6);
        vlm_kv_seq_truncate_to_prefix(film);
        vlm_kv_seq_truncate_to_prefix(film);
        g_assert_cmpfloat(bump(&f, film, 6), ==, 7);
        g_assert_cmpuint(vlm_kv_pool_bytes(f.pool), ==, bytes);
        vlm_kv_seq_destroy(film);
    }
    teardown(&f);
}

// No memory for a state: said so, and the sequence is as it was.
static void test_state_no_memory(void)
{
    fixture f = { .state_bytes = 64 };
    g_autoptr(GError) error = NULL;

    if (!setup(&f, GUINT_TO_POINTER(VLM_KV_F32)))
        return;
    vlm_kv_seq *seq = vlm_kv_seq_create(f.pool);
    append(&f, seq, 4);
    vlm_kv_seq *fork = vlm_kv_seq_fork(seq);
    append(&f, fork, 64);  // a page of its own; the state too
    vlm_kv_seq *third = vlm_kv_seq_fork(fork);
    g_assert_true(vlm_cmd_begin(f.cmd, &error));
    f.dev->fail_alloc_at = f.dev->n_alloc + 1;
    g_assert_false(vlm_kv_seq_prepare(third, f.cmd, 1, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    g_clear_error(&error);
    g_assert_true(vlm_cmd_run(f.cmd, &error));
    append(&f, third, 1);
    g_assert_cmpuint(vlm_kv_seq_n_tokens(third), ==, 69);
    f.dev->fail_alloc_at = f.dev->n_alloc + 1;
    g_assert_false(vlm_kv_pool_reserve(f.pool, 1, 10, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    vlm_kv_seq_destroy(third);
    vlm_kv_seq_destroy(fork);
    vlm_kv_seq_destroy(seq);
    teardown(&f);
}

// Failing to get a page leaves a sequence that works.
static void test_no_memory(gconstpointer data)
{
    fixture f = { 0 };
    g_autoptr(GError) error = NULL;

    if (!setup(&f, data))
        return;
    vlm_kv_seq *seq = vlm_kv_seq_create(f.pool);
    f.dev->fail_alloc_at = f.dev->n_alloc + 1;
    g_assert_false(vlm_kv_pool_reserve(f.pool, 4, 0, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    g_clear_error(&error);
    g_assert_true(vlm_cmd_begin(f.cmd, &error));
    f.dev->fail_alloc_at = f.dev->n_alloc + 1;
    g_assert_false(vlm_kv_seq_prepare(seq, f.cmd, 4, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    g_clear_error(&error);
    g_assert_true(vlm_cmd_run(f.cmd, &error));
    append(&f, seq, 4);
    g_assert_cmpuint(vlm_kv_seq_n_tokens(seq), ==, 4);
    vlm_kv_seq_destroy(seq);
    teardown(&f);
}

// Heads are filled up to whole blocks of 32, and every block has 2 bytes more.
static void test_sizes(void)
{
    static const struct {
        uint32_t head_dim;
        uint64_t bytes[VLM_N_KV_TYPE];  // of 64 slots of one head
    } rows[] = {
        { 32,
          { [VLM_KV_F16] = 4096, [VLM_KV_F32] = 8192, [VLM_KV_Q8] = 2176, [VLM_KV_Q4] = 1152 } },
        { 64,
          { [VLM_KV_F16] = 8192, [VLM_KV_F32] = 16384, [VLM_KV_Q8] = 4352, [VLM_KV_Q4] = 2304 } },
        { 72,
          { [VLM_KV_F16] = 9216, [VLM_KV_F32] = 18432, [VLM_KV_Q8] = 6528, [VLM_KV_Q4] = 3456 } },
        { 80,
          { [VLM_KV_F16] = 10240, [VLM_KV_F32] = 20480, [VLM_KV_Q8] = 6528, [VLM_KV_Q4] = 3456 } },
        { 128,
          { [VLM_KV_F16] = 16384, [VLM_KV_F32] = 32768, [VLM_KV_Q8] = 8704, [VLM_KV_Q4] = 4608 } },
        { 256,
          { [VLM_KV_F16] = 32768, [VLM_KV_F32] = 65536, [VLM_KV_Q8] = 17408, [VLM_KV_Q4] = 9216 } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
            const vlm_kv_layout kv = {
                .type = type, .n_layer = 3, .n_kv_head = 5, .head_dim = rows[i].head_dim
            };
            g_assert_true(vlm_kv_layout_ok(&kv));
            g_assert_cmpuint(vlm_kv_head_bytes(&kv), ==, rows[i].bytes[type]);
            g_assert_cmpuint(vlm_kv_page_bytes(&kv), ==, 2 * 3 * 5 * rows[i].bytes[type]);
            g_assert_cmpuint(vlm_kv_page_bytes(&kv) % VLM_PAGE_TOKENS, ==, 0);
        }
    }
    g_assert_false(vlm_kv_layout_ok(&(vlm_kv_layout){ VLM_N_KV_TYPE, 1, 1, 64 }));
}

// A token that is taken back leaves its slot to the next, within a page and where one begins.
static void test_take_back(void)
{
    fixture f = { 0 };

    if (!setup(&f, GUINT_TO_POINTER(VLM_KV_F16)))
        return;
    for (uint32_t n = 62; n <= 66; n++) {
        g_autoptr(vlm_kv_seq) seq = vlm_kv_seq_create(f.pool);
        append(&f, seq, n);
        const uint64_t slot = append(&f, seq, 1);
        const guint n_used = vlm_kv_pool_n_used(f.pool);
        vlm_kv_seq_take_back(seq, 1);
        g_assert_cmpuint(vlm_kv_seq_n_tokens(seq), ==, n);
        g_assert_cmpuint(vlm_kv_seq_n_slots(seq), ==, n);
        // a fork shares what is left, and writes elsewhere
        g_autoptr(vlm_kv_seq) fork = vlm_kv_seq_fork(seq);
        g_assert_cmpuint(vlm_kv_seq_n_tokens(fork), ==, n);
        g_assert_cmpuint(append(&f, fork, 1), !=, slot);
        g_clear_pointer(&fork, vlm_kv_seq_destroy);
        g_assert_cmpuint(append(&f, seq, 1), ==, slot);
        g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, n_used);
        // and the prefix may end there
        vlm_kv_seq_take_back(seq, 1);
        vlm_kv_seq_seal_prefix(seq);
        g_assert_cmpuint(vlm_kv_seq_n_prefix(seq), ==, n);
        g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, (n + 63) / 64);
    }
    g_assert_cmpuint(vlm_kv_pool_n_used(f.pool), ==, 0);
    teardown(&f);
}

static void add(const char *name, guint type, GTestDataFunc test)
{
    g_autofree char *path = g_strdup_printf("/kv/%s/%u", name, type);

    g_test_add_data_func(path, GUINT_TO_POINTER(type), test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kv/sizes", test_sizes);
    g_test_add_func("/kv/take-back", test_take_back);
    for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
        add("fork", type, test_fork);
        add("evict", type, test_evict);
        add("slide", type, test_slide);
        add("no-memory", type, test_no_memory);
    }
    g_test_add_func("/kv/cross", test_cross);
    g_test_add_func("/kv/state", test_state);
    g_test_add_func("/kv/state-no-memory", test_state_no_memory);
    return g_test_run();
}
