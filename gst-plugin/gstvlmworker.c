// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmworker.c — the thread of an element that talks to the engine.
#include "gstvlmworker.h"

#include "gstvlmframe.h"

GST_DEBUG_CATEGORY_EXTERN (gst_vlm_caption_debug);
#define GST_CAT_DEFAULT gst_vlm_caption_debug

// Reopening a lost device: the pause doubles from the first value each time.
#define MAX_LOSSES     3
#define LOSS_WINDOW_US (10 * 60 * G_USEC_PER_SEC)
#define FIRST_PAUSE_US (100 * 1000)

typedef enum { JOB_FRAME, JOB_CAPTION, JOB_RESET, JOB_ASK } JobKind;

typedef struct {
  JobKind kind;
  guint64 serial;
  gint64 pushed_us;

  GstBuffer *buffer;  // JOB_FRAME
  GstVideoInfo info;
  GstClockTime time;
  gboolean live;  // this thread has nothing better to do than to wait for the device

  GstVlmRange range;        // JOB_CAPTION
  GstVlmQuestion question;  // JOB_CAPTION, JOB_ASK

  char **answer;  // JOB_ASK: the caller's; it waits until *asked is cleared
  gboolean *asked;
} Job;

struct _GstVlmWorker {
  GstVlmWorkerCallbacks callbacks;
  gpointer user_data;
  GstVlmSetup setup;  // written before the thread exists

  GMutex lock;  // protects everything below
  GCond wake;   // the thread: there is something to do
  GCond done;   // callers: a job is over, or the worker was interrupted
  GThread *thread;
  vlm_engine *engine;  // set and cleared by the thread while it runs
  vlm_session *session;
  GQueue jobs;     // of Job
  guint n_frames;  // frames among them
  gboolean busy;   // a job is with the thread
  gboolean interrupted, quit, failed;
  guint64 next_serial, done_serial;
  GstVlmWorkerStats stats;

  // Only touched by the thread.
  GstVlmFrame *frame;
  turns *examples;            // NULL = none
  guint n_film;               // frames in the session's film
  gint64 losses[MAX_LOSSES];  // when the device was lost, newest first; 0 = never
  char *last_warning;
};

void gst_vlm_setup_clear (GstVlmSetup *setup)
{
  g_free (setup->model);
  g_free (setup->mmproj);
  g_free (setup->device);
  g_free (setup->system_prompt);
  g_free (setup->examples);
  g_free (setup->examples_prompt);
  *setup = (GstVlmSetup){ 0 };
}

GstVlmSetup gst_vlm_setup_copy (const GstVlmSetup *setup)
{
  return (GstVlmSetup){
    .model = g_strdup (setup->model),
    .mmproj = g_strdup (setup->mmproj),
    .device = g_strdup (setup->device),
    .system_prompt = g_strdup (setup->system_prompt),
    .examples = g_strdup (setup->examples),
    .examples_prompt = g_strdup (setup->examples_prompt),
    .frames_per_second = setup->frames_per_second,
    .context_size = setup->context_size,
    .kv_type = setup->kv_type,
    .device_memory = setup->device_memory,
  };
}

gboolean gst_vlm_setup_same_engine (const GstVlmSetup *a, const GstVlmSetup *b)
{
  return g_strcmp0 (a->model, b->model) == 0 && g_strcmp0 (a->mmproj, b->mmproj) == 0
         && g_strcmp0 (a->device, b->device) == 0 && a->kv_type == b->kv_type
         && a->device_memory == b->device_memory
         // Under a limit, what a context takes is not there for experts.
         && (a->device_memory == 0 || a->context_size == b->context_size);
}

// ------------------------------------------------------------------ jobs, with the lock held

// Ends a job that will not be, or has been, done.
static void job_free (Job *job)
{
  if (job->asked != NULL)
    *job->asked = FALSE;
  gst_clear_buffer (&job->buffer);
  g_free (job->question.prompt);
  g_free (job);
}

static void clear_jobs (GstVlmWorker *w)
{
  Job *job;

  while ((job = g_queue_pop_head (&w->jobs)) != NULL) {
    if (job->kind == JOB_FRAME)
      w->stats.dropped++;
    job_free (job);
  }
  w->n_frames = 0;
}

