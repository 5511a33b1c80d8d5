// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_matmul.c — the reference against numbers worked out by hand or elsewhere.
#include <math.h>

#include "ref_matmul.h"

#include <glib.h>

#include "base/number.h"
#include "vectors.h"

// Every quantised type, to the bit, against the dequantisers of the Python package `gguf` (0.19),
// on blocks that tests/oracle/dequant_vectors.py chose.
static void test_dequant_recorded(void)
{
    g_autofree char *path = g_build_filename(g_getenv("VECTORS_DIR"), "dequant.vec", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(vectors) v = vectors_open(path, &error);
    guint n_type = 0;

    g_assert_no_error(error);
    for (guint id = 0; id < VLM_N_DTYPE; id++) {
        const vlm_dtype_info *info = vlm_dtype_lookup(id);

        if (!info || !info->runs || info->block_elems == 1)
            continue;
        g_autofree char *blocks_name = g_strdup_printf("%s.blocks", info->name);
        g_autofree char *values_name = g_strdup_printf("%s.values", info->name);
        const vectors_array *blocks = vectors_find(v, blocks_name);
        gsize n;
        const float *want = vectors_f32(v, values_name, &n);
        g_autofree float *got = g_new(float, n);

        g_assert_nonnull(blocks);
        g_assert_cmpuint(blocks->shape[1], ==, info->block_bytes);
        g_assert_cmpuint(n, ==, (gsize) blocks->shape[0] * info->block_elems);
        ref_dequant(got, id, blocks->data, n);
        for (gsize i = 0; i < n; i++)
            if (vlm_f32_bits(got[i]) != vlm_f32_bits(want[i]))
                g_error("%s: value %zu is %.9g, expected %.9g", info->name, i, (double) got[i],
                        (double) want[i]);
        n_type++;
    }
    g_assert_cmpuint(n_type, ==, 13);
}

static void test_dequant_float(void)
{
    const guint16 half[] = { 0x3c00, 0xc000, 0x0001 };  // 1, -2, 2^-24
    const guint16 brain[] = { 0x3f80, 0xc040 };         // 1, -3
    float out[3];

    ref_dequant(out, VLM_DTYPE_F16, half, 3);
    g_assert_cmpfloat(out[0], ==, 1.0f);
    g_assert_cmpfloat(out[1], ==, -2.0f);
    g_assert_cmpfloat(out[2], ==, 0x1p-24f);
    ref_dequant(out, VLM_DTYPE_BF16, brain, 2);
    g_assert_cmpfloat(out[0], ==, 1.0f);
    g_assert_cmpfloat(out[1], ==, -3.0f);
}

static void test_matmul(void)
{
    const float src[] = { 1, 2, 99 /* gap */, -3, 4, 99 };
    const float weight[] = { 10, 1, 0, -1, 2, 2 };  // [3, 2]
    const float bias[] = { 0.5f, 0, 1 };
    const float residual[] = { 100, 200, 300, 400, 500, 600 };
    const double want[] = { 112.5, 198, 307, 374.5, 496, 603 };
    const double want_scale[] = { 112.5, 202, 307, 434.5, 504, 615 };
    double out[6], scale[6];

    ref_matmul(out, scale, src, 3, weight, bias, REF_ACT_NONE, residual, 3, 2, 3, 2);
    for (int i = 0; i < 6; i++) {
        g_assert_cmpfloat(out[i], ==, want[i]);
        g_assert_cmpfloat(scale[i], ==, want_scale[i]);
    }
}

static void test_round_rows(void)
{
    float src[2 * 70], out[2 * 70];  // two rows of two blocks with a gap of six

    for (int i = 0; i < 140; i++) {
        src[i] = 0;
        out[i] = 77;
    }
    src[3] = 254;  // steps of 2
    src[4] = 3;    // 1.5 steps, a tie
    src[5] = 5;    // 2.5 steps
    src[6] = -2.9f;
    src[7] = 0.9f;
    src[70 + 32] = -1.27f;  // steps of 0.01
    src[70 + 40] = 0.5049f;
    src[70 + 1] = NAN;
    ref_round_rows(out, src, 70, 2, 64);
    g_assert_cmpfloat(out[3], ==, 254);
    g_assert_cmpfloat(out[4], ==, 4);
    g_assert_cmpfloat(out[5], ==, 4);
    g_assert_cmpfloat(out[6], ==, -2);
    g_assert_cmpfloat(out[7], ==, 0);
    g_assert_cmpfloat(out[40], ==, 0);  // a block of zeros
    g_assert_cmpfloat(out[64], ==, 77);
    g_assert_cmpfloat_with_epsilon(out[70 + 32], -1.27, 1e-6);
    g_assert_cmpfloat_with_epsilon(out[70 + 40], 0.5, 1e-6);
    for (int i = 70; i < 102; i++)
        g_assert_true(isnan(out[i]));
}

static void test_activate(void)
{
    // Phi(1) = 0.8413447461, 1 / (1 + exp(-1)) = 0.7310585786
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_GELU_ERF), 0.8413447461, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(-1, REF_ACT_GELU_ERF), -0.1586552539, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_SILU), 0.7310585786, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_SIGMOID), 0.7310585786, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(-2, REF_ACT_SIGMOID), 0.1192029220, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_GELU_TANH), 0.8411919906, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_GELU_QUICK), 0.8457957659, 1e-9);
    g_assert_cmpfloat(ref_activate(-40, REF_ACT_GELU_TANH), ==, 0.0);
    g_assert_cmpfloat(ref_activate(-2, REF_ACT_NONE), ==, -2.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/dequant/recorded", test_dequant_recorded);
    g_test_add_func("/ref/dequant/float", test_dequant_float);
    g_test_add_func("/ref/matmul", test_matmul);
    g_test_add_func("/ref/round-rows", test_round_rows);
    g_test_add_func("/ref/activate", test_activate);
    return g_test_run();
}
