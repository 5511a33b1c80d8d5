// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_command.c — recordings: when they are made again, when repeated, and that both do the same.
#include <string.h>

#include "ops/ops.h"

#define N_COL 8u

typedef struct fixture {
    vlm_device *dev;
    vlm_cmd *cmd;
    vlm_buffer *src, *dst;  // f32 [4, N_COL]
} fixture;

static gboolean set_up(fixture *f)
{
    g_autoptr(GError) error = NULL;

    memset(f, 0, sizeof *f);
    f->dev = vlm_device_create(&(vlm_device_params){ .validate = TRUE }, &error);
    if (!f->dev) {
        g_test_skip(error->message);
        return FALSE;
    }
    f->cmd = vlm_cmd_create(f->dev, 4096, &error);
    g_assert_no_error(error);
    f->src = vlm_buffer_create(f->dev, 4 * N_COL * 4, VLM_MEMORY_READBACK, &error);
    g_assert_no_error(error);
    f->dst = vlm_buffer_create(f->dev, 4 * N_COL * 4, VLM_MEMORY_READBACK, &error);
    g_assert_no_error(error);
    for (uint32_t i = 0; i < 4 * N_COL; i++)
        ((float *) f->src->host)[i] = (float) i;
    return TRUE;
}

static void tear_down(fixture *f)
{
    g_assert_cmpint(f->dev->n_validation, ==, 0);
    vlm_cmd_destroy(f->cmd);
    vlm_buffer_destroy(f->src);
    vlm_buffer_destroy(f->dst);
    vlm_device_destroy(f->dev);
}

// Records dst[0 ... n - 1] = src[row ...].
static void gather(fixture *f, uint32_t row, uint32_t n)
{
    g_autoptr(GError) error = NULL;
    const vlm_tensor src = vlm_tensor_make(f->src->addr, 4, N_COL);
    const vlm_tensor dst = vlm_tensor_make(f->dst->addr, n, N_COL);
    uint32_t index[4];
    uint64_t addr = 0;

    for (uint32_t i = 0; i < n; i++)
        index[i] = (row + i) % 4;
    vlm_cmd_table(f->cmd, index, n * sizeof *index, &addr, &error);
    g_assert_no_error(error);
    vlm_op_rows_gather(f->cmd, &dst, &src, addr, &error);
    g_assert_no_error(error);
}

static void begin(fixture *f)
{
    g_autoptr(GError) error = NULL;

    vlm_cmd_begin(f->cmd, &error);
    g_assert_no_error(error);
}

static void run(fixture *f)
{
    g_autoptr(GError) error = NULL;

    vlm_cmd_run(f->cmd, &error);
    g_assert_no_error(error);
}

static void assert_rows(const fixture *f, uint32_t row, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        g_assert_cmpmem((const float *) f->dst->host + i * N_COL, N_COL * 4,
                        (const float *) f->src->host + (row + i) % 4 * N_COL, N_COL * 4);
}

static void assert_counts(const fixture *f, gint n_record, gint n_replay)
{
    g_assert_cmpint(f->dev->n_record, ==, n_record);
    g_assert_cmpint(f->dev->n_replay, ==, n_replay);
    g_assert_cmpint(f->dev->n_submit, ==, n_record + n_replay);
}

// The first recording also zeroes counters; then the same shape is recorded once.
static void test_same_shape(void)
{
    fixture f;

    if (!set_up(&f))
        return;
    for (uint32_t i = 0; i < 10; i++) {
        begin(&f);
        gather(&f, i, 2);
        run(&f);
        assert_rows(&f, i, 2);
        assert_counts(&f, i == 0 ? 1 : 2, i < 2 ? 0 : (gint) i - 1);
    }
    begin(&f);  // more groups
    gather(&f, 1, 3);
    run(&f);
    assert_rows(&f, 1, 3);
    assert_counts(&f, 3, 8);
    begin(&f);  // the same groups at another place of the ring
    uint64_t addr = 0;
    vlm_cmd_table(f.cmd, "", 1, &addr, NULL);
    gather(&f, 2, 2);
    run(&f);
    assert_rows(&f, 2, 2);
    assert_counts(&f, 4, 8);
    for (uint32_t i = 0; i < 6; i++) {  // shapes in turn: all are kept
        begin(&f);
        gather(&f, i, 2 + i % 2);
        run(&f);
        assert_rows(&f, i, 2 + i % 2);
    }
    assert_counts(&f, 4, 14);
    tear_down(&f);
}

