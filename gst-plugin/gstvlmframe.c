// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmframe.c — a video buffer as a picture that the engine takes.
#include "gstvlmframe.h"

#include <gst/allocators/gstdmabuf.h>
#include <string.h>

struct _GstVlmFrame {
  GstVideoFrame mapped;
  gboolean is_mapped;
  vlm_dmabuf dmabuf;  // of the mapped frame

  GstVideoConverter *converter;
  GstVideoInfo in, out;  // what the converter was made for
  GstVideoRectangle crop;
  guint8 *pixels;
};

typedef struct {
  GstVideoFormat gst;
  vlm_pixel_format vlm;
} Format;

static const Format formats[] = {
  { GST_VIDEO_FORMAT_RGB, VLM_PIXEL_RGB },     { GST_VIDEO_FORMAT_BGR, VLM_PIXEL_BGR },
  { GST_VIDEO_FORMAT_RGBx, VLM_PIXEL_RGBX },   { GST_VIDEO_FORMAT_RGBA, VLM_PIXEL_RGBX },
  { GST_VIDEO_FORMAT_BGRx, VLM_PIXEL_BGRX },   { GST_VIDEO_FORMAT_BGRA, VLM_PIXEL_BGRX },
  { GST_VIDEO_FORMAT_xRGB, VLM_PIXEL_XRGB },   { GST_VIDEO_FORMAT_ARGB, VLM_PIXEL_XRGB },
  { GST_VIDEO_FORMAT_xBGR, VLM_PIXEL_XBGR },   { GST_VIDEO_FORMAT_ABGR, VLM_PIXEL_XBGR },
  { GST_VIDEO_FORMAT_GRAY8, VLM_PIXEL_GRAY8 }, { GST_VIDEO_FORMAT_I420, VLM_PIXEL_I420 },
  { GST_VIDEO_FORMAT_YV12, VLM_PIXEL_YV12 },   { GST_VIDEO_FORMAT_NV12, VLM_PIXEL_NV12 },
  { GST_VIDEO_FORMAT_NV21, VLM_PIXEL_NV21 },   { GST_VIDEO_FORMAT_YUY2, VLM_PIXEL_YUY2 },
  { GST_VIDEO_FORMAT_UYVY, VLM_PIXEL_UYVY },
};

GstVlmFrame *gst_vlm_frame_new (void)
{
  return g_new0 (GstVlmFrame, 1);
}

static void drop_converter (GstVlmFrame *frame)
{
  g_clear_pointer (&frame->converter, gst_video_converter_free);
  g_clear_pointer (&frame->pixels, g_free);
}

void gst_vlm_frame_free (GstVlmFrame *frame)
{
  drop_converter (frame);
  g_free (frame);
}

// Colours of the caps in the engine's words. FALSE: the engine has no word for them.
static gboolean colours (const GstVideoInfo *info, vlm_image *image)
{
  const GstVideoColorimetry *c = &GST_VIDEO_INFO_COLORIMETRY (info);
  const gboolean full = c->range == GST_VIDEO_COLOR_RANGE_0_255;

  image->full_range = full;
  if (GST_VIDEO_INFO_IS_RGB (info))
    return full || c->range == GST_VIDEO_COLOR_RANGE_UNKNOWN;
  if (GST_VIDEO_INFO_IS_GRAY (info))
    return TRUE;
  switch (c->matrix) {
  case GST_VIDEO_COLOR_MATRIX_BT601:
    image->matrix = VLM_MATRIX_BT601;
    return TRUE;
  case GST_VIDEO_COLOR_MATRIX_BT709:
    image->matrix = VLM_MATRIX_BT709;
    return TRUE;
  case GST_VIDEO_COLOR_MATRIX_BT2020:
    image->matrix = VLM_MATRIX_BT2020;
    return TRUE;
  case GST_VIDEO_COLOR_MATRIX_UNKNOWN:
    // As GStreamer itself guesses when caps say nothing.
    image->matrix = info->height > 576 ? VLM_MATRIX_BT709 : VLM_MATRIX_BT601;
    return TRUE;
  default:
    return FALSE;
  }
}

static gboolean describe (const GstVideoInfo *info, vlm_image *image)
{
  const GstVideoFormat format = GST_VIDEO_INFO_FORMAT (info);

  if (!colours (info, image))
    return FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (formats); i++) {
    if (formats[i].gst == format) {
      image->format = formats[i].vlm;
      return TRUE;
    }
  }
  return FALSE;
}

