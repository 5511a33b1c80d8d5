// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_kernel_shapes.c — what the products' shaders assume of their constants holds on devices with
// lanes, limits and matrix units of all kinds, with every tuning.
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ops/matmul_split.h"

static const uint32_t all_lanes[] = { 8, 16, 32, 64 };
static const uint32_t all_locals[] = { 128, 256, 512, 1024 };
static const uint32_t all_tokens[] = { 1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 1024 };
static const uint32_t all_panels[] = { 1, 2, 16, 100, 2048, 19000 };

// Calls `check` with every combination of allowed values of these sizes.
static void for_tunings(vlm_device *dev, const vlm_tunable *tunables, guint n,
                        void (*check)(vlm_device *dev))
{
    if (n == 0) {
        check(dev);
        return;
    }
    const vlm_tunable_info *info = vlm_tunable_get_info(*tunables);
    for (uint32_t i = 0; i < info->n_value; i++) {
        g_assert_true(vlm_tuning_set(dev, *tunables, info->values[i]));
        for_tunings(dev, tunables + 1, n - 1, check);
    }
}

// The same on every device.
static void for_devices(uint32_t caps, const vlm_tunable *tunables, guint n,
                        void (*check)(vlm_device *dev))
{
    for (guint i = 0; i < G_N_ELEMENTS(all_lanes); i++) {
        for (guint j = 0; j < G_N_ELEMENTS(all_locals); j++) {
            vlm_device dev = { .caps = caps,
                               .subgroup_size = all_lanes[i],
                               .max_local = all_locals[j],
                               .max_shared = 32768 };
            vlm_tuning_reset(&dev);
            for_tunings(&dev, tunables, n, check);
        }
    }
}

// As matmul_coopmat.comp numbers its constants.
enum { TOKS = 1, GROUPS, M, N, K };

static void check_coopmat(vlm_device *dev)
{
    static const vlm_coopmat_shape shapes[] = {
        { 16, 16, 16 }, { 8, 8, 8 }, { 16, 8, 16 }, { 8, 8, 16 }, { 16, 8, 8 }
    };

    for (guint s = 0; s < G_N_ELEMENTS(shapes); s++) {
        const vlm_coopmat_shape shape = shapes[s];
        if (dev->subgroup_size % shape.n != 0)
            continue;  // the probe leaves it out
        dev->coopmat = shape;
        for (guint t = 0; t < G_N_ELEMENTS(all_tokens); t++) {
            const uint32_t n_tok = all_tokens[t];
            if (!vlm_coopmat_takes(dev, VLM_DTYPE_Q8_0, n_tok))
                continue;
            const uint32_t tile = vlm_coopmat_tile(dev, n_tok);
            const vlm_kernel_spec spec = vlm_coopmat_spec(dev, tile, FALSE);
            const uint32_t local = spec.local[0], groups = spec.own[GROUPS];

            g_assert_cmpuint(spec.own[TOKS], ==, tile);
            g_assert_cmpuint(tile, <=, dev->tuning[VLM_TUNE_MATRIX_TOKENS]);
            g_assert_cmpuint(vlm_coopmat_panels(dev, tile), ==, groups);
            g_assert_cmpuint(local, ==, groups * dev->subgroup_size);
            g_assert_cmpuint(local, <=, dev->max_local);
            g_assert_cmpuint(tile % spec.own[M], ==, 0);
            g_assert_cmpuint(dev->subgroup_size % spec.own[N], ==, 0);
            g_assert_cmpuint(32 % spec.own[K], ==, 0);
            // every lane fetches, and all is fetched
            g_assert_cmpuint(tile * 8 / local, >=, 1);
            g_assert_cmpuint(tile * 8 % local, ==, 0);
            g_assert_cmpuint(tile * 8 / local, <=, 64);
            // activations, weights, results of the subgroups
            g_assert_cmpuint(tile * 80 + local * 80 + groups * shape.m * shape.n * 4, <=,
                             VLM_COOPMAT_SHARED);
        }
    }
}

static void test_coopmat(void)
{
    static const vlm_tunable tunables[] = { VLM_TUNE_MATRIX_FROM, VLM_TUNE_MATRIX_TOKENS,
                                            VLM_TUNE_MATRIX_PANELS };

    for_devices(VLM_CAP_COOPMAT | VLM_CAP_PARALLEL, tunables, G_N_ELEMENTS(tunables),
                check_coopmat);
}

// As matmul_split.comp and matmul_dot.comp number theirs.
enum { N_GROUP = 2, ROWS = 7 };

