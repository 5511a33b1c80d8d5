// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmtimeline.c — which frames are sampled, and where captions begin and end.
#include "gstvlmtimeline.h"

// Time that goes back by less than this is a frame out of order, more is a new film.
#define BACKWARDS (1 * GST_SECOND)
// PTS are rounded to whole nanoseconds, sometimes to microseconds: that close is on the point.
#define SLACK (1 * GST_USECOND)

void gst_vlm_timeline_init (GstVlmTimeline *tl, gint rate_n, gint rate_d, GstClockTime interval)
{
  *tl = (GstVlmTimeline){ .rate_n = rate_n, .rate_d = rate_d, .interval = interval };
}

void gst_vlm_timeline_reset (GstVlmTimeline *tl)
{
  gst_vlm_timeline_init (tl, tl->rate_n, tl->rate_d, tl->interval);
}

void gst_vlm_timeline_set_grid (GstVlmTimeline *tl, gint rate_n, gint rate_d, GstClockTime interval)
{
  if (tl->rate_n == rate_n && tl->rate_d == rate_d && tl->interval == interval)
    return;
  tl->rate_n = rate_n;
  tl->rate_d = rate_d;
  tl->interval = interval;
  if (!tl->running)
    return;
  tl->origin = tl->start;
  tl->end = tl->start + interval;
  tl->next_sample = tl->last + 1;
}

static void begin (GstVlmTimeline *tl, GstClockTime time, GstClockTime hint)
{
  tl->running = TRUE;
  tl->origin = time;
  if (GST_CLOCK_TIME_IS_VALID (hint) && hint <= time && time - hint < tl->interval / 4)
    tl->origin = hint;
  tl->start = tl->origin;
  tl->end = tl->start + tl->interval;
  tl->next_sample = time;
  tl->last = tl->last_end = time;
  tl->n_sampled = 0;
}

GstVlmStep gst_vlm_timeline_close (GstVlmTimeline *tl)
{
  GstVlmStep step = { 0 };

  if (tl->running && tl->n_sampled > 0) {
    step.closed = TRUE;
    step.start = tl->start;
    step.end = MIN (tl->end, MAX (tl->last_end, tl->start + 1));
    step.n_sampled = tl->n_sampled;
  }
  tl->running = FALSE;
  tl->n_sampled = 0;
  return step;
}

static void cross_boundary (GstVlmTimeline *tl, GstClockTime time, GstVlmStep *step)
{
  if (tl->n_sampled > 0) {
    step->closed = TRUE;
    step->start = tl->start;
    step->end = tl->end;
    // Nothing came for longer than a range: the caption ends with what was seen.
    if (time > tl->last_end && time - tl->last_end > tl->interval)
      step->end = CLAMP (tl->last_end, tl->start + 1, tl->end);
    step->n_sampled = tl->n_sampled;
  }
  tl->n_sampled = 0;
  tl->start = time - (time - tl->origin) % tl->interval;
  tl->end = tl->start + tl->interval;
}

GstVlmStep gst_vlm_timeline_step (GstVlmTimeline *tl, GstClockTime time, GstClockTime time_end,
                                  GstClockTime hint, gboolean look)
{
  GstVlmStep step = { 0 };

  if (tl->running && time < tl->last) {
    if (tl->last - time < BACKWARDS)
      return step;
    step = gst_vlm_timeline_close (tl);
    step.restart = TRUE;
  }
  if (!tl->running) {
    if (!look)
      return step;
    begin (tl, time, hint);
  }
  if (time >= tl->end)
    cross_boundary (tl, time, &step);
  tl->last = time;
  tl->last_end = MAX (time_end, tl->last_end);
  if (!look || time + SLACK < tl->next_sample)
    return step;

  guint64 point =
      gst_util_uint64_scale (time - tl->origin + SLACK, tl->rate_n, tl->rate_d * GST_SECOND);

  tl->next_sample =
      tl->origin + gst_util_uint64_scale_ceil (point + 1, tl->rate_d * GST_SECOND, tl->rate_n);
  tl->n_sampled++;
  step.sample = TRUE;
  return step;
}
