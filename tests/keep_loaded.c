// SPDX-License-Identifier: LGPL-2.1-or-later
// keep_loaded.c — for sanitizer builds: what they need of the libraries around a test. Preloaded.
//
// Libraries stay loaded: what a driver keeps in its own globals counts as leaked once it is
// unloaded, and has no name that could be suppressed.
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void) handle;
    return 0;
}

// The unwinder learns nothing of code that drivers compile. It sorts what it is told, in memory
// that it asks for while it holds its lock; an allocator that unwinds (fast_unwind_on_malloc=0)
// then waits for this lock forever.
// NOLINTBEGIN(bugprone-reserved-identifier): the unwinder's names
void __register_frame(void *begin);
void __deregister_frame(void *begin);

void __register_frame(void *begin)
{
    (void) begin;
}

void __deregister_frame(void *begin)
{
    (void) begin;
}
// NOLINTEND(bugprone-reserved-identifier)
