// SPDX-License-Identifier: LGPL-2.1-or-later
// keep_loaded.c — for sanitizer builds: libraries stay loaded.
//
// What a driver keeps in its own globals counts as leaked once it is unloaded, and has no name that
// could be suppressed. Preloaded into tests of sanitizer builds.
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void) handle;
    return 0;
}
