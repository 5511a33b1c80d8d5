// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmtimeline.h — which frames are sampled, and where one caption's range ends and the next
// begins. Plain arithmetic on stream time in nanoseconds; no buffers, no threads.
//
// Ranges lie on a grid of `interval` that begins at the film's origin: the start of the segment
// when the first frame is near it, else the first frame. Samples lie on a grid of `period` with the
// same origin: the first frame at or after each point is taken. Thread-safety: unsafe.
#ifndef GST_VLM_TIMELINE_H
#define GST_VLM_TIMELINE_H

#include <gst/gst.h>

G_BEGIN_DECLS

typedef struct {
  gint rate_n, rate_d;    // samples per second, > 0
  GstClockTime interval;  // of one caption, > 0

  gboolean running;  // the film has an origin
  GstClockTime origin;
  GstClockTime start, end;  // of the range that is being filled
  GstClockTime next_sample;
  GstClockTime last, last_end;  // the newest frame
  guint n_sampled;              // samples in the range
} GstVlmTimeline;

// What a frame means.
typedef struct {
  gboolean sample;          // the frame is to be looked at
  gboolean closed;          // a range with samples ended before this frame:
  GstClockTime start, end;  //   its limits
  guint n_sampled;          //   its samples
  gboolean restart;         // time went back: a new film begins with this frame
} GstVlmStep;

void gst_vlm_timeline_init (GstVlmTimeline *tl, gint rate_n, gint rate_d, GstClockTime interval);

// Changes the grid. The range that is being filled ends where the new interval says.
void gst_vlm_timeline_set_grid (GstVlmTimeline *tl, gint rate_n, gint rate_d,
                                GstClockTime interval);

// Takes the frame at `time` that lasts until `time_end` (> time). `hint` is where the segment
// starts, or NONE. `look`: FALSE for a gap, where time passes and there is nothing to sample.
GstVlmStep gst_vlm_timeline_step (GstVlmTimeline *tl, GstClockTime time, GstClockTime time_end,
                                  GstClockTime hint, gboolean look);

// Ends the range early, at the end of the newest frame: end of stream, a new segment.
GstVlmStep gst_vlm_timeline_close (GstVlmTimeline *tl);

// Forgets the film.
void gst_vlm_timeline_reset (GstVlmTimeline *tl);

G_END_DECLS

#endif
