// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_matmul.c — the reference against numbers worked out by hand or elsewhere.
#include "ref_matmul.h"

#include <glib.h>
#include <string.h>

#include "base/number.h"

// Blocks of pseudo-random bytes; hash and last value of what the dequantisers of the Python
// package `gguf` (0.17) make of them.
static const struct {
    vlm_dtype dtype;
    guint32 hash;  // FNV-1a over the bits of the values
    float last;
} recorded[] = {
    { VLM_DTYPE_Q8_0, 0xe742e845u, -0.024597168f }, { VLM_DTYPE_Q4_0, 0x50459445u, 0.012298584f },
    { VLM_DTYPE_Q4_K, 0xc0aaf7c5u, 4.90237427f },   { VLM_DTYPE_Q5_K, 0xbc1018a5u, 6.28491211f },
    { VLM_DTYPE_Q6_K, 0x56c2fe2du, -13.7867126f },
};

static void test_dequant_recorded(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(recorded); i++) {
        const vlm_dtype dtype = recorded[i].dtype;
        const guint32 n = vlm_dtype_block_elems(dtype), bytes = vlm_dtype_block_bytes(dtype);
        const guint16 d = GUINT16_TO_LE(0x224c), dmin = GUINT16_TO_LE(0x29d6);
        guint8 block[256];
        float out[256];
        guint32 x = bytes, hash = 2166136261u;

        for (guint32 j = 0; j < bytes; j++) {
            x = x * 1664525u + 1013904223u;
            block[j] = (guint8) (x >> 24);
        }
        memcpy(block + (dtype == VLM_DTYPE_Q6_K ? 208 : 0), &d, 2);
        if (dtype == VLM_DTYPE_Q4_K || dtype == VLM_DTYPE_Q5_K)
            memcpy(block + 2, &dmin, 2);
        ref_dequant(out, dtype, block, n);
        for (guint32 j = 0; j < n; j++)
            hash = (hash ^ vlm_f32_bits(out[j])) * 16777619u;
        g_assert_cmpfloat(out[n - 1], ==, recorded[i].last);
        g_assert_cmphex(hash, ==, recorded[i].hash);
    }
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

static void test_activate(void)
{
    // Phi(1) = 0.8413447461, 1 / (1 + exp(-1)) = 0.7310585786
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_GELU_ERF), 0.8413447461, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(-1, REF_ACT_GELU_ERF), -0.1586552539, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_SILU), 0.7310585786, 1e-9);
    g_assert_cmpfloat_with_epsilon(ref_activate(1, REF_ACT_GELU_TANH), 0.8411919906, 1e-9);
    g_assert_cmpfloat(ref_activate(-40, REF_ACT_GELU_TANH), ==, 0.0);
    g_assert_cmpfloat(ref_activate(-2, REF_ACT_NONE), ==, -2.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/dequant/recorded", test_dequant_recorded);
    g_test_add_func("/ref/dequant/float", test_dequant_float);
    g_test_add_func("/ref/matmul", test_matmul);
    g_test_add_func("/ref/activate", test_activate);
    return g_test_run();
}
