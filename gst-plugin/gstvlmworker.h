// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmworker.h — the thread of an element that talks to the engine.
//
// Frames and captions go into one queue, in order; the thread takes them out, one by one, and makes
// the engine's blocking calls. Nothing else of the element waits for the engine, except
// gst_vlm_worker_open() and callers that ask to wait, and those wake up when interrupted.
//
//   open -> start -> push... -> (interrupt -> resume -> push...)... -> stop -> close
//
// A lost device is opened again with pauses, at most three times in ten minutes.
// Thread-safety: any thread for everything between start and stop; the others from state changes.
#ifndef GST_VLM_WORKER_H
#define GST_VLM_WORKER_H

#include <gst/video/video.h>

#include "turns.h"
#include "vlm.h"

G_BEGIN_DECLS

// Frames that wait for the engine; one more is being looked at.
#define GST_VLM_MAX_PENDING 4

typedef struct _GstVlmWorker GstVlmWorker;

// The property kv-type. GST_VLM_KV_AUTO leaves the choice to the engine's default.
typedef enum {
  GST_VLM_KV_AUTO,
  GST_VLM_KV_F16,
  GST_VLM_KV_Q8,
  GST_VLM_KV_Q4,
} GstVlmKvType;

// What the engine and the session are made of. Strings may be NULL.
typedef struct {
  char *model, *mmproj, *device, *system_prompt;
  char *examples;            // path of their file
  char *examples_prompt;     // of those without their own
  double frames_per_second;  // of their films
  guint context_size;
  GstVlmKvType kv_type;
  guint device_memory;  // MiB, the limit; 0 = the engine's default
} GstVlmSetup;

GstVlmSetup gst_vlm_setup_copy (const GstVlmSetup *setup);
void gst_vlm_setup_clear (GstVlmSetup *setup);
// TRUE when both ask for the same engine.
gboolean gst_vlm_setup_same_engine (const GstVlmSetup *a, const GstVlmSetup *b);

// How a caption is asked for.
typedef struct {
  char *prompt;
  vlm_sampling sampling;
  guint max_tokens;
} GstVlmQuestion;

// A range of the film that a caption describes, in stream time, and the clip that it came from.
typedef struct {
  GstClockTime start, end;
  guint n_sampled;     // frames sampled in it
  GstSegment segment;  // translates stream time into PTS and running time
  guint epoch;         // the caller's; comes back with the caption
  gboolean last;       // nothing follows: complete the last group of frames
} GstVlmRange;

// All are called from the worker's thread, without locks.
typedef struct {
  // An answer about a range. `latency_ns`: since the range was pushed.
  void (*caption) (const GstVlmRange *range, const vlm_generation *answer, GstClockTime latency,
                   gpointer user_data);
  // Something failed and work goes on.
  void (*warning) (const GError *error, gpointer user_data);
  // Something failed and nothing more will come. Called once between start and stop.
  void (*failed) (const GError *error, gpointer user_data);
} GstVlmWorkerCallbacks;

typedef struct {
  guint64 sampled;  // frames pushed
  guint64 dropped;  // of these, never looked at
  guint64 captions, tokens, errors, device_lost;
  vlm_session_stats session;  // as of the last job
  vlm_engine_stats engine;
} GstVlmWorkerStats;

GstVlmWorker *gst_vlm_worker_new (const GstVlmWorkerCallbacks *callbacks, gpointer user_data);
void gst_vlm_worker_free (GstVlmWorker *worker);

// Loads the model; blocks. `on_progress` as in vlm_engine_params. Errors: those of the engine.
gboolean gst_vlm_worker_open (GstVlmWorker *worker, const GstVlmSetup *setup,
                              gboolean (*on_progress) (double fraction, gpointer user_data),
                              gpointer user_data, GError **error);
void gst_vlm_worker_close (GstVlmWorker *worker);

// Makes the session, with the setup's system prompt and context size, and the thread.
// Errors: those of vlm_session_create().
gboolean gst_vlm_worker_start (GstVlmWorker *worker, const GstVlmSetup *setup, GError **error);
// Interrupts, joins the thread and drops the session. Must not be called from the thread.
void gst_vlm_worker_stop (GstVlmWorker *worker);

// Throws away what is queued, cancels what runs and makes every waiting call return FLUSHING, until
// gst_vlm_worker_resume(). Never blocks.
void gst_vlm_worker_interrupt (GstVlmWorker *worker);
// Takes work again, with an empty film.
void gst_vlm_worker_resume (GstVlmWorker *worker);

// Queues a frame that is shown at `time` (stream time). `wait`: waits while too many are pending,
// else drops the oldest of them. Returns OK, FLUSHING, or ERROR after failed().
GstFlowReturn gst_vlm_worker_push_frame (GstVlmWorker *worker, GstBuffer *buffer,
                                         const GstVideoInfo *info, GstClockTime time,
                                         gboolean wait);

// Queues a caption about everything queued before. Takes `question`'s contents. `wait`: returns
// when the callback has returned; else a caption that still waits is replaced, and the new one
// covers the range of both.
GstFlowReturn gst_vlm_worker_push_caption (GstVlmWorker *worker, const GstVlmRange *range,
                                           GstVlmQuestion *question, gboolean wait);

// Queues the beginning of a new film. `wait`: after all work queued before; else films that began
// while an earlier one still waited to be forgotten are dropped.
void gst_vlm_worker_push_reset (GstVlmWorker *worker, gboolean wait);

// Asks about the film so far, after all that is queued, and waits. Returns NULL when it could not
// be answered (a warning says why) or was interrupted. Takes `question`'s contents.
char *gst_vlm_worker_ask (GstVlmWorker *worker, GstVlmQuestion *question);

// Waits until the queue is empty and the thread idle.
GstFlowReturn gst_vlm_worker_drain (GstVlmWorker *worker);

void gst_vlm_worker_get_stats (GstVlmWorker *worker, GstVlmWorkerStats *stats);

G_END_DECLS

#endif
