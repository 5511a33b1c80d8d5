// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_kv_cache.c — pages, forks, copy-on-write, eviction. Skips without a device.
#include "model/kv_cache.h"

typedef struct fixture {
    vlm_device *dev;
    vlm_cmd *cmd;
    vlm_kv_pool *pool;
} fixture;

static gboolean setup(fixture *f)
{
    const vlm_kv_layout layout = {
        .type = VLM_KV_F32, .n_layer = 2, .n_kv_head = 1, .head_dim = 8
    };
    g_autoptr(GError) error = NULL;

    f->dev = vlm_device_create(&(vlm_device_params){ 0 }, &error);
    if (!f->dev) {
        g_test_skip(error->message);
        return FALSE;
    }
    f->cmd = vlm_cmd_create(f->dev, 65536, &error);
    g_assert_no_error(error);
    f->pool = vlm_kv_pool_create(f->dev, &layout);
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

static void test_fork(void)
{
    fixture f;

    if (!setup(&f))
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

static void test_evict(void)
{
    fixture f;

    if (!setup(&f))
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

// A window that slides for long needs no more memory than it holds.
static void test_slide(void)
{
    fixture f;
    g_autoptr(GError) error = NULL;

    if (!setup(&f))
        return;
    g_assert_true(vlm_kv_pool_reserve(f.pool, 8, &error));
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

// Failing to get a page leaves a sequence that works.
static void test_no_memory(void)
{
    fixture f;
    g_autoptr(GError) error = NULL;

    if (!setup(&f))
        return;
    vlm_kv_seq *seq = vlm_kv_seq_create(f.pool);
    f.dev->fail_alloc_at = f.dev->n_alloc + 1;
    g_assert_false(vlm_kv_pool_reserve(f.pool, 4, &error));
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kv/fork", test_fork);
    g_test_add_func("/kv/evict", test_evict);
    g_test_add_func("/kv/slide", test_slide);
    g_test_add_func("/kv/no-memory", test_no_memory);
    return g_test_run();
}