// A barrier more is another recording, two in a row are one.
static void test_barriers(void)
{
    fixture f;

    if (!set_up(&f))
        return;
    for (int i = 0; i < 4; i++) {
        begin(&f);
        gather(&f, 0, 1);
        for (int n = 0; n < i; n++)
            vlm_cmd_barrier(f.cmd);
        gather(&f, 3, 2);
        run(&f);
    }
    assert_counts(&f, 2, 2);  // i = 0 zeroes counters, 1, 2 and 3 are the same
    tear_down(&f);
}

// The same recording gets the same counters.
static void test_counters(void)
{
    fixture f;
    uint64_t first = 0;

    if (!set_up(&f))
        return;
    for (int i = 0; i < 6; i++) {
        begin(&f);
        const uint64_t addr = vlm_cmd_counters(f.cmd, VLM_MAX_COUNTERS / 2);
        first = i == 0 ? addr : first;
        g_assert_cmpuint(addr, ==, first);
        gather(&f, 0, 1);
        vlm_cmd_counters(f.cmd, VLM_MAX_COUNTERS / 4);
        gather(&f, 0, 1);
        run(&f);
    }
    assert_counts(&f, 2, 4);
    tear_down(&f);
}

// More shapes than are kept: the one not used for longest goes, what comes back is right.
static void test_many_shapes(void)
{
    fixture f;

    if (!set_up(&f))
        return;
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t shape = 0; shape < 40; shape++) {
            uint64_t addr = 0;
            begin(&f);
            for (uint32_t i = 0; i < shape; i++)
                vlm_cmd_table(f.cmd, "", 1, &addr, NULL);
            gather(&f, shape + round, 2);
            run(&f);
            assert_rows(&f, shape + round, 2);
        }
    assert_counts(&f, 120, 0);
    tear_down(&f);
}

// Copies name buffers, whose handles may come back as another's: never repeated.
static void test_copies(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    begin(&f);
    run(&f);
    for (uint32_t i = 0; i < 2; i++) {
        begin(&f);
        vlm_cmd_copy(f.cmd, f.dst, 0, f.src, 0, N_COL * 4);
        run(&f);
        begin(&f);
        vlm_cmd_zero(f.cmd, f.dst, 0, N_COL * 4);
        run(&f);
    }
    assert_counts(&f, 5, 0);
    for (uint32_t i = 0; i < 8; i++) {
        g_autoptr(vlm_buffer) buffer =
            vlm_buffer_create(f.dev, N_COL * 4, VLM_MEMORY_SCRATCH, &error);
        g_assert_no_error(error);
        begin(&f);
        vlm_cmd_copy(f.cmd, buffer, 0, f.src, i % 4 * N_COL * 4, N_COL * 4);
        vlm_cmd_barrier(f.cmd);
        vlm_cmd_copy(f.cmd, f.dst, 0, buffer, 0, N_COL * 4);
        if (i % 2) {
            vlm_cmd_barrier(f.cmd);
            vlm_cmd_zero(f.cmd, f.dst, 4, 4);
        }
        run(&f);
        g_assert_cmpfloat(((float *) f.dst->host)[0], ==, (float) (i % 4 * N_COL));
        g_assert_cmpfloat(((float *) f.dst->host)[1], ==,
                          i % 2 ? 0.0f : (float) (i % 4 * N_COL + 1));
    }
    assert_counts(&f, 13, 0);
    tear_down(&f);
}

