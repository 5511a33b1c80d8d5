// SPDX-License-Identifier: LGPL-2.1-or-later
// check_lent.c — frames that the device reads where they are (vlm_image.lent).
//
//   check_lent TEXT.gguf MMPROJ.gguf
//
// The pictures end where memory that must not be touched begins, and are unmapped as soon as the
// call returns. GLib test program (TAP); skips without a device.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/external_memory.h"
#include "vectors.h"
#include "vlm.h"

static const char *text_path, *mmproj_path;

static vlm_session *new_session(vlm_engine *engine)
{
    g_autoptr(GError) error = NULL;
    vlm_session *session =
        vlm_session_create(engine, &(vlm_session_params){ .context_size = 2048 }, &error);

    g_assert_no_error(error);
    return session;
}

static vlm_generation *ask(vlm_session *session)
{
    g_autoptr(GError) error = NULL;
    vlm_generation *got = vlm_session_generate(
        session,
        &(vlm_generate_params){
            .prompt = "What happens?", .max_tokens = 12, .ignore_stop = TRUE, .n_top_logits = 1 },
        &error);

    g_assert_no_error(error);
    return got;
}

// A picture whose last byte is the last that may be read.
static uint8_t *map_picture(guint number, size_t *bytes)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE), n = 64 * 64 * 3 / 2;
    const size_t room = (n + page - 1) / page * page;
    uint8_t *map =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t rgb[64 * 64 * 3];

    g_assert_true(map != MAP_FAILED);
    g_assert_cmpint(mprotect(map + room, page, PROT_NONE), ==, 0);
    vectors_picture(64, 64, number, rgb);
    memcpy(map + room - n, rgb, n);
    *bytes = room + page;
    return map;
}

// The same picture some bytes into a file in memory. `hidden`: the process sees black.
static uint8_t *map_file(guint number, size_t before, gboolean hidden, int *fd, size_t *bytes)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE), n = 64 * 64 * 3 / 2;
    uint8_t rgb[64 * 64 * 3], *map;

    *bytes = (before + n + page - 1) / page * page;
    *fd = memfd_create("picture", MFD_CLOEXEC);
    g_assert_cmpint(*fd, >=, 0);
    g_assert_cmpint(ftruncate(*fd, (off_t) *bytes), ==, 0);
    vectors_picture(64, 64, number, rgb);
    g_assert_cmpint(pwrite(*fd, rgb, n, (off_t) before), ==, (gssize) n);
    map = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, *fd, 0);
    g_assert_true(map != MAP_FAILED);
    if (hidden)
        memset(map, 0, *bytes);
    return map;
}

// Frames that have a descriptor, as those of cameras have.
static void add_file_frames(vlm_session *session, guint n, gboolean hidden)
{
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < n; i++) {
        const size_t before = 4096 * i + 64;
        size_t mapped;
        vlm_dmabuf dmabuf;
        uint8_t *map = map_file(i, before, hidden, &dmabuf.fd, &mapped);
        vlm_image image = { .format = VLM_PIXEL_NV12,
                            .width = 64,
                            .height = 64,
                            .plane = { map + before, map + before + 64 * 64 },
                            .stride = { 64, 64 },
                            .lent = TRUE,
                            .dmabuf = &dmabuf };
        dmabuf.map = map;
        vlm_session_wait(session, &error);
        g_assert_no_error(error);
        vlm_session_add_frame(session, &image, (gint64) i * 500000000, &error);
        g_assert_no_error(error);
        munmap(map, mapped);
        close(dmabuf.fd);
    }
    vlm_session_wait(session, &error);
    g_assert_no_error(error);
}

// Shows a film whose pictures are gone as soon as each has been added.
static void add_lent_frames(vlm_session *session, guint n, gboolean lent)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE), n_bytes = 64 * 64 * 3 / 2;
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < n; i++) {
        size_t mapped;
        uint8_t *map = map_picture(i, &mapped);
        const uint8_t *nv12 = map + mapped - page - n_bytes;
        vlm_image image = { .format = VLM_PIXEL_NV12,
                            .width = 64,
                            .height = 64,
                            .plane = { nv12, nv12 + 64 * 64 },
                            .stride = { 64, 64 },
                            .lent = lent };
        vlm_session_wait(session, &error);
        g_assert_no_error(error);
        vlm_session_add_frame(session, &image, (gint64) i * 500000000, &error);
        g_assert_no_error(error);
        munmap(map, mapped);
    }
    vlm_session_wait(session, &error);
    g_assert_no_error(error);
}