static guint64 push_job (GstVlmWorker *w, Job *job)
{
  job->serial = ++w->next_serial;
  job->pushed_us = g_get_monotonic_time ();
  g_queue_push_tail (&w->jobs, job);
  g_cond_signal (&w->wake);
  return job->serial;
}

static GstFlowReturn flow (const GstVlmWorker *w)
{
  return w->interrupted ? GST_FLOW_FLUSHING : w->failed ? GST_FLOW_ERROR : GST_FLOW_OK;
}

static void drop_oldest_frame (GstVlmWorker *w)
{
  for (GList *l = w->jobs.head; l != NULL; l = l->next) {
    Job *job = l->data;

    if (job->kind != JOB_FRAME)
      continue;
    g_queue_delete_link (&w->jobs, l);
    job_free (job);
    w->n_frames--;
    w->stats.dropped++;
    return;
  }
}

// ------------------------------------------------------------------ the engine, without the lock

// Shows the session its examples, unless it has them. When it is cancelled meanwhile they are shown
// after the reset that follows.
static gboolean show_examples (GstVlmWorker *w, GError **error)
{
  g_autoptr (GError) cause = NULL;

  if (w->examples == NULL || vlm_session_has_examples (w->session)
      || (turns_feed (w->session, w->examples, w->setup.frames_per_second,
                      vlm_engine_get_info (w->engine)->wants_film_length, &cause)
          && vlm_session_end_examples (w->session, &cause))
      || g_error_matches (cause, VLM_ERROR, VLM_ERROR_CANCELLED))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&cause));
  return FALSE;
}

static gboolean read_examples (GstVlmWorker *w, GError **error)
{
  const GstVlmSetup *setup = &w->setup;

  g_clear_pointer (&w->examples, turns_free);
  if (setup->examples == NULL || *setup->examples == '\0')
    return TRUE;
  w->examples = turns_read_examples (setup->examples, setup->examples_prompt, error);
  return w->examples != NULL;
}

static gboolean session_make (GstVlmWorker *w, GError **error)
{
  g_autofree char *key = NULL;
  vlm_session *session;

  if (w->examples != NULL)
    key = turns_key (w->examples, w->setup.frames_per_second);
  session = vlm_session_create (w->engine,
                                &(vlm_session_params){ .context_size = w->setup.context_size,
                                                       .system_prompt = w->setup.system_prompt,
                                                       .examples_key = key },
                                error);
  if (session == NULL)
    return FALSE;
  g_mutex_lock (&w->lock);
  w->session = session;
  // An interrupt that came meanwhile found nothing to cancel.
  if (w->interrupted)
    vlm_session_cancel (session);
  g_mutex_unlock (&w->lock);
  w->n_film = 0;
  return show_examples (w, error);
}

static void session_drop (GstVlmWorker *w)
{
  vlm_session *session;

  g_mutex_lock (&w->lock);
  session = g_steal_pointer (&w->session);
  g_mutex_unlock (&w->lock);
  vlm_session_destroy (session);
}

static gboolean engine_open (GstVlmWorker *w, gboolean (*on_progress) (double, gpointer),
                             gpointer user_data, GError **error)
{
  static const vlm_kv_type kv_types[] = {
    [GST_VLM_KV_AUTO] = VLM_KV_F16,
    [GST_VLM_KV_F16] = VLM_KV_F16,
    [GST_VLM_KV_Q8] = VLM_KV_Q8,
    [GST_VLM_KV_Q4] = VLM_KV_Q4,
  };
  vlm_engine *engine = vlm_engine_open (
      &(vlm_engine_params){ .model = w->setup.model,
                            .mmproj = w->setup.mmproj,
                            .device = w->setup.device,
                            .kv_type = kv_types[w->setup.kv_type],
                            .device_memory = (guint64) w->setup.device_memory << 20,
                            .context_size = w->setup.context_size,
                            .on_progress = on_progress,
                            .user_data = user_data },
      error);

  g_mutex_lock (&w->lock);
  w->engine = engine;
  g_mutex_unlock (&w->lock);
  return engine != NULL;
}