// Long work is sent in pieces, each of which is repeated by itself.
static void test_splits(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    for (uint32_t i = 0; i < 6; i++) {
        begin(&f);
        for (uint32_t part = 0; part < 3; part++) {
            gather(&f, i + part, 1 + part);
            vlm_cmd_add_cost(f.cmd, 1e14);
            g_assert_true(vlm_cmd_split(f.cmd, &error));
        }
        gather(&f, i, 4);
        run(&f);
        assert_rows(&f, i, 4);
        // the first time the first piece zeroes counters
        assert_counts(&f, i == 0 ? 4 : 5, i == 0 ? 0 : (gint) (4 * i - 1));
    }
    tear_down(&f);
}

// Moments are measured in repeated recordings too.
static void test_stamps(void)
{
    fixture f;

    if (!set_up(&f))
        return;
    for (uint32_t i = 0; i < 4; i++) {
        begin(&f);
        vlm_cmd_stamp(f.cmd, 0);
        gather(&f, i, 4);
        vlm_cmd_stamp(f.cmd, 1);
        run(&f);
        if (f.dev->timestamp_ns > 0)
            g_assert_cmpfloat(vlm_cmd_stamp_ms(f.cmd, 0, 1), >, 0);
    }
    assert_counts(&f, 2, 2);
    tear_down(&f);
}

// A profile has queries of its own: nothing that names them outlives it.
static void test_profile(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    if (f.dev->timestamp_ns > 0) {
        for (uint32_t i = 0; i < 3; i++) {
            g_assert_true(vlm_cmd_set_profiling(f.cmd, TRUE, &error));
            for (uint32_t n = 0; n < 2; n++) {
                begin(&f);
                gather(&f, i, 2);
                run(&f);
                assert_rows(&f, i, 2);
            }
            const GArray *rows = vlm_cmd_profile(f.cmd);
            g_assert_cmpuint(rows->len, ==, 1);
            g_assert_cmpuint(g_array_index(rows, vlm_profile_row, 0).n_dispatch, ==, 2);
        }
        assert_counts(&f, 6, 0);
    }
    tear_down(&f);
}

// What was begun and not run leaves nothing behind, even when its beginning was sent.
static void test_abandoned(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    for (uint32_t i = 0; i < 4; i++) {
        begin(&f);
        gather(&f, 0, 1 + i);
        vlm_cmd_add_cost(f.cmd, 1e14);
        if (i % 2)
            g_assert_true(vlm_cmd_split(f.cmd, &error));
        g_assert_cmpint(f.dev->n_wait, ==, i >= 2 ? 1 : 0);
    }
    begin(&f);  // waits for what was sent: its arguments are in the way
    g_assert_cmpint(f.dev->n_wait, ==, 2);
    gather(&f, 3, 4);
    run(&f);
    assert_rows(&f, 3, 4);
    tear_down(&f);
}

static void submit(fixture *f)
{
    g_autoptr(GError) error = NULL;

    vlm_cmd_submit(f->cmd, &error);
    g_assert_no_error(error);
}

static void wait(fixture *f)
{
    g_autoptr(GError) error = NULL;

    vlm_cmd_wait(f->cmd, &error);
    g_assert_no_error(error);
}

// Records to[row] = from[row].
static void move(fixture *f, const vlm_buffer *from, const vlm_buffer *to, uint32_t row)
{
    g_autoptr(GError) error = NULL;
    const vlm_tensor src = vlm_tensor_make(from->addr, 4, N_COL);
    const vlm_tensor dst = vlm_tensor_make(to->addr + (uint64_t) row * N_COL * 4, 1, N_COL);
    uint64_t addr = 0;

    vlm_cmd_table(f->cmd, &row, sizeof row, &addr, &error);
    g_assert_no_error(error);
    vlm_op_rows_gather(f->cmd, &dst, &src, addr, &error);
    g_assert_no_error(error);
}