static void check_split(vlm_device *dev)
{
    const uint32_t lanes = dev->subgroup_size;

    for (guint t = 0; t < G_N_ELEMENTS(all_tokens); t++) {
        for (guint p = 0; p < G_N_ELEMENTS(all_panels); p++) {
            for (guint pair = 0; pair < 2; pair++) {
                const uint32_t n_tok = all_tokens[t], n_item = 1 + 7 * p;
                if (!vlm_split_takes(dev, n_tok))
                    continue;
                const uint32_t tile = vlm_tile_tokens(n_tok, VLM_SPLIT_MAX_TOKENS);
                const vlm_kernel_spec spec =
                    vlm_split_spec(dev, all_panels[p], n_item, tile, (n_tok - 1) / tile + 1,
                                   (vlm_tile_use){ .pair = pair != 0 });
                const uint32_t groups = spec.own[N_GROUP];

                g_assert_cmpuint(spec.own[TOKS], ==, tile);
                g_assert_cmpuint(groups, <=, n_item);
                g_assert_cmpuint(groups, <=, dev->tuning[VLM_TUNE_SPLIT_MOST]);
                g_assert_cmpuint(spec.local[0], ==, groups * lanes);
                g_assert_cmpuint(spec.local[0], <=, dev->max_local);
                g_assert_cmpuint(groups * (1 + pair) * tile * lanes * 4, <=, dev->max_shared);
            }
        }
    }
}

static void test_split(void)
{
    static const vlm_tunable tunables[] = { VLM_TUNE_SPLIT_SUBGROUPS, VLM_TUNE_SPLIT_MOST };

    for_devices(VLM_CAP_PARALLEL, tunables, G_N_ELEMENTS(tunables), check_split);
}

static void check_dot(vlm_device *dev)
{
    const uint32_t lanes = dev->subgroup_size;

    for (guint t = 0; t < G_N_ELEMENTS(all_tokens); t++) {
        for (guint p = 0; p < G_N_ELEMENTS(all_panels); p++) {
            const uint32_t n_tok = all_tokens[t], n_item = 1 + 7 * p;
            const uint32_t tile = vlm_dot_tile(dev, all_panels[p], n_tok);
            const vlm_kernel_spec spec = vlm_dot_spec(dev, all_panels[p], n_item, tile,
                                                      (n_tok - 1) / tile + 1, (vlm_tile_use){ 0 });
            const uint32_t groups = spec.own[N_GROUP];
            const gboolean rows = spec.own[ROWS] != 0;

            g_assert_cmpuint(tile, <=, 16);
            g_assert_cmpuint(spec.local[0], ==, groups * lanes);
            g_assert_cmpuint(spec.local[0], <=, dev->max_local);
            g_assert_cmpuint(vlm_dot_panels(&spec), ==, rows ? groups : 1);
            if (!rows)
                g_assert_cmpuint(groups, <=, n_item);
            // rounded blocks, sums
            g_assert_cmpuint((rows ? 1 : groups) * tile * 4 * 48
                                 + (rows ? groups : groups * tile * lanes) * 4,
                             <=, dev->max_shared);
        }
    }
}

static void test_dot(void)
{
    static const vlm_tunable tunables[] = { VLM_TUNE_SPLIT_SUBGROUPS, VLM_TUNE_SPLIT_MOST,
                                            VLM_TUNE_DOT_PANELS, VLM_TUNE_DOT_TOKENS };

    for_devices(VLM_CAP_INT_DOT | VLM_CAP_PARALLEL, tunables, G_N_ELEMENTS(tunables), check_dot);
}

static void check_tile(vlm_device *dev)
{
    for (guint t = 0; t < G_N_ELEMENTS(all_tokens); t++) {
        for (guint p = 0; p < G_N_ELEMENTS(all_panels); p++) {
            const vlm_tile tile = vlm_tile_choose(dev, all_tokens[t], all_panels[p]);

            g_assert_cmpuint(tile.n_tok, <=, 16);
            g_assert_cmpuint(tile.n_panel, <=, 8);
            g_assert_cmpuint(tile.n_panel % 2, ==, 0);  // PAIR has two halves
            if (all_tokens[t] == 1)
                g_assert_cmpuint(tile.n_tok, ==, 1);
        }
    }
}

static void test_tile(void)
{
    static const vlm_tunable tunables[] = { VLM_TUNE_TILE_PANELS_ONE, VLM_TUNE_TILE_PANELS,
                                            VLM_TUNE_TILE_TOKENS };

    for_devices(0, tunables, G_N_ELEMENTS(tunables), check_tile);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kernel shapes/matrix units", test_coopmat);
    g_test_add_func("/kernel shapes/split", test_split);
    g_test_add_func("/kernel shapes/integer dot", test_dot);
    g_test_add_func("/kernel shapes/tile", test_tile);
    return g_test_run();
}
