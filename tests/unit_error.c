// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_error.c — failures unwind by themselves and say what happened. Run it under ASan.
#include "gpu/memory.h"
#include "ops/ops.h"

// A thing of three parts, built the way every create function is.
typedef struct trio {
    vlm_buffer *part[3];
} trio;

static void trio_destroy(trio *t)
{
    if (!t)
        return;
    for (int i = 0; i < 3; i++)
        g_clear_pointer(&t->part[i], vlm_buffer_destroy);
    g_free(t);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(trio, trio_destroy)

static trio *trio_create(vlm_device *dev, GError **error)
{
    g_autoptr(trio) t = g_new0(trio, 1);

    for (int i = 0; i < 3; i++) {
        t->part[i] = vlm_buffer_create(dev, 4096, VLM_MEMORY_SCRATCH, error);
        if (!t->part[i]) {
            g_prefix_error(error, "part %d of 3: ", i + 1);
            return NULL;
        }
    }
    return g_steal_pointer(&t);
}

static vlm_device *open_or_skip(void)
{
    g_autoptr(GError) error = NULL;
    vlm_device *dev = vlm_device_create(&(vlm_device_params){ 0 }, &error);

    if (!dev)
        g_test_skip(error->message);
    return dev;
}

static void test_half_built(void)
{
    g_autoptr(vlm_device) dev = open_or_skip();

    if (!dev)
        return;
    for (gint n = 1; n <= 4; n++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(trio) t = NULL;

        dev->n_alloc = 0;
        dev->fail_alloc_at = n;
        t = trio_create(dev, &error);
        if (n <= 3) {
            g_autofree char *prefix = g_strdup_printf("part %d of 3: ", n);
            g_assert_null(t);
            g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
            g_assert_true(g_str_has_prefix(error->message, prefix));
        } else {
            g_assert_no_error(error);
            g_assert_nonnull(t);
        }
    }
}

static void test_refusals(void)
{
    g_autoptr(vlm_device) dev = open_or_skip();
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_cmd) cmd = NULL;

    if (!dev)
        return;
    cmd = vlm_cmd_create(dev, 4096, &error);
    g_assert_no_error(error);

    vlm_tensor t = { 64, 1, 8, 4 };  // stride below the number of columns
    g_assert_false(vlm_op_rms_norm(cmd, &t, &t, 64, 1e-6f, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);

    g_assert_null(
        vlm_kernel_get(dev, VLM_K_rms_norm, &(vlm_kernel_spec){ .local = { 1 << 20 } }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
}

// A submit that reports a lost device marks it; everything after it fails with the same code.
static void test_lost_device(void)
{
    g_autoptr(vlm_device) dev = open_or_skip();
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_cmd) cmd = NULL;

    if (!dev)
        return;
    cmd = vlm_cmd_create(dev, 4096, &error);
    g_assert_no_error(error);
    dev->fail_submit_at = dev->n_submit + 1;
    g_assert_true(vlm_cmd_begin(cmd, &error));
    g_assert_false(vlm_cmd_run(cmd, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
    g_clear_error(&error);
    g_assert_false(vlm_cmd_begin(cmd, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
}

static void test_no_such_device(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vlm_device_create(&(vlm_device_params){ .select = "999" }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE);
    g_assert_null(vlm_device_create(&(vlm_device_params){ .select = "999" }, NULL));  // allowed
}

static void test_destroy_accepts_null(void)
{
    vlm_device_destroy(NULL);
    vlm_buffer_destroy(NULL);
    vlm_cmd_destroy(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/half-built", test_half_built);
    g_test_add_func("/error/refusals", test_refusals);
    g_test_add_func("/error/lost-device", test_lost_device);
    g_test_add_func("/error/no-such-device", test_no_such_device);
    g_test_add_func("/error/destroy-null", test_destroy_accepts_null);
    return g_test_run();
}