// Frames that are read where they lie are the same to the model, and are let go in time.
static void test_lent(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) device = vlm_device_create(&(vlm_device_params){ 0 }, &error);
    vlm_session_stats copied, lent;

    if (!device) {
        g_test_skip(error->message);
        return;
    }
    g_autoptr(vlm_engine) engine =
        vlm_engine_open(&(vlm_engine_params){ .model = text_path, .mmproj = mmproj_path }, &error);
    g_assert_no_error(error);
    g_autoptr(vlm_session) one = new_session(engine);
    g_autoptr(vlm_session) two = new_session(engine);
    add_lent_frames(one, 6, FALSE);
    add_lent_frames(two, 6, TRUE);
    g_autoptr(vlm_generation) a = ask(one);
    g_autoptr(vlm_generation) b = ask(two);
    g_assert_cmpmem(a->tokens, a->n_tokens * sizeof *a->tokens, b->tokens,
                    b->n_tokens * sizeof *b->tokens);
    g_assert_cmpfloat(a->top[0].logit, ==, b->top[0].logit);
    vlm_session_get_stats(one, &copied);
    vlm_session_get_stats(two, &lent);
    g_assert_cmpuint(copied.n_in_place, ==, 0);
    g_assert_cmpuint(copied.copied_bytes, ==, 6 * 64 * 64 * 3 / 2);
    if (device->imports.host)  // one of each group at least
        g_assert_cmpuint(lent.n_in_place, >=, 3);
    g_assert_cmpuint(lent.copied_bytes, ==, (6 - lent.n_in_place) * 64 * 64 * 3 / 2);
}

// The same where frames have a descriptor. Not every device imports DMA-BUFs, and not every one
// that does takes a file in memory for one (Mesa 26's CPU driver does): then they are read through
// the mapping.
static void test_descriptor(void)
{
    const size_t before = 64, n = 64 * 64 * 3 / 2;
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) device = vlm_device_create(&(vlm_device_params){ 0 }, &error);
    gboolean imported;
    size_t mapped;
    int fd;

    if (!device) {
        g_test_skip(error->message);
        return;
    }
    uint8_t *map = map_file(0, before, FALSE, &fd, &mapped);
    vlm_buffer *buffer = vlm_buffer_import_dmabuf(device, fd, before + n);
    imported = buffer != NULL;
    vlm_buffer_destroy(buffer);
    g_assert_null(vlm_buffer_import_dmabuf(device, fd, mapped + 1));
    g_assert_null(vlm_buffer_import_dmabuf(device, -1, n));
    munmap(map, mapped);
    close(fd);
    g_test_message("%s", imported ? "imported" : "not imported");

    g_autoptr(vlm_engine) engine =
        vlm_engine_open(&(vlm_engine_params){ .model = text_path, .mmproj = mmproj_path }, &error);
    g_assert_no_error(error);
    g_autoptr(vlm_session) one = new_session(engine);
    g_autoptr(vlm_session) two = new_session(engine);
    add_lent_frames(one, 6, TRUE);
    add_file_frames(two, 6, FALSE);
    g_autoptr(vlm_generation) a = ask(one);
    g_autoptr(vlm_generation) b = ask(two);
    g_assert_cmpfloat(a->top[0].logit, ==, b->top[0].logit);
    if (!imported)
        return;
    // Whole groups of one frame are read in place: then only the device sees the pictures.
    g_autoptr(vlm_session) three = new_session(engine);
    vlm_session_stats stats;
    add_file_frames(three, 6, TRUE);
    g_autoptr(vlm_generation) c = ask(three);
    vlm_session_get_stats(three, &stats);
    if (stats.n_in_place == 6)
        g_assert_cmpfloat(a->top[0].logit, ==, c->top[0].logit);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 3);
    text_path = argv[1];
    mmproj_path = argv[2];
    g_test_add_func("/lent", test_lent);
    g_test_add_func("/lent/descriptor", test_descriptor);
    return g_test_run();
}
