// SPDX-License-Identifier: LGPL-2.1-or-later
// element_frames.c — video buffers of every form reach the engine as what they show.
#include <gst/allocators/gstdmabuf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "element_common.h"

#include "../gst-plugin/gstvlmframe.h"

// A picture of one colour in any format: GStreamer's own converter makes it.
static GstBuffer *make_picture(const GstVideoInfo *info, const guint8 rgb[3])
{
    GstVideoInfo rgb_info;
    GstVideoFrame in, out;
    GstBuffer *source, *buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(info), NULL);
    GstVideoConverter *converter;

    gst_buffer_memset(buffer, 0, 0, GST_VIDEO_INFO_SIZE(info));
    gst_video_info_set_format(&rgb_info, GST_VIDEO_FORMAT_RGB, (guint) info->width,
                              (guint) info->height);
    rgb_info.fps_n = info->fps_n;
    rgb_info.fps_d = info->fps_d;
    source = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&rgb_info), NULL);
    fail_unless(gst_video_frame_map(&in, &rgb_info, source, GST_MAP_WRITE));
    for (gint y = 0; y < info->height; y++)
        for (gint x = 0; x < info->width; x++)
            memcpy((guint8 *) GST_VIDEO_FRAME_PLANE_DATA(&in, 0)
                       + y * GST_VIDEO_FRAME_PLANE_STRIDE(&in, 0) + x * 3,
                   rgb, 3);
    fail_unless(gst_video_frame_map(&out, info, buffer, GST_MAP_WRITE));
    converter = gst_video_converter_new(&rgb_info, info, NULL);
    fail_unless(converter != NULL);
    gst_video_converter_frame(converter, &in, &out);
    gst_video_converter_free(converter);
    gst_video_frame_unmap(&in);
    gst_video_frame_unmap(&out);
    gst_buffer_unref(source);
    return buffer;
}

// Gives a buffer to the element with these caps and returns what the engine saw.
static fake_frame see(const char *caps, GstBuffer *buffer)
{
    Rig *rig = rig_new("", FALSE);
    fake_frame frame;

    gst_harness_set_src_caps_str(rig->video, caps);
    GST_BUFFER_PTS(buffer) = 0;
    fail_unless_equals_int(gst_harness_push(rig->video, buffer), GST_FLOW_OK);
    rig_eos(rig);
    fail_unless(rig_is_quiet(rig, GST_MESSAGE_WARNING), "%s", caps);
    frame = fake_get_frame();
    rig_free(rig);
    return frame;
}

static void expect_colour(const char *what, fake_frame f, const guint8 rgb[3], double tolerance)
{
    for (guint i = 0; i < 3; i++)
        fail_unless(ABS(f.rgb[i] - rgb[i]) <= tolerance, "%s: %.1f %.1f %.1f, not %u %u %u", what,
                    f.rgb[0], f.rgb[1], f.rgb[2], rgb[0], rgb[1], rgb[2]);
}

static const guint8 orange[3] = { 200, 120, 40 };

// Every format of GStreamer, in each of its usual colour spaces.
GST_START_TEST(test_formats)
{
    guint n;
    const GstVideoFormat *all = gst_video_formats_raw(&n);
    static const char *const colorimetries[] = { "bt601", "bt709", "bt2020", "smpte240m" };

    for (guint i = 0; i < n; i++) {
        const GstVideoFormatInfo *format = gst_video_format_get_info(all[i]);

        for (guint c = 0; c < G_N_ELEMENTS(colorimetries); c++) {
            const gboolean yuv = GST_VIDEO_FORMAT_INFO_IS_YUV(format);
            // Shallow formats and chroma that is a quarter wide are coarse.
            const double tolerance =
                all[i] == GST_VIDEO_FORMAT_RGB8P ? 60
                : GST_VIDEO_FORMAT_INFO_IS_RGB(format) && GST_VIDEO_FORMAT_INFO_BITS(format) < 8 ? 8
                // GStreamer makes RGB of it, with its own rounding.
                : strcmp(colorimetries[c], "smpte240m") == 0 && yuv ? 6
                                                                    : 4;
            g_autofree char *caps =
                g_strdup_printf("video/x-raw,format=%s,width=40,height=24,framerate=10/1%s%s",
                                gst_video_format_to_string(all[i]), yuv ? ",colorimetry=" : "",
                                yuv ? colorimetries[c] : "");
            g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
            GstVideoInfo info;
            fake_frame f;

            fail_unless(gst_video_info_from_caps(&info, parsed), "%s", caps);
            f = see(caps, make_picture(&info, orange));
            fail_unless_equals_int(f.width, 40);
            fail_unless_equals_int(f.height, 24);
            if (GST_VIDEO_FORMAT_INFO_IS_GRAY(format)) {
                fail_unless(ABS(f.rgb[0] - f.rgb[2]) < 1);
            } else {
                expect_colour(caps, f, orange, tolerance);
            }
            if (!yuv)
                break;
        }
    }
}
GST_END_TEST

