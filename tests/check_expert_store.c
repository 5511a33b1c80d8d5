// SPDX-License-Identifier: LGPL-2.1-or-later
// check_expert_store.c — experts at home and in slots: whatever moves, products see the same ones.
//
// A store of two layers whose blocks are of two sizes, on the first device, as it is and as if its
// memory could not be seen by the host. After every step all experts of both layers are used in a
// product. GLib test program (TAP); skips without a device.
#include <string.h>

#include "model/expert_store.h"
#include "ops/ops.h"

#define N_LAYER  2u
#define N_EXPERT 8u
#define N_COL    32u
#define K        2u

typedef struct fixture {
    vlm_device *dev;
    vlm_cmd *cmd;
    vlm_expert_store *store;
    vlm_weight weight[N_LAYER];
    vlm_buffer *ids, *all, *src, *dst, *plan;
} fixture;

static float value_of(uint32_t layer, uint32_t expert)
{
    return (float) (1 + 10 * layer + expert);
}

// Experts whose elements are all one number. Layer 1 has twice as many rows.
static void fill_homes(fixture *f)
{
    for (uint32_t il = 0; il < N_LAYER; il++) {
        for (uint32_t e = 0; e < N_EXPERT; e++) {
            float *home = vlm_expert_store_home(f->store, il, e);
            for (uint64_t i = 0; i < f->weight[il].mat_bytes / 4; i++)
                home[i] = value_of(il, e);
        }
    }
}

static vlm_buffer *buffer(fixture *f, size_t bytes)
{
    g_autoptr(GError) error = NULL;
    vlm_buffer *b = vlm_buffer_create(f->dev, bytes, VLM_MEMORY_UPLOAD, &error);

    g_assert_no_error(error);
    memset(b->host, 0, bytes);
    return b;
}

// With slots for `n_slot` blocks of each layer.
static gboolean set_up(fixture *f, uint32_t n_slot, gboolean hide_local)
{
    g_autoptr(GError) error = NULL;
    uint64_t block_bytes[N_LAYER], slot_bytes = 0;

    memset(f, 0, sizeof *f);
    f->dev = vlm_device_create(&(vlm_device_params){ 0 }, &error);
    if (!f->dev) {
        g_test_skip(error->message);
        return FALSE;
    }
    f->dev->hide_local = hide_local;
    f->cmd = vlm_cmd_create(f->dev, 1 << 20, &error);
    g_assert_no_error(error);
    for (uint32_t il = 0; il < N_LAYER; il++) {
        const uint32_t n_row = (il + 1) * f->dev->subgroup_size;
        f->weight[il] = (vlm_weight){
            .dtype = VLM_DTYPE_F32,
            .n_mat = N_EXPERT,
            .n_row = n_row,
            .n_col = N_COL,
            .mat_bytes = vlm_weight_mat_bytes(f->dev, VLM_DTYPE_F32, n_row, N_COL),
        };
        block_bytes[il] = f->weight[il].mat_bytes;
        slot_bytes += n_slot * block_bytes[il];
    }
    f->store = vlm_expert_store_new(f->dev,
                                    &(vlm_expert_store_params){ .block_bytes = block_bytes,
                                                                .n_layer = N_LAYER,
                                                                .n_expert = N_EXPERT,
                                                                .slot_bytes = slot_bytes + 32,
                                                                .max_ids = K },
                                    &error);
    g_assert_no_error(error);
    for (uint32_t il = 0; il < N_LAYER; il++)
        f->weight[il].table = vlm_expert_store_table(f->store, il);
    fill_homes(f);
    vlm_expert_store_fill(f->store, &error);
    g_assert_no_error(error);
    f->ids = buffer(f, N_LAYER * K * 4);
    f->all = buffer(f, N_EXPERT * 4);
    f->src = buffer(f, N_COL * 4);
    f->dst = buffer(f, (size_t) N_LAYER * N_EXPERT * 2 * f->dev->subgroup_size * 4);
    f->plan = buffer(f, vlm_moe_plan_bytes(f->dev, 1, N_EXPERT, N_EXPERT));
    for (uint32_t e = 0; e < N_EXPERT; e++)
        ((uint32_t *) f->all->host)[e] = e;
    for (uint32_t c = 0; c < N_COL; c++)
        ((float *) f->src->host)[c] = 1;
    return TRUE;
}

static void tear_down(fixture *f)
{
    vlm_expert_store_free(f->store);
    vlm_buffer_destroy(f->ids);
    vlm_buffer_destroy(f->all);
    vlm_buffer_destroy(f->src);
    vlm_buffer_destroy(f->dst);
    vlm_buffer_destroy(f->plan);
    vlm_cmd_destroy(f->cmd);
    vlm_device_destroy(f->dev);
}

typedef enum ending {
    RUN,      // as it should be
    ABANDON,  // recorded and never run
    BREAK,    // not even recorded to its end
} ending;

