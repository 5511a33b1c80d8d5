// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_registry.c — the kernel list and the SPIR-V agree. Needs no device.
#include "gpu/kernel.h"

static void test_args_sizes(void)
{
    for (guint k = 0; k < VLM_N_KERNEL; k++) {
        const vlm_kernel_info *info = vlm_kernel_get_info(k);
        g_test_message("%s: %u bytes of arguments", info->name, info->args_bytes);
        g_assert_cmphex(info->spirv[0], ==, 0x07230203);
        g_assert_cmpuint(info->spirv_args_bytes, ==, info->args_bytes);
    }
}

static void test_variant_choice(void)
{
    const vlm_variant table[] = {
        { 7, VLM_CAP_INT_DOT | VLM_CAP_F16 },
        { 5, VLM_CAP_INT_DOT },
        { 3, 0 },
    };

    g_assert_cmpuint(vlm_variant_choose(table, 3, 0), ==, 3);
    g_assert_cmpuint(vlm_variant_choose(table, 3, VLM_CAP_F16), ==, 3);
    g_assert_cmpuint(vlm_variant_choose(table, 3, VLM_CAP_INT_DOT), ==, 5);
    g_assert_cmpuint(vlm_variant_choose(table, 3, VLM_CAPS_ALL), ==, 7);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/args-sizes", test_args_sizes);
    g_test_add_func("/registry/variant-choice", test_variant_choice);
    return g_test_run();
}