// Memory with a descriptor is named to the engine with the place of the picture in it, whatever the
// buffer leaves out of it and wherever GstVideoMeta says that the planes are.
GST_START_TEST(test_descriptor)
{
    enum { lead = 4096, start = 256, size = 65536 };
    gsize offset[GST_VIDEO_MAX_PLANES] = { start, start + 48 * 24 };
    gint stride[GST_VIDEO_MAX_PLANES] = { 48, 48 };
    g_autoptr(GstCaps) caps = gst_caps_from_string(
        "video/x-raw,format=NV12,width=40,height=24,framerate=10/1,colorimetry=bt601");
    g_autoptr(GstAllocator) allocator = gst_dmabuf_allocator_new();
    g_autoptr(GstBuffer) buffer = gst_buffer_new(), plain = NULL;
    GstVlmFrame *frame = gst_vlm_frame_new();
    GstVideoInfo info;
    vlm_image image;
    GError *error = NULL;
    const int fd = memfd_create("picture", MFD_CLOEXEC);

    fail_unless(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
    fail_unless_equals_int(pwrite(fd, "picture", 7, (off_t) (lead + start)), 7);
    fail_unless(gst_video_info_from_caps(&info, caps));
    gst_buffer_append_memory(buffer, gst_dmabuf_allocator_alloc(allocator, fd, size));
    gst_buffer_resize(buffer, (gssize) lead, (gssize) (size - lead));
    gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_NV12, 40, 24,
                                   2, offset, stride);
    fail_unless(gst_vlm_frame_map(frame, buffer, &info, &image, &error));
    fail_unless(image.dmabuf != NULL);
    fail_unless_equals_int(image.dmabuf->fd, fd);
    fail_unless_equals_int64(image.plane[0] - image.dmabuf->map, lead + start);
    fail_unless_equals_int64(image.plane[1] - image.plane[0], 48 * 24);
    fail_unless(memcmp(image.plane[0], "picture", 7) == 0);
    gst_vlm_frame_unmap(frame);

    plain = make_picture(&info, orange);
    fail_unless(gst_vlm_frame_map(frame, plain, &info, &image, &error));
    fail_unless(image.dmabuf == NULL);
    gst_vlm_frame_unmap(frame);
    // What is converted lies elsewhere.
    info.par_n = 2;
    fail_unless(gst_vlm_frame_map(frame, buffer, &info, &image, &error));
    fail_unless(image.dmabuf == NULL);
    gst_vlm_frame_unmap(frame);
    gst_vlm_frame_free(frame);
}
GST_END_TEST

GST_START_TEST(test_full_range)
{
    static const char *const caps = "video/x-raw,format=I420,width=32,height=32,framerate=10/1,"
                                    "colorimetry=(string)1:4:0:0";
    g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
    GstVideoInfo info;
    fake_frame f;

    fail_unless(gst_video_info_from_caps(&info, parsed));
    f = see(caps, make_picture(&info, orange));
    fail_unless(f.full_range);
    fail_unless_equals_int(f.format, VLM_PIXEL_I420);
    expect_colour(caps, f, orange, 4);
}
GST_END_TEST