static void engine_drop (GstVlmWorker *w)
{
  vlm_engine *engine;

  g_mutex_lock (&w->lock);
  engine = g_steal_pointer (&w->engine);
  g_mutex_unlock (&w->lock);
  if (engine != NULL)
    vlm_engine_unref (engine);
}

// Says it once: the same trouble with every frame is one message.
static void warn (GstVlmWorker *w, const GError *error)
{
  const gboolean again = g_strcmp0 (w->last_warning, error->message) == 0;

  g_mutex_lock (&w->lock);
  w->stats.errors++;
  g_mutex_unlock (&w->lock);
  if (again)
    return;
  g_free (w->last_warning);
  w->last_warning = g_strdup (error->message);
  w->callbacks.warning (error, w->user_data);
}

static void fail (GstVlmWorker *w, const GError *error)
{
  w->callbacks.failed (error, w->user_data);
  g_mutex_lock (&w->lock);
  w->failed = TRUE;
  w->stats.errors++;
  clear_jobs (w);
  g_cond_broadcast (&w->done);
  g_mutex_unlock (&w->lock);
}

// Sleeps unless somebody wants the thread. FALSE: somebody does.
static gboolean pause_for (GstVlmWorker *w, gint64 us)
{
  const gint64 until = g_get_monotonic_time () + us;
  gboolean stop;

  g_mutex_lock (&w->lock);
  while (!w->quit && g_cond_wait_until (&w->wake, &w->lock, until))
    ;
  stop = w->quit;
  g_mutex_unlock (&w->lock);
  return !stop;
}

// Opens the device again after it was lost. FALSE: gave up, or the element is being stopped.
static gboolean recover (GstVlmWorker *w, const GError *lost)
{
  gint64 pause = FIRST_PAUSE_US;
  const gint64 now = g_get_monotonic_time ();
  guint n_recent = 0;

  for (guint i = 0; i < MAX_LOSSES; i++)
    n_recent += w->losses[i] != 0 && now - w->losses[i] < LOSS_WINDOW_US;
  g_mutex_lock (&w->lock);
  w->stats.device_lost++;
  g_mutex_unlock (&w->lock);
  if (n_recent == MAX_LOSSES) {
    fail (w, lost);
    return FALSE;
  }
  for (guint i = MAX_LOSSES - 1; i > 0; i--)
    w->losses[i] = w->losses[i - 1];
  w->losses[0] = now;
  g_clear_pointer (&w->last_warning, g_free);
  warn (w, lost);

  session_drop (w);
  engine_drop (w);
  for (guint i = 0; i < n_recent; i++)
    pause *= 2;
  if (!pause_for (w, pause))
    return FALSE;

  g_autoptr (GError) error = NULL;

  if (engine_open (w, NULL, NULL, &error) && session_make (w, &error))
    return TRUE;
  if (g_error_matches (error, VLM_ERROR, VLM_ERROR_DEVICE_LOST))
    return recover (w, error);
  fail (w, error);
  return FALSE;
}

// What follows from an error of the engine. TRUE: the call may be made again.
static gboolean handle_error (GstVlmWorker *w, const GError *error)
{
  if (g_error_matches (error, VLM_ERROR, VLM_ERROR_CANCELLED))
    return FALSE;
  if (g_error_matches (error, VLM_ERROR, VLM_ERROR_DEVICE_LOST))
    return recover (w, error);
  warn (w, error);
  return FALSE;
}

// ------------------------------------------------------------------ the thread's work

static void do_frame (GstVlmWorker *w, Job *job)
{
  gboolean added = FALSE;

  for (gboolean again = TRUE; again && !added;) {
    g_autoptr (GError) error = NULL;
    vlm_image image;

    again = FALSE;
    if (!gst_vlm_frame_map (w->frame, job->buffer, &job->info, &image, &error)) {
      warn (w, error);
      break;
    }
    image.lent = job->live;
    added = vlm_session_add_frame (w->session, &image, (gint64) job->time, &error);
    gst_vlm_frame_unmap (w->frame);
    if (!added)
      again = handle_error (w, error);
  }
  if (added) {
    w->n_film++;
    return;
  }
  g_mutex_lock (&w->lock);
  w->stats.dropped++;
  g_mutex_unlock (&w->lock);
}