// A step that chooses experts a and b in both layers.
static void step(fixture *f, uint32_t a, uint32_t b, ending how)
{
    const vlm_moe_plan plan = { f->plan->addr, f->all->addr, 1, N_EXPERT, N_EXPERT, 0 };
    const vlm_tensor src = vlm_tensor_make(f->src->addr, 1, N_COL);
    g_autoptr(GError) error = NULL;
    uint32_t *ids = f->ids->host;
    const size_t layer_bytes = (size_t) N_EXPERT * 2 * f->dev->subgroup_size * 4;

    vlm_cmd_begin(f->cmd, &error);
    vlm_expert_store_begin(f->store, f->cmd);
    if (how == BREAK)
        return;
    for (uint32_t il = 0; il < N_LAYER; il++) {
        const vlm_tensor dst =
            vlm_tensor_make(f->dst->addr + il * layer_bytes, N_EXPERT, f->weight[il].n_row);
        ids[K * il] = a;
        ids[K * il + 1] = b;
        vlm_op_moe_matmul(f->cmd, &dst, &src, &f->weight[il], &plan, TRUE, &error);
        g_assert_no_error(error);
    }
    vlm_cmd_barrier(f->cmd);
    vlm_expert_store_end(f->store, f->cmd, f->ids, 0, K);
    if (how == ABANDON)
        return;
    vlm_cmd_run(f->cmd, &error);
    g_assert_no_error(error);
    for (uint32_t il = 0; il < N_LAYER; il++) {
        const float *dst =
            (const float *) (const void *) ((char *) f->dst->host + il * layer_bytes);
        for (uint32_t i = 0; i < N_EXPERT * f->weight[il].n_row; i++)
            g_assert_cmpfloat(dst[i], ==, N_COL * value_of(il, i / f->weight[il].n_row));
    }
}

static vlm_expert_stats stats_of(fixture *f)
{
    vlm_expert_stats stats;

    vlm_expert_store_stats(f->store, &stats);
    return stats;
}

// Those chosen again and again come to the device and stay; others take their place in time.
static void test_hot(gconstpointer data)
{
    fixture f;

    if (!set_up(&f, 3, GPOINTER_TO_INT(data)))
        return;
    const uint64_t block0 = f.weight[0].mat_bytes, block1 = f.weight[1].mat_bytes;
    vlm_expert_stats was = stats_of(&f);
    g_assert_cmpuint(was.host_bytes, ==, N_EXPERT * (block0 + block1));
    g_assert_cmpuint(was.slot_bytes, ==, 3 * (block0 + block1));
    for (int i = 0; i < 3; i++)  // the first experts are there from the start
        step(&f, 0, 2, RUN);
    step(&f, 6, 7, RUN);
    was = stats_of(&f);
    g_assert_cmpuint(was.n_hit, ==, 3 * 2 * N_LAYER);
    g_assert_cmpuint(was.n_miss + was.n_moved, ==, 0);
    for (int i = 0; i < 40; i++)
        step(&f, 6, 7, RUN);
    was = stats_of(&f);
    g_assert_cmpuint(was.n_moved, ==, 2 * N_LAYER);
    for (int i = 0; i < 40; i++)
        step(&f, 7, 6, RUN);
    const vlm_expert_stats now = stats_of(&f);
    g_assert_cmpuint(now.n_moved, ==, was.n_moved);
    g_assert_cmpuint(now.n_miss, ==, was.n_miss);
    g_assert_cmpuint(now.n_hit, ==, was.n_hit + 40 * 2 * N_LAYER);
    // noise moves nothing: the two that are cold in turn with each other
    for (int i = 0; i < 40; i++)
        step(&f, i % 2 ? 3 : 4, 6, RUN);
    g_assert_cmpuint(stats_of(&f).n_moved - now.n_moved, <=, 2 * N_LAYER);
    tear_down(&f);
}

// What was recorded and not run has moved nothing.
static void test_not_run(gconstpointer data)
{
    fixture f;

    if (!set_up(&f, 3, GPOINTER_TO_INT(data)))
        return;
    // What a step teaches is for the next one to do, and that comes to nothing.
    for (int i = 0; i < 40; i++) {
        step(&f, 6, 7, RUN);
        step(&f, 6, 7, i % 2 ? ABANDON : BREAK);
    }
    g_assert_cmpuint(stats_of(&f).n_moved, ==, 0);
    for (int i = 0; i < 10; i++)
        step(&f, 6, 7, RUN);
    g_assert_cmpuint(stats_of(&f).n_moved, >, 0);
    tear_down(&f);
}

// Everything is read from the host.
static void test_no_slots(gconstpointer data)
{
    fixture f;

    if (!set_up(&f, 0, GPOINTER_TO_INT(data)))
        return;
    for (int i = 0; i < 10; i++)
        step(&f, 1, 5, RUN);
    step(&f, 1, 5, ABANDON);
    step(&f, 1, 5, RUN);
    const vlm_expert_stats stats = stats_of(&f);
    g_assert_cmpuint(stats.slot_bytes + stats.n_hit + stats.n_moved, ==, 0);
    g_assert_cmpuint(stats.n_miss, ==, 10 * 2 * N_LAYER);  // the last one is not counted yet
    tear_down(&f);
}

// Recording and counting take no memory.
static void test_steady(void)
{
    fixture f;

    if (!set_up(&f, 2, FALSE))
        return;
    step(&f, 0, 1, RUN);
    const gint before = g_atomic_int_get(&f.dev->n_alloc);
    for (uint32_t i = 0; i < 64; i++)
        step(&f, i / 8, (i / 8 + 1) % 8, RUN);
    g_assert_cmpint(g_atomic_int_get(&f.dev->n_alloc), ==, before);
    g_assert_cmpuint(stats_of(&f).n_moved, >, 0);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/experts/store/hot", GINT_TO_POINTER(FALSE), test_hot);
    g_test_add_data_func("/experts/store/hot-staged", GINT_TO_POINTER(TRUE), test_hot);
    g_test_add_data_func("/experts/store/not-run", GINT_TO_POINTER(FALSE), test_not_run);
    g_test_add_data_func("/experts/store/no-slots", GINT_TO_POINTER(FALSE), test_no_slots);
    g_test_add_data_func("/experts/store/no-slots-staged", GINT_TO_POINTER(TRUE), test_no_slots);
    g_test_add_func("/experts/store/steady", test_steady);
    return g_test_run();
}