// Formats that the engine knows are not converted.
GST_START_TEST(test_direct)
{
    static const struct {
        const char *name;
        vlm_pixel_format format;
    } direct[] = {
        { "RGB", VLM_PIXEL_RGB },   { "BGR", VLM_PIXEL_BGR },   { "RGBA", VLM_PIXEL_RGBX },
        { "BGRx", VLM_PIXEL_BGRX }, { "xRGB", VLM_PIXEL_XRGB }, { "ABGR", VLM_PIXEL_XBGR },
        { "I420", VLM_PIXEL_I420 }, { "YV12", VLM_PIXEL_YV12 }, { "NV12", VLM_PIXEL_NV12 },
        { "NV21", VLM_PIXEL_NV21 }, { "YUY2", VLM_PIXEL_YUY2 }, { "UYVY", VLM_PIXEL_UYVY },
    };

    for (guint i = 0; i < G_N_ELEMENTS(direct); i++) {
        g_autofree char *caps = g_strdup_printf(
            "video/x-raw,format=%s,width=64,height=48,framerate=10/1", direct[i].name);
        g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
        GstVideoInfo info;

        fail_unless(gst_video_info_from_caps(&info, parsed));
        fail_unless_equals_int(see(caps, make_picture(&info, orange)).format, direct[i].format);
    }
}
GST_END_TEST

GST_START_TEST(test_sizes)
{
    static const gint sizes[][2] = { { 1, 1 },     { 1, 2 },       { 2, 1 },
                                     { 1, 4096 },  { 4096, 1 },    { 16383, 2 },
                                     { 400, 800 }, { 7680, 4320 }, { 1921, 1079 } };

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *caps = g_strdup_printf(
            "video/x-raw,format=I420,width=%d,height=%d,framerate=10/1,colorimetry=bt709",
            sizes[i][0], sizes[i][1]);
        g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
        GstVideoInfo info;
        fake_frame f;

        fail_unless(gst_video_info_from_caps(&info, parsed));
        f = see(caps, make_picture(&info, orange));
        fail_unless_equals_int((int) f.width, sizes[i][0]);
        fail_unless_equals_int((int) f.height, sizes[i][1]);
        // The converter averages chroma over edges that are not there.
        if (MIN(sizes[i][0], sizes[i][1]) > 2)
            expect_colour(caps, f, orange, 4);
    }
}
GST_END_TEST

// More than the engine takes: made smaller, not refused.
GST_START_TEST(test_too_large)
{
    static const char *const caps = "video/x-raw,format=GRAY8,width=20000,height=4,framerate=10/1";
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 20000 * 4, NULL);
    fake_frame f;

    gst_buffer_memset(buffer, 0, 90, 20000 * 4);
    f = see(caps, buffer);
    fail_unless_equals_int(f.width, 16384);
    fail_unless_equals_int(f.height, 3);
}
GST_END_TEST

// Padding between rows and in front of planes, told by GstVideoMeta.
GST_START_TEST(test_strides)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 100000, NULL);
    gsize offset[4] = { 256, 40000, 70000 };
    gint stride[4] = { 192, 128, 64 };
    fake_frame f;

    gst_buffer_memset(buffer, 0, 255, 100000);
    for (guint y = 0; y < 48; y++)
        gst_buffer_memset(buffer, offset[0] + y * 192, 100, 65);
    for (guint y = 0; y < 24; y++) {
        gst_buffer_memset(buffer, offset[1] + y * 128, 128, 33);
        gst_buffer_memset(buffer, offset[2] + y * 64, 128, 33);
    }
    gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_I420, 65, 48,
                                   3, offset, stride);
    f = see("video/x-raw,format=I420,width=65,height=48,framerate=10/1,colorimetry=1:4:0:0",
            buffer);
    expect_colour("padded", f, (const guint8[3]){ 100, 100, 100 }, 0.01);
}
GST_END_TEST