// Lets the model see frames whose group is not complete and will not be soon.
static gboolean complete_film (GstVlmWorker *w, const GstVlmRange *range, GError **error)
{
  // Two samples always complete a group that began in this range or before it.
  return (range->n_sampled > 1 && !range->last) || vlm_session_end_film (w->session, error);
}

// `since`: models that rank labels look at nothing older.
static vlm_generation *generate (GstVlmWorker *w, const GstVlmQuestion *question,
                                 GstClockTime since, GError **error)
{
  return vlm_session_generate (w->session,
                               &(vlm_generate_params){ .prompt = question->prompt,
                                                       .sampling = question->sampling,
                                                       .max_tokens = question->max_tokens,
                                                       .since_ns = (gint64) since },
                               error);
}

static void do_caption (GstVlmWorker *w, Job *job)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (vlm_generation) answer = NULL;
  gboolean stale;

  // Every frame of the range was dropped or failed, or went with a lost device.
  if (w->n_film == 0)
    return;
  if (complete_film (w, &job->range, &error))
    answer = generate (w, &job->question, job->range.start, &error);
  if (answer == NULL) {
    handle_error (w, error);
    return;
  }
  g_mutex_lock (&w->lock);
  stale = w->interrupted;
  if (!stale) {
    w->stats.captions++;
    w->stats.tokens += answer->n_tokens;
  }
  g_mutex_unlock (&w->lock);
  if (!stale)
    w->callbacks.caption (&job->range, answer,
                          (GstClockTime) (g_get_monotonic_time () - job->pushed_us) * GST_USECOND,
                          w->user_data);
}

static void do_ask (GstVlmWorker *w, Job *job)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (vlm_generation) answer = generate (w, &job->question, 0, &error);

  if (answer == NULL) {
    handle_error (w, error);
    return;
  }
  g_mutex_lock (&w->lock);
  *job->answer = g_steal_pointer (&answer->text);
  w->stats.tokens += answer->n_tokens;
  g_mutex_unlock (&w->lock);
}

static void do_reset (GstVlmWorker *w)
{
  g_autoptr (GError) error = NULL;

  if (!vlm_session_reset (w->session, &error)) {
    handle_error (w, error);
    return;
  }
  w->n_film = 0;
  if (show_examples (w, &error))
    return;
  if (g_error_matches (error, VLM_ERROR, VLM_ERROR_DEVICE_LOST))
    recover (w, error);
  else
    fail (w, error);
}

static void do_job (GstVlmWorker *w, Job *job)
{
  vlm_session_stats session;
  vlm_engine_stats engine;

  switch (job->kind) {
  case JOB_FRAME:
    do_frame (w, job);
    break;
  case JOB_CAPTION:
    do_caption (w, job);
    break;
  case JOB_RESET:
    do_reset (w);
    break;
  case JOB_ASK:
    do_ask (w, job);
    break;
  }
  if (w->session == NULL)
    return;
  vlm_session_get_stats (w->session, &session);
  vlm_engine_get_stats (w->engine, &engine);
  g_mutex_lock (&w->lock);
  w->stats.session = session;
  w->stats.engine = engine;
  g_mutex_unlock (&w->lock);
}

static gpointer run (gpointer data)
{
  GstVlmWorker *w = data;

  g_mutex_lock (&w->lock);
  while (!w->quit) {
    Job *job = w->failed ? NULL : g_queue_pop_head (&w->jobs);

    if (job == NULL) {
      g_cond_wait (&w->wake, &w->lock);
      continue;
    }
    if (job->kind == JOB_FRAME)
      w->n_frames--;
    w->busy = TRUE;
    g_cond_broadcast (&w->done);
    g_mutex_unlock (&w->lock);

    do_job (w, job);

    g_mutex_lock (&w->lock);
    w->done_serial = job->serial;
    w->busy = FALSE;
    job_free (job);
    g_cond_broadcast (&w->done);
  }
  g_mutex_unlock (&w->lock);
  return NULL;
}

// ------------------------------------------------------------------ for the element

GstVlmWorker *gst_vlm_worker_new (const GstVlmWorkerCallbacks *callbacks, gpointer user_data)
{
  GstVlmWorker *w = g_new0 (GstVlmWorker, 1);

  w->callbacks = *callbacks;
  w->user_data = user_data;
  w->interrupted = TRUE;
  g_mutex_init (&w->lock);
  g_cond_init (&w->wake);
  g_cond_init (&w->done);
  g_queue_init (&w->jobs);
  return w;
}

