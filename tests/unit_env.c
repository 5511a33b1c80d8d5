// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_env.c — the table of environment variables. Each case is a process of its own, because the
// environment is read once.
#include "base/env.h"

static void in_subprocess(void)
{
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
}

static void test_defaults(void)
{
    if (!g_test_subprocess()) {
        in_subprocess();
        return;
    }
    g_unsetenv("VLM_MODEL");
    g_unsetenv("VLM_CAPS_MASK");
    g_unsetenv("VLM_VALIDATE");
    g_assert_null(vlm_env_string(VLM_ENV_MODEL));
    g_assert_cmphex(vlm_env_number(VLM_ENV_CAPS_MASK), ==, 0xffffffff);
    g_assert_false(vlm_env_flag(VLM_ENV_VALIDATE));
}

static void test_values(void)
{
    if (!g_test_subprocess()) {
        in_subprocess();
        return;
    }
    g_setenv("VLM_MODEL", "a b.gguf", TRUE);
    g_setenv("VLM_CAPS_MASK", "0x1f", TRUE);
    g_setenv("VLM_FAIL_ALLOC", "12", TRUE);
    g_setenv("VLM_VALIDATE", "1", TRUE);
    g_setenv("VLM_CACHE_DIR", "", TRUE);
    g_assert_cmpstr(vlm_env_string(VLM_ENV_MODEL), ==, "a b.gguf");
    g_assert_cmphex(vlm_env_number(VLM_ENV_CAPS_MASK), ==, 0x1f);
    g_assert_cmpuint(vlm_env_number(VLM_ENV_FAIL_ALLOC), ==, 12);
    g_assert_true(vlm_env_flag(VLM_ENV_VALIDATE));
    g_assert_cmpstr(vlm_env_string(VLM_ENV_CACHE_DIR), ==, "");
    // What was read stays.
    g_setenv("VLM_FAIL_ALLOC", "13", TRUE);
    g_assert_cmpuint(vlm_env_number(VLM_ENV_FAIL_ALLOC), ==, 12);
}

static void test_unreadable(void)
{
    if (!g_test_subprocess()) {
        in_subprocess();
        g_test_trap_assert_stderr("*VLM_CAPS_MASK=lots is not a number, using 0xffffffff*");
        g_test_trap_assert_stderr("*VLM_VALIDATE=2 is not 0 or 1, using 0*");
        return;
    }
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    g_log_set_fatal_mask("vlm-env", G_LOG_FATAL_MASK);
    g_setenv("VLM_CAPS_MASK", "lots", TRUE);
    g_setenv("VLM_VALIDATE", "2", TRUE);
    g_assert_cmphex(vlm_env_number(VLM_ENV_CAPS_MASK), ==, 0xffffffff);
    g_assert_false(vlm_env_flag(VLM_ENV_VALIDATE));
}

static void test_help(void)
{
    if (!g_test_subprocess()) {
        in_subprocess();
        g_test_trap_assert_stdout("*VLM_CAPS_MASK*number*0xffffffff*");
        return;
    }
    g_setenv("VLM_HELP", "1", TRUE);
    vlm_env_flag(VLM_ENV_VALIDATE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/env/defaults", test_defaults);
    g_test_add_func("/env/values", test_values);
    g_test_add_func("/env/unreadable", test_unreadable);
    g_test_add_func("/env/help", test_help);
    return g_test_run();
}