// Width and height of `crop` in square pixels: the shorter side grows, unless that makes the
// picture larger than the engine takes, then the longer one shrinks.
static void square_size (const GstVideoInfo *info, const GstVideoRectangle *crop, gint *width,
                         gint *height)
{
  const guint64 n = MAX (GST_VIDEO_INFO_PAR_N (info), 1);
  const guint64 d = MAX (GST_VIDEO_INFO_PAR_D (info), 1);
  guint64 w = n > d ? gst_util_uint64_scale_round (crop->w, n, d) : (guint64) crop->w;
  guint64 h = n < d ? gst_util_uint64_scale_round (crop->h, d, n) : (guint64) crop->h;

  if (w > VLM_MAX_SIDE) {
    h = MAX (gst_util_uint64_scale_round (h, VLM_MAX_SIDE, w), 1);
    w = VLM_MAX_SIDE;
  }
  if (h > VLM_MAX_SIDE) {
    w = MAX (gst_util_uint64_scale_round (w, VLM_MAX_SIDE, h), 1);
    h = VLM_MAX_SIDE;
  }
  *width = (gint) w;
  *height = (gint) h;
}

// The form to convert to: the engine's own that is nearest. Colour spaces that the engine knows
// stay, because GStreamer's YUV to RGB is a few steps off and the engine's is not.
static gboolean choose_output (const GstVideoInfo *in, gint width, gint height, GstVideoInfo *out)
{
  GstVideoFormat format = GST_VIDEO_FORMAT_RGB;
  vlm_image unused;
  gboolean keep = FALSE;

  if (!GST_VIDEO_INFO_IS_RGB (in) && colours (in, &unused)) {
    keep = TRUE;
    if (GST_VIDEO_INFO_IS_GRAY (in))
      format = GST_VIDEO_FORMAT_GRAY8;
    else if (GST_VIDEO_FORMAT_INFO_H_SUB (in->finfo, 1) > 0)
      format = GST_VIDEO_FORMAT_I420;
    else
      format = GST_VIDEO_FORMAT_YUY2;
  }
  if (!gst_video_info_set_format (out, format, (guint) width, (guint) height))
    return FALSE;
  if (keep) {
    out->colorimetry = in->colorimetry;
    out->chroma_site = in->chroma_site;
  }
  // The converter insists on equal rates.
  out->fps_n = in->fps_n;
  out->fps_d = in->fps_d;
  return TRUE;
}

static gboolean prepare_converter (GstVlmFrame *frame, const GstVideoInfo *in,
                                   const GstVideoRectangle *crop, GError **error)
{
  gint width, height;

  if (frame->converter != NULL && gst_video_info_is_equal (&frame->in, in)
      && memcmp (&frame->crop, crop, sizeof *crop) == 0)
    return TRUE;
  drop_converter (frame);
  square_size (in, crop, &width, &height);
  frame->in = *in;
  frame->crop = *crop;
  // Fields stay woven: converting field by field would treat the two halves apart.
  GST_VIDEO_INFO_INTERLACE_MODE (&frame->in) = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  if (!choose_output (in, width, height, &frame->out)) {
    g_set_error (error, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                 "A frame of %dx%d pixels is too large", width, height);
    return FALSE;
  }
  frame->pixels = g_try_malloc (GST_VIDEO_INFO_SIZE (&frame->out));
  if (frame->pixels != NULL)
    frame->converter = gst_video_converter_new (
        &frame->in, &frame->out,
        gst_structure_new ("options", GST_VIDEO_CONVERTER_OPT_SRC_X, G_TYPE_INT, crop->x,
                           GST_VIDEO_CONVERTER_OPT_SRC_Y, G_TYPE_INT, crop->y,
                           GST_VIDEO_CONVERTER_OPT_SRC_WIDTH, G_TYPE_INT, crop->w,
                           GST_VIDEO_CONVERTER_OPT_SRC_HEIGHT, G_TYPE_INT, crop->h, NULL));
  frame->in = *in;
  if (frame->converter != NULL)
    return TRUE;
  drop_converter (frame);
  g_set_error (error, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
               "Frames of %s, %dx%d pixels, cannot be converted",
               gst_video_format_to_string (GST_VIDEO_INFO_FORMAT (in)), in->width, in->height);
  return FALSE;
}

static gboolean convert (GstVlmFrame *frame, const GstVideoInfo *info,
                         const GstVideoRectangle *crop, vlm_image *image, GError **error)
{
  GstVideoFrame dest = { 0 };

  if (!prepare_converter (frame, info, crop, error))
    return FALSE;
  dest.info = frame->out;
  *image = (vlm_image){ .width = (uint32_t) GST_VIDEO_INFO_WIDTH (&frame->out),
                        .height = (uint32_t) GST_VIDEO_INFO_HEIGHT (&frame->out) };
  describe (&frame->out, image);
  for (guint i = 0; i < GST_VIDEO_INFO_N_PLANES (&frame->out); i++) {
    dest.data[i] = frame->pixels + GST_VIDEO_INFO_PLANE_OFFSET (&frame->out, i);
    image->plane[i] = dest.data[i];
    image->stride[i] = (uint32_t) GST_VIDEO_INFO_PLANE_STRIDE (&frame->out, i);
  }
  // The converter looks at the flags of both; the mapped one may say interlaced.
  const GstVideoInterlaceMode mode = GST_VIDEO_INFO_INTERLACE_MODE (&frame->mapped.info);

  GST_VIDEO_INFO_INTERLACE_MODE (&frame->mapped.info) = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  frame->mapped.flags &= ~GST_VIDEO_FRAME_FLAG_INTERLACED;
  gst_video_converter_frame (frame->converter, &frame->mapped, &dest);
  GST_VIDEO_INFO_INTERLACE_MODE (&frame->mapped.info) = mode;
  return TRUE;
}