// Two recordings on the device: the second sees what the first wrote, neither's arguments are
// written over by those of the other, and they are repeated like any.
static void test_two_sent(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    g_autoptr(vlm_buffer) middle =
        vlm_buffer_create(f.dev, 4 * N_COL * 4, VLM_MEMORY_READBACK, &error);
    g_assert_no_error(error);
    begin(&f);
    move(&f, f.src, middle, 0);
    submit(&f);
    for (uint32_t i = 0; i < 40; i++) {
        // (odd ones from src to the middle, even ones from there to dst)
        g_assert_true(vlm_cmd_is_free(f.cmd));
        begin(&f);
        if (i % 2)
            move(&f, f.src, middle, (i / 2 + 1) % 4);
        else
            move(&f, middle, f.dst, i / 2 % 4);
        submit(&f);
        g_assert_false(vlm_cmd_is_free(f.cmd));
        wait(&f);
        if (i % 2)
            g_assert_cmpmem((float *) f.dst->host + i / 2 % 4 * N_COL, N_COL * 4,
                            (float *) f.src->host + i / 2 % 4 * N_COL, N_COL * 4);
    }
    wait(&f);
    assert_rows(&f, 0, 4);
    g_assert_cmpint(f.dev->n_wait, ==, 41);
    assert_counts(&f, 3, 38);  // the first zeroes counters, then one for each half of the ring
    begin(&f);                 // alone it waits for nothing, which is another list
    move(&f, f.src, middle, 0);
    run(&f);
    assert_counts(&f, 4, 38);
    g_clear_pointer(&middle, vlm_buffer_destroy);
    tear_down(&f);
}

// A recording whose arguments leave no room has the ring to itself; so has one that is alone.
static void test_ring(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;
    uint64_t addr = 0;
    uint8_t bytes[4096] = { 0 };

    if (!set_up(&f))
        return;
    begin(&f);
    g_assert_true(vlm_cmd_table(f.cmd, bytes, 1040, &addr, &error));
    submit(&f);
    g_assert_false(vlm_cmd_is_free(f.cmd));
    wait(&f);
    for (int i = 0; i < 2; i++) {
        begin(&f);
        g_assert_true(vlm_cmd_table(f.cmd, bytes, 4096, &addr, &error));
        g_assert_false(vlm_cmd_table(f.cmd, bytes, 1, &addr, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_clear_error(&error);
        run(&f);
        begin(&f);
        g_assert_true(vlm_cmd_table(f.cmd, bytes, 1024, &addr, &error));
        submit(&f);
        begin(&f);  // beside it: half of the ring
        g_assert_true(vlm_cmd_table(f.cmd, bytes, 2048, &addr, &error));
        g_assert_false(vlm_cmd_table(f.cmd, bytes, 1, &addr, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_clear_error(&error);
        begin(&f);  // (that one was not submitted)
        submit(&f);
        wait(&f);
        begin(&f);  // the other half
        g_assert_true(vlm_cmd_table(f.cmd, bytes, 2048, &addr, &error));
        g_assert_false(vlm_cmd_table(f.cmd, bytes, 1, &addr, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_clear_error(&error);
        run(&f);  // waits for both
        g_assert_true(vlm_cmd_is_free(f.cmd));
    }
    tear_down(&f);
}

// The device is lost with a recording on it: that one can still be waited for, the rest fails.
static void test_lost_with_two(void)
{
    g_autoptr(GError) error = NULL;
    fixture f;

    if (!set_up(&f))
        return;
    begin(&f);
    gather(&f, 0, 4);
    submit(&f);
    f.dev->fail_submit_at = f.dev->n_submit + 1;
    begin(&f);
    gather(&f, 1, 4);
    g_assert_false(vlm_cmd_submit(f.cmd, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
    g_clear_error(&error);
    wait(&f);
    assert_rows(&f, 0, 4);
    g_assert_false(vlm_cmd_begin(f.cmd, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/command/same-shape", test_same_shape);
    g_test_add_func("/command/barriers", test_barriers);
    g_test_add_func("/command/counters", test_counters);
    g_test_add_func("/command/many-shapes", test_many_shapes);
    g_test_add_func("/command/copies", test_copies);
    g_test_add_func("/command/splits", test_splits);
    g_test_add_func("/command/stamps", test_stamps);
    g_test_add_func("/command/profile", test_profile);
    g_test_add_func("/command/abandoned", test_abandoned);
    g_test_add_func("/command/two-sent", test_two_sent);
    g_test_add_func("/command/ring", test_ring);
    g_test_add_func("/command/lost-with-two", test_lost_with_two);
    return g_test_run();
}
