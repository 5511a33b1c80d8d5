// SPDX-License-Identifier: LGPL-2.1-or-later
// element_tsan.c — tells ThreadSanitizer what GLib's locks order.
//
// Debian's GLib and GStreamer are not built for ThreadSanitizer, and GMutex and GCond are futexes
// that it cannot see: everything they protect would look like a race. This file stands before them
// in the order of symbols, calls the real functions, and says "acquired" and "released" around
// them. The same for the reference counts of objects, whose last holder frees.
// Linked into tests when b_sanitize has "thread", and into nothing else.
#include <dlfcn.h>
#include <glib-object.h>
#include <gst/gst.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

// The function of that name in the libraries behind the program.
#define REAL(name)                                                                                 \
    static __typeof__(&name) found;                                                                \
    __typeof__(&name) real = __atomic_load_n(&found, __ATOMIC_RELAXED);                            \
    if (real == NULL)                                                                              \
    __atomic_store_n(&found, real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name), __ATOMIC_RELAXED)

#undef g_mutex_lock
void g_mutex_lock(GMutex *mutex)
{
    REAL(g_mutex_lock);
    real(mutex);
    __tsan_acquire(mutex);
}

gboolean g_mutex_trylock(GMutex *mutex)
{
    REAL(g_mutex_trylock);
    if (!real(mutex))
        return FALSE;
    __tsan_acquire(mutex);
    return TRUE;
}

void g_mutex_unlock(GMutex *mutex)
{
    REAL(g_mutex_unlock);
    __tsan_release(mutex);
    real(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    REAL(g_cond_wait);
    __tsan_release(mutex);
    real(cond, mutex);
    __tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    REAL(g_cond_wait_until);
    __tsan_release(mutex);
    const gboolean signalled = real(cond, mutex, end_time);
    __tsan_acquire(mutex);
    return signalled;
}

void g_rec_mutex_lock(GRecMutex *mutex)
{
    REAL(g_rec_mutex_lock);
    real(mutex);
    __tsan_acquire(mutex);
}

gboolean g_rec_mutex_trylock(GRecMutex *mutex)
{
    REAL(g_rec_mutex_trylock);
    if (!real(mutex))
        return FALSE;
    __tsan_acquire(mutex);
    return TRUE;
}

void g_rec_mutex_unlock(GRecMutex *mutex)
{
    REAL(g_rec_mutex_unlock);
    __tsan_release(mutex);
    real(mutex);
}

// Threads of pools (GstTask) are handed their work by locks inside GLib.
gpointer g_async_queue_pop(GAsyncQueue *queue)
{
    REAL(g_async_queue_pop);
    const gpointer item = real(queue);
    __tsan_acquire(queue);
    return item;
}

gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
    REAL(g_async_queue_try_pop);
    const gpointer item = real(queue);
    __tsan_acquire(queue);
    return item;
}

gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
    REAL(g_async_queue_timeout_pop);
    const gpointer item = real(queue, timeout);
    __tsan_acquire(queue);
    return item;
}

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
    REAL(g_async_queue_push);
    __tsan_release(queue);
    real(queue, data);
}

// Many holders drop their reference inside of GStreamer, unseen. The last one may be here, and then
// the library's chain of tail calls makes it look as if free() were called from this file, so its
// writes are not looked at: use after free is what ASan is for.
void gst_mini_object_unref(GstMiniObject *object)
{
    REAL(gst_mini_object_unref);
    __tsan_release(object);
    __tsan_acquire(object);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    real(object);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

void g_atomic_rc_box_release_full(gpointer box, GDestroyNotify clear)
{
    REAL(g_atomic_rc_box_release_full);
    __tsan_release(box);
    __tsan_acquire(box);
    real(box, clear);
}

#undef g_object_unref
void g_object_unref(gpointer object)
{
    REAL(g_object_unref);
    __tsan_release(object);
    __tsan_acquire(object);
    real(object);
}