// Only what the crop metadata leaves is looked at.
GST_START_TEST(test_crop)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 64 * 48 * 3, NULL);
    GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(buffer);
    fake_frame f;

    gst_buffer_memset(buffer, 0, 0, 64 * 48 * 3);
    for (guint y = 8; y < 28; y++)
        gst_buffer_memset(buffer, (y * 64 + 16) * 3, 200, 32 * 3);
    crop->x = 16;
    crop->y = 8;
    crop->width = 32;
    crop->height = 20;
    f = see("video/x-raw,format=RGB,width=64,height=48,framerate=10/1", buffer);
    fail_unless_equals_int(f.width, 32);
    fail_unless_equals_int(f.height, 20);
    expect_colour("cropped", f, (const guint8[3]){ 200, 200, 200 }, 1);
}
GST_END_TEST

GST_START_TEST(test_crop_outside)
{
    Rig *rig = rig_new("", FALSE);
    GstBuffer *buffer = rig_frame(0);
    GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(buffer);

    crop->x = 60;
    crop->width = 10;
    crop->height = G_MAXUINT;
    fail_unless_equals_int(gst_harness_push(rig->video, buffer), GST_FLOW_OK);
    rig_eos(rig);
    gst_message_unref(rig_wait(rig, GST_MESSAGE_WARNING));
    rig_free(rig);
}
GST_END_TEST

// The model sees the picture in its true shape.
GST_START_TEST(test_pixel_aspect_ratio)
{
    static const struct {
        const char *par;
        guint width, height;
    } cases[] = {
        { "1/1", 72, 48 },    { "2/1", 144, 48 },  { "1/2", 72, 96 },      { "64/45", 102, 48 },
        { "16/1", 1152, 48 }, { "1/16", 72, 768 }, { "2000/1", 16384, 5 },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *caps = g_strdup_printf(
            "video/x-raw,format=I420,width=72,height=48,framerate=10/1,pixel-aspect-ratio=%s",
            cases[i].par);
        g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
        GstVideoInfo info;
        fake_frame f;

        fail_unless(gst_video_info_from_caps(&info, parsed));
        f = see(caps, make_picture(&info, orange));
        fail_unless_equals_int(f.width, cases[i].width);
        fail_unless_equals_int(f.height, cases[i].height);
        expect_colour(caps, f, orange, 4);
    }
}
GST_END_TEST

GST_START_TEST(test_interlaced)
{
    static const char *const modes[] = { "interleaved", "mixed" };
    static const char *const formats[] = { "I420", "v210", "UYVP" };

    for (guint i = 0; i < G_N_ELEMENTS(modes) * G_N_ELEMENTS(formats); i++) {
        g_autofree char *caps = g_strdup_printf(
            "video/x-raw,format=%s,width=64,height=48,framerate=10/1,interlace-mode=%s,"
            "colorimetry=bt601",
            formats[i % 3], modes[i / 3]);
        g_autoptr(GstCaps) parsed = gst_caps_from_string(caps);
        GstVideoInfo info, progressive;
        GstBuffer *buffer;

        fail_unless(gst_video_info_from_caps(&info, parsed));
        progressive = info;
        GST_VIDEO_INFO_INTERLACE_MODE(&progressive) = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
        buffer = make_picture(&progressive, orange);
        GST_BUFFER_FLAG_SET(buffer, GST_VIDEO_BUFFER_FLAG_INTERLACED | GST_VIDEO_BUFFER_FLAG_TFF);
        expect_colour(caps, see(caps, buffer), orange, 4);
    }
}
GST_END_TEST

static Suite *frames_suite(void)
{
    Suite *s = suite_create("frames");
    TCase *tc = tcase_create("frames");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_test(tc, test_formats);
    tcase_add_test(tc, test_descriptor);
    tcase_add_test(tc, test_full_range);
    tcase_add_test(tc, test_direct);
    tcase_add_test(tc, test_sizes);
    tcase_add_test(tc, test_too_large);
    tcase_add_test(tc, test_strides);
    tcase_add_test(tc, test_crop);
    tcase_add_test(tc, test_crop_outside);
    tcase_add_test(tc, test_pixel_aspect_ratio);
    tcase_add_test(tc, test_interlaced);
    return s;
}

int main(void)
{
    return element_main(frames_suite(), "element_frames");
}