// Where the picture lies in the buffer. FALSE: the crop metadata contradicts the size.
static gboolean find_crop (GstBuffer *buffer, const GstVideoInfo *info, GstVideoRectangle *crop)
{
  const GstVideoCropMeta *meta = gst_buffer_get_video_crop_meta (buffer);

  *crop = (GstVideoRectangle){ 0, 0, info->width, GST_VIDEO_INFO_HEIGHT (info) };
  if (meta == NULL)
    return TRUE;
  // With crop metadata the buffer is larger than the caps say; GstVideoMeta has its size.
  const GstVideoMeta *video = gst_buffer_get_video_meta (buffer);
  const guint full_w = video != NULL ? video->width : (guint) info->width;
  const guint full_h = video != NULL ? video->height : (guint) info->height;

  if (meta->width < 1 || meta->height < 1 || meta->x > full_w || meta->y > full_h
      || meta->width > full_w - meta->x || meta->height > full_h - meta->y)
    return FALSE;
  *crop = (GstVideoRectangle){ (gint) meta->x, (gint) meta->y, (gint) meta->width,
                               (gint) meta->height };
  return TRUE;
}

// Notes the DMA-BUF that the whole picture lies in, where there is one.
static void find_dmabuf (GstVlmFrame *frame, GstBuffer *buffer, vlm_image *image)
{
  GstMemory *memory = gst_buffer_n_memory (buffer) == 1 ? gst_buffer_peek_memory (buffer, 0) : NULL;
  gsize offset = 0;

  if (memory == NULL || !gst_is_dmabuf_memory (memory))
    return;
  gst_memory_get_sizes (memory, &offset, NULL);
  offset += GST_VIDEO_INFO_PLANE_OFFSET (&frame->mapped.info, 0);
  frame->dmabuf = (vlm_dmabuf){ gst_dmabuf_memory_get_fd (memory), image->plane[0] - offset };
  image->dmabuf = &frame->dmabuf;
}

gboolean gst_vlm_frame_map (GstVlmFrame *frame, GstBuffer *buffer, const GstVideoInfo *info,
                            vlm_image *image, GError **error)
{
  GstVideoRectangle crop;

  *image = (vlm_image){ 0 };
  if (!find_crop (buffer, info, &crop)) {
    g_set_error (error, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                 "The crop metadata of a frame lies outside of the frame");
    return FALSE;
  }
  if (!gst_video_frame_map (&frame->mapped, info, buffer, GST_MAP_READ)) {
    g_set_error (error, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                 "A frame of %s, %dx%d pixels, cannot be read: its buffer has %" G_GSIZE_FORMAT
                 " bytes",
                 gst_video_format_to_string (GST_VIDEO_INFO_FORMAT (info)), info->width,
                 info->height, gst_buffer_get_size (buffer));
    return FALSE;
  }
  frame->is_mapped = TRUE;

  const GstVideoInfo *real = &frame->mapped.info;
  const gboolean whole =
      crop.x == 0 && crop.y == 0 && crop.w == real->width && crop.h == real->height;
  const gboolean square = GST_VIDEO_INFO_PAR_N (info) == GST_VIDEO_INFO_PAR_D (info);
  gboolean direct = whole && square && real->width <= (gint) VLM_MAX_SIDE
                    && real->height <= (gint) VLM_MAX_SIDE && describe (real, image);

  for (guint i = 0; direct && i < GST_VIDEO_FRAME_N_PLANES (&frame->mapped); i++) {
    image->plane[i] = GST_VIDEO_FRAME_PLANE_DATA (&frame->mapped, i);
    image->stride[i] = (uint32_t) GST_VIDEO_FRAME_PLANE_STRIDE (&frame->mapped, i);
    direct = GST_VIDEO_FRAME_PLANE_STRIDE (&frame->mapped, i) > 0;
  }
  if (direct) {
    image->width = (uint32_t) real->width;
    image->height = (uint32_t) real->height;
    find_dmabuf (frame, buffer, image);
    return TRUE;
  }
  if (convert (frame, real, &crop, image, error))
    return TRUE;
  gst_vlm_frame_unmap (frame);
  return FALSE;
}

void gst_vlm_frame_unmap (GstVlmFrame *frame)
{
  if (frame->is_mapped)
    gst_video_frame_unmap (&frame->mapped);
  frame->is_mapped = FALSE;
}