void gst_vlm_worker_free (GstVlmWorker *w)
{
  gst_vlm_setup_clear (&w->setup);
  g_mutex_clear (&w->lock);
  g_cond_clear (&w->wake);
  g_cond_clear (&w->done);
  g_free (w);
}

gboolean gst_vlm_worker_open (GstVlmWorker *w, const GstVlmSetup *setup,
                              gboolean (*on_progress) (double fraction, gpointer user_data),
                              gpointer user_data, GError **error)
{
  gst_vlm_setup_clear (&w->setup);
  w->setup = gst_vlm_setup_copy (setup);
  return engine_open (w, on_progress, user_data, error);
}

void gst_vlm_worker_close (GstVlmWorker *w)
{
  engine_drop (w);
}

gboolean gst_vlm_worker_start (GstVlmWorker *w, const GstVlmSetup *setup, GError **error)
{
  GThread *thread;

  gst_vlm_setup_clear (&w->setup);
  w->setup = gst_vlm_setup_copy (setup);
  g_mutex_lock (&w->lock);
  w->interrupted = w->quit = w->failed = FALSE;
  w->next_serial = w->done_serial = 0;
  w->stats = (GstVlmWorkerStats){ 0 };
  g_mutex_unlock (&w->lock);
  w->frame = gst_vlm_frame_new ();
  thread = read_examples (w, error) && session_make (w, error)
               ? g_thread_try_new ("vlmcaption", run, w, error)
               : NULL;
  g_mutex_lock (&w->lock);
  w->thread = thread;
  g_mutex_unlock (&w->lock);
  if (thread != NULL)
    return TRUE;
  gst_vlm_worker_stop (w);
  return FALSE;
}

void gst_vlm_worker_stop (GstVlmWorker *w)
{
  GThread *thread;

  gst_vlm_worker_interrupt (w);
  g_mutex_lock (&w->lock);
  w->quit = TRUE;
  thread = g_steal_pointer (&w->thread);
  g_cond_broadcast (&w->wake);
  g_mutex_unlock (&w->lock);
  if (thread != NULL)
    g_thread_join (thread);
  session_drop (w);
  g_clear_pointer (&w->frame, gst_vlm_frame_free);
  g_clear_pointer (&w->examples, turns_free);
  g_clear_pointer (&w->last_warning, g_free);
}

void gst_vlm_worker_interrupt (GstVlmWorker *w)
{
  g_mutex_lock (&w->lock);
  w->interrupted = TRUE;
  clear_jobs (w);
  if (w->session != NULL)
    vlm_session_cancel (w->session);
  g_cond_broadcast (&w->done);
  g_mutex_unlock (&w->lock);
}

void gst_vlm_worker_resume (GstVlmWorker *w)
{
  g_mutex_lock (&w->lock);
  if (w->thread != NULL && !w->quit) {
    Job *job = g_new0 (Job, 1);

    w->interrupted = FALSE;
    job->kind = JOB_RESET;
    push_job (w, job);
  }
  g_mutex_unlock (&w->lock);
}

GstFlowReturn gst_vlm_worker_push_frame (GstVlmWorker *w, GstBuffer *buffer,
                                         const GstVideoInfo *info, GstClockTime time, gboolean wait)
{
  GstFlowReturn ret;

  g_mutex_lock (&w->lock);
  while (wait && flow (w) == GST_FLOW_OK && w->n_frames >= GST_VLM_MAX_PENDING)
    g_cond_wait (&w->done, &w->lock);
  ret = flow (w);
  if (ret == GST_FLOW_OK) {
    Job *job = g_new0 (Job, 1);

    if (w->n_frames >= GST_VLM_MAX_PENDING)
      drop_oldest_frame (w);
    job->kind = JOB_FRAME;
    job->buffer = gst_buffer_ref (buffer);
    job->info = *info;
    job->time = time;
    job->live = !wait;
    push_job (w, job);
    w->n_frames++;
    w->stats.sampled++;
  }
  g_mutex_unlock (&w->lock);
  return ret;
}

