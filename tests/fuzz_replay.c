// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz_replay.c — fuzz_X DIRECTORY...: runs a fuzz target over stored inputs.
#include "fuzz.h"

#include <glib.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    guint n = 0;

    for (int i = 1; i < argc; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GDir) dir = g_dir_open(argv[i], 0, &error);
        const char *name;

        if (!dir) {
            g_printerr("%s\n", error->message);
            return EXIT_FAILURE;
        }
        while ((name = g_dir_read_name(dir))) {
            g_autofree char *path = g_build_filename(argv[i], name, NULL);
            g_autofree char *content = NULL;
            gsize size;

            if (!g_file_get_contents(path, &content, &size, &error)) {
                g_printerr("%s\n", error->message);
                return EXIT_FAILURE;
            }
            LLVMFuzzerTestOneInput((const uint8_t *) content, size);
            n++;
        }
    }
    g_print("%u inputs\n", n);
    return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