// Removes the caption of this film that still waits, and lets `range` begin where it began.
static void take_pending_caption (GstVlmWorker *w, GstVlmRange *range)
{
  for (GList *l = w->jobs.tail; l != NULL; l = l->prev) {
    Job *job = l->data;

    if (job->kind == JOB_RESET)
      return;
    // A caption belongs to one segment: its times are translated by it.
    if (job->kind != JOB_CAPTION || job->range.last
        || !gst_segment_is_equal (&job->range.segment, &range->segment))
      continue;
    range->start = job->range.start;
    range->n_sampled += job->range.n_sampled;
    g_queue_delete_link (&w->jobs, l);
    job_free (job);
    return;
  }
}

GstFlowReturn gst_vlm_worker_push_caption (GstVlmWorker *w, const GstVlmRange *range,
                                           GstVlmQuestion *question, gboolean wait)
{
  GstFlowReturn ret;

  g_mutex_lock (&w->lock);
  ret = flow (w);
  if (ret == GST_FLOW_OK) {
    Job *job = g_new0 (Job, 1);
    guint64 serial;

    job->kind = JOB_CAPTION;
    job->range = *range;
    job->question = *question;
    *question = (GstVlmQuestion){ 0 };
    if (!wait)
      take_pending_caption (w, &job->range);
    serial = push_job (w, job);
    while (wait && (ret = flow (w)) == GST_FLOW_OK && w->done_serial < serial)
      g_cond_wait (&w->done, &w->lock);
  }
  g_mutex_unlock (&w->lock);
  g_clear_pointer (&question->prompt, g_free);
  return ret;
}

// Drops the films that began after a reset that still waits: nobody had time to look at them, and
// a stream whose time keeps jumping back must not fill the queue.
static void drop_later_films (GstVlmWorker *w)
{
  gboolean later = FALSE;

  for (GList *l = w->jobs.head, *next; l != NULL; l = next) {
    Job *job = l->data;

    next = l->next;
    later = later || job->kind == JOB_RESET;
    if (!later)
      continue;
    if (job->kind == JOB_FRAME) {
      w->n_frames--;
      w->stats.dropped++;
    }
    g_queue_delete_link (&w->jobs, l);
    job_free (job);
  }
  g_cond_broadcast (&w->done);
}

void gst_vlm_worker_push_reset (GstVlmWorker *w, gboolean wait)
{
  if (wait)
    gst_vlm_worker_drain (w);
  g_mutex_lock (&w->lock);
  if (flow (w) == GST_FLOW_OK) {
    Job *job = g_new0 (Job, 1);

    drop_later_films (w);
    job->kind = JOB_RESET;
    push_job (w, job);
  }
  g_mutex_unlock (&w->lock);
}

char *gst_vlm_worker_ask (GstVlmWorker *w, GstVlmQuestion *question)
{
  char *answer = NULL;
  gboolean asked = TRUE;

  g_mutex_lock (&w->lock);
  // From the thread itself (a message handler) nobody would be left to answer.
  if (flow (w) == GST_FLOW_OK && w->thread != NULL && w->thread != g_thread_self ()) {
    Job *job = g_new0 (Job, 1);

    job->kind = JOB_ASK;
    job->question = *question;
    *question = (GstVlmQuestion){ 0 };
    job->answer = &answer;
    job->asked = &asked;
    push_job (w, job);
    while (asked)
      g_cond_wait (&w->done, &w->lock);
  }
  g_mutex_unlock (&w->lock);
  g_clear_pointer (&question->prompt, g_free);
  return answer;
}

GstFlowReturn gst_vlm_worker_drain (GstVlmWorker *w)
{
  GstFlowReturn ret;

  g_mutex_lock (&w->lock);
  while ((ret = flow (w)) == GST_FLOW_OK && (w->busy || !g_queue_is_empty (&w->jobs)))
    g_cond_wait (&w->done, &w->lock);
  g_mutex_unlock (&w->lock);
  return ret;
}

void gst_vlm_worker_get_stats (GstVlmWorker *w, GstVlmWorkerStats *stats)
{
  g_mutex_lock (&w->lock);
  *stats = w->stats;
  g_mutex_unlock (&w->lock);
}
