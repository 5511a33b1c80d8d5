// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmcaption.c — the element `vlmcaption`: properties, pads, states.

/**
 * SECTION:element-vlmcaption
 * @title: vlmcaption
 *
 * Watches video with a vision-language model and says what happens in it: as #GstCustomMeta
 * `VlmCaption` on the buffers, as text on the request pad `text_src`, and as element messages
 * `vlm-caption`. Video passes through as it is.
 *
 * ## Example
 * |[
 * gst-launch-1.0 uridecodebin uri=file:///film.mkv ! vlmcaption name=c ! fakesink \
 *     c.text_src ! webvttenc ! filesink location=film.vtt
 * ]|
 */

#include "gstvlmcaption.h"
#include "gstvlmerror.h"

GST_DEBUG_CATEGORY (gst_vlm_caption_debug);
#define GST_CAT_DEFAULT gst_vlm_caption_debug

#define DEFAULT_PROMPT     "Describe what happens in the last few seconds."
#define DEFAULT_INTERVAL   (4 * GST_SECOND)
#define DEFAULT_MAX_TOKENS 128

enum {
  PROP_0,
  PROP_MODEL,
  PROP_MMPROJ,
  PROP_DEVICE,
  PROP_DEVICE_MEMORY,
  PROP_PROMPT,
  PROP_SYSTEM_PROMPT,
  PROP_EXAMPLES,
  PROP_FRAME_RATE,
  PROP_CAPTION_INTERVAL,
  PROP_CONTEXT_SIZE,
  PROP_KV_TYPE,
  PROP_MAX_TOKENS,
  PROP_TEMPERATURE,
  PROP_TOP_K,
  PROP_TOP_P,
  PROP_MIN_P,
  PROP_SEED,
  PROP_WHEN_BUSY,
  PROP_POST_MESSAGES,
  PROP_GAP_MODE,
  PROP_TEXT_TIME,
  PROP_STATS,
};

enum { SIGNAL_ASK, N_SIGNALS };
static guint signals[N_SIGNALS];

static GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE ("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS ("video/x-raw"));
static GstStaticPadTemplate src_template =
    GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("video/x-raw"));
static GstStaticPadTemplate text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));

G_DEFINE_TYPE (GstVlmCaption, gst_vlm_caption, GST_TYPE_ELEMENT)

static void register_extras (void)
{
  GST_DEBUG_CATEGORY_INIT (gst_vlm_caption_debug, "vlmcaption", 0, "captions of video");
  gst_vlm_meta_register ();
}

GST_ELEMENT_REGISTER_DEFINE_WITH_CODE (vlmcaption, "vlmcaption", GST_RANK_NONE,
                                       GST_TYPE_VLM_CAPTION, register_extras ())

static GType when_busy_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    { GST_VLM_WHEN_BUSY_AUTO, "drop when upstream is live, else wait", "auto" },
    { GST_VLM_WHEN_BUSY_WAIT, "Hold upstream up until the model has time", "wait" },
    { GST_VLM_WHEN_BUSY_DROP, "Drop the oldest frame that waits", "drop" },
    { 0, NULL, NULL },
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstVlmWhenBusy", values));
  return type;
}

static GType kv_type_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    { GST_VLM_KV_AUTO, "as the engine thinks best: f16", "auto" },
    { GST_VLM_KV_F16, "16 bits", "f16" },
    { GST_VLM_KV_Q8, "8.5 bits", "q8" },
    { GST_VLM_KV_Q4, "4.5 bits", "q4" },
    { 0, NULL, NULL },
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstVlmKvType", values));
  return type;
}

// ------------------------------------------------------------------ properties

static GstStructure *make_stats (GstVlmCaption *self)
{
  GstVlmWorkerStats s;
  guint64 n_seen;

  gst_vlm_worker_get_stats (self->worker, &s);
  g_mutex_lock (&self->lock);
  n_seen = self->n_seen;
  g_mutex_unlock (&self->lock);
  return gst_structure_new (
      "application/x-vlm-stats", "frames", G_TYPE_UINT64, n_seen, "sampled", G_TYPE_UINT64,
      s.sampled, "dropped", G_TYPE_UINT64, s.dropped, "in-place", G_TYPE_UINT64,
      s.session.n_in_place, "copied-bytes", G_TYPE_UINT64, s.session.copied_bytes, "captions",
      G_TYPE_UINT64, s.captions, "tokens", G_TYPE_UINT64, s.tokens, "errors", G_TYPE_UINT64,
      s.errors, "device-lost", G_TYPE_UINT64, s.device_lost, "ms-preprocess", G_TYPE_DOUBLE,
      s.session.ms_preprocess, "ms-encode", G_TYPE_DOUBLE, s.session.ms_encode, "ms-prefill",
      G_TYPE_DOUBLE, s.session.ms_prefill, "ms-decode", G_TYPE_DOUBLE, s.session.ms_decode,
      "context-used", G_TYPE_UINT, s.session.context_used, "context-kept", G_TYPE_UINT,
      s.session.context_kept, "context-size", G_TYPE_UINT, s.session.context_size, "evicted",
      G_TYPE_UINT64, s.session.n_evicted, "device-memory", G_TYPE_UINT64, s.engine.total_bytes,
      NULL);
}

// Properties of the engine and the session cannot change under them.
static gboolean is_frozen (GstVlmCaption *self, GParamSpec *pspec)
{
  gboolean frozen;

  GST_OBJECT_LOCK (self);
  frozen = (pspec->flags & GST_PARAM_MUTABLE_READY) != 0 && GST_STATE (self) > GST_STATE_READY;
  GST_OBJECT_UNLOCK (self);
  if (frozen)
    GST_ELEMENT_WARNING (
        self, RESOURCE, SETTINGS,
        ("The property %s can be set only in the states NULL and READY.", pspec->name), (NULL));
  return frozen;
}

static void set_string (char **place, const GValue *value)
{
  g_free (*place);
  *place = g_value_dup_string (value);
}

// The settings of the engine and the session. OBJECT_LOCK held.
static gboolean set_setup (GstVlmSetup *setup, guint id, const GValue *value)
{
  switch (id) {
  case PROP_MODEL:
    set_string (&setup->model, value);
    return TRUE;
  case PROP_MMPROJ:
    set_string (&setup->mmproj, value);
    return TRUE;
  case PROP_DEVICE:
    set_string (&setup->device, value);
    return TRUE;
  case PROP_DEVICE_MEMORY:
    setup->device_memory = g_value_get_uint (value);
    return TRUE;
  case PROP_SYSTEM_PROMPT:
    set_string (&setup->system_prompt, value);
    return TRUE;
  case PROP_EXAMPLES:
    set_string (&setup->examples, value);
    return TRUE;
  case PROP_CONTEXT_SIZE:
    setup->context_size = g_value_get_uint (value);
    return TRUE;
  case PROP_KV_TYPE:
    setup->kv_type = g_value_get_enum (value);
    return TRUE;
  default:
    return FALSE;
  }
}

// How captions are asked for. OBJECT_LOCK held.
static gboolean set_question (GstVlmQuestion *question, guint id, const GValue *value)
{
  switch (id) {
  case PROP_PROMPT:
    set_string (&question->prompt, value);
    return TRUE;
  case PROP_MAX_TOKENS:
    question->max_tokens = g_value_get_uint (value);
    return TRUE;
  case PROP_TEMPERATURE:
    question->sampling.temperature = g_value_get_double (value);
    return TRUE;
  case PROP_TOP_K:
    question->sampling.top_k = g_value_get_uint (value);
    return TRUE;
  case PROP_TOP_P:
    question->sampling.top_p = g_value_get_double (value);
    return TRUE;
  case PROP_MIN_P:
    question->sampling.min_p = g_value_get_double (value);
    return TRUE;
  case PROP_SEED:
    question->sampling.seed = g_value_get_uint64 (value);
    return TRUE;
  default:
    return FALSE;
  }
}

static void gst_vlm_caption_set_property (GObject *object, guint id, const GValue *value,
                                          GParamSpec *pspec)
{
  GstVlmCaption *self = GST_VLM_CAPTION (object);
  GstVlmSettings *s = &self->settings;
  GstVlmGapMode gap_mode;
  GstVlmTextTime text_time;
  gboolean known = TRUE;

  if (is_frozen (self, pspec))
    return;
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_FRAME_RATE:
    s->rate_n = gst_value_get_fraction_numerator (value);
    s->rate_d = gst_value_get_fraction_denominator (value);
    break;
  case PROP_CAPTION_INTERVAL:
    s->interval = g_value_get_uint64 (value);
    break;
  case PROP_WHEN_BUSY:
    s->when_busy = g_value_get_enum (value);
    break;
  case PROP_POST_MESSAGES:
    s->post_messages = g_value_get_boolean (value);
    break;
  case PROP_GAP_MODE:
    s->gap_mode = g_value_get_enum (value);
    break;
  case PROP_TEXT_TIME:
    s->text_time = g_value_get_enum (value);
    break;
  default:
    known = set_setup (&s->setup, id, value) || set_question (&s->question, id, value);
    break;
  }
  gap_mode = s->gap_mode;
  text_time = s->text_time;
  GST_OBJECT_UNLOCK (self);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
  if (id == PROP_GAP_MODE || id == PROP_TEXT_TIME) {
    g_mutex_lock (&self->lock);
    if (self->textpad != NULL)
      gst_vlm_text_configure (gst_vlm_flow_get_text (self->textpad), gap_mode, text_time);
    g_mutex_unlock (&self->lock);
  }
}

// OBJECT_LOCK held.
static gboolean get_setting (const GstVlmSettings *s, guint id, GValue *value)
{
  switch (id) {
  case PROP_MODEL:
    g_value_set_string (value, s->setup.model);
    return TRUE;
  case PROP_MMPROJ:
    g_value_set_string (value, s->setup.mmproj);
    return TRUE;
  case PROP_DEVICE:
    g_value_set_string (value, s->setup.device);
    return TRUE;
  case PROP_DEVICE_MEMORY:
    g_value_set_uint (value, s->setup.device_memory);
    return TRUE;
  case PROP_PROMPT:
    g_value_set_string (value, s->question.prompt);
    return TRUE;
  case PROP_SYSTEM_PROMPT:
    g_value_set_string (value, s->setup.system_prompt);
    return TRUE;
  case PROP_EXAMPLES:
    g_value_set_string (value, s->setup.examples);
    return TRUE;
  case PROP_FRAME_RATE:
    gst_value_set_fraction (value, s->rate_n, s->rate_d);
    return TRUE;
  case PROP_CAPTION_INTERVAL:
    g_value_set_uint64 (value, s->interval);
    return TRUE;
  case PROP_CONTEXT_SIZE:
    g_value_set_uint (value, s->setup.context_size);
    return TRUE;
  case PROP_KV_TYPE:
    g_value_set_enum (value, s->setup.kv_type);
    return TRUE;
  case PROP_MAX_TOKENS:
    g_value_set_uint (value, s->question.max_tokens);
    return TRUE;
  case PROP_TEMPERATURE:
    g_value_set_double (value, s->question.sampling.temperature);
    return TRUE;
  case PROP_TOP_K:
    g_value_set_uint (value, s->question.sampling.top_k);
    return TRUE;
  case PROP_TOP_P:
    g_value_set_double (value, s->question.sampling.top_p);
    return TRUE;
  case PROP_MIN_P:
    g_value_set_double (value, s->question.sampling.min_p);
    return TRUE;
  case PROP_SEED:
    g_value_set_uint64 (value, s->question.sampling.seed);
    return TRUE;
  case PROP_WHEN_BUSY:
    g_value_set_enum (value, s->when_busy);
    return TRUE;
  case PROP_POST_MESSAGES:
    g_value_set_boolean (value, s->post_messages);
    return TRUE;
  case PROP_GAP_MODE:
    g_value_set_enum (value, s->gap_mode);
    return TRUE;
  case PROP_TEXT_TIME:
    g_value_set_enum (value, s->text_time);
    return TRUE;
  default:
    return FALSE;
  }
}

static void gst_vlm_caption_get_property (GObject *object, guint id, GValue *value,
                                          GParamSpec *pspec)
{
  GstVlmCaption *self = GST_VLM_CAPTION (object);
  gboolean known;

  if (id == PROP_STATS) {
    g_value_take_boxed (value, make_stats (self));
    return;
  }
  GST_OBJECT_LOCK (self);
  known = get_setting (&self->settings, id, value);
  GST_OBJECT_UNLOCK (self);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

GstVlmQuestion gst_vlm_caption_copy_question (GstVlmCaption *self)
{
  GstVlmQuestion question;

  GST_OBJECT_LOCK (self);
  question = self->settings.question;
  question.prompt = g_strdup (question.prompt);
  GST_OBJECT_UNLOCK (self);
  return question;
}

// Action signal: blocks until the model has answered.
static char *gst_vlm_caption_ask (GstVlmCaption *self, const char *prompt)
{
  GstVlmQuestion question = gst_vlm_caption_copy_question (self);

  g_free (question.prompt);
  question.prompt = g_strdup (prompt);
  return gst_vlm_worker_ask (self->worker, &question);
}

// ------------------------------------------------------------------ pads

static GstPad *gst_vlm_caption_request_new_pad (GstElement *element, GstPadTemplate *template,
                                                const gchar *name, const GstCaps *caps)
{
  GstVlmCaption *self = GST_VLM_CAPTION (element);
  GstPad *pad = gst_pad_new_from_template (template, "text_src");
  GstVlmText *text = gst_vlm_text_new (pad);
  gboolean taken, running;

  (void) name;
  (void) caps;
  gst_pad_set_element_private (pad, text);
  g_object_set_data_full (G_OBJECT (pad), "vlm-text", text, (GDestroyNotify) gst_vlm_text_free);
  gst_pad_set_event_function (pad, gst_vlm_flow_text_event);
  gst_pad_set_activatemode_function (pad, gst_vlm_flow_text_activate);
  gst_pad_set_iterate_internal_links_function (pad, gst_vlm_flow_links);
  gst_pad_use_fixed_caps (pad);
  GST_OBJECT_LOCK (self);
  gst_vlm_text_configure (text, self->settings.gap_mode, self->settings.text_time);
  running = GST_STATE (self) > GST_STATE_READY || GST_STATE_NEXT (self) > GST_STATE_READY;
  GST_OBJECT_UNLOCK (self);

  g_mutex_lock (&self->lock);
  taken = self->textpad != NULL;
  if (!taken) {
    self->textpad = gst_object_ref (pad);
    // In the middle of a stream: what the video pad had.
    if (self->stream_id != NULL)
      gst_vlm_text_stream_start (text, self->stream_id, self->group_id);
    if (self->segment.format == GST_FORMAT_TIME)
      gst_vlm_text_segment (text, &self->segment);
  }
  g_mutex_unlock (&self->lock);
  if (taken) {
    gst_object_unref (gst_object_ref_sink (pad));
    return NULL;
  }
  if (running)
    gst_pad_set_active (pad, TRUE);
  gst_element_add_pad (element, pad);
  return pad;
}

static void gst_vlm_caption_release_pad (GstElement *element, GstPad *pad)
{
  GstVlmCaption *self = GST_VLM_CAPTION (element);
  GstVlmText *text = gst_vlm_flow_get_text (pad);

  g_mutex_lock (&self->lock);
  self->textpad = NULL;
  g_mutex_unlock (&self->lock);
  // A branch that takes no more text would keep the task, and this call, for ever.
  if (gst_pad_is_linked (pad) && gst_vlm_text_is_pushing (text)) {
    gst_pad_push_event (pad, gst_event_new_flush_start ());
    gst_vlm_text_stop (text);
    gst_pad_push_event (pad, gst_event_new_flush_stop (FALSE));
  }
  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
  gst_object_unref (pad);
}

// ------------------------------------------------------------------ states

typedef struct {
  GstVlmCaption *self;
  gint64 begin_us;
  gint told;  // per cent; -1 = not begun
} Loading;

// Loading that takes longer than a second is told to the application.
static gboolean on_progress (double fraction, gpointer user_data)
{
  Loading *loading = user_data;
  const gint percent = (gint) (CLAMP (fraction, 0.0, 1.0) * 100);
  g_autofree char *text = NULL;

  if (percent < loading->told + 10 || g_get_monotonic_time () - loading->begin_us < G_USEC_PER_SEC)
    return TRUE;
  text = g_strdup_printf ("Loading the model: %d %%", percent);
  gst_element_post_message (
      GST_ELEMENT (loading->self),
      gst_message_new_progress (
          GST_OBJECT (loading->self),
          loading->told < 0 ? GST_PROGRESS_TYPE_START : GST_PROGRESS_TYPE_CONTINUE, "load", text));
  loading->told = percent;
  return TRUE;
}

static GstVlmSetup copy_setup (GstVlmCaption *self)
{
  GstVlmSetup setup;

  GST_OBJECT_LOCK (self);
  setup = gst_vlm_setup_copy (&self->settings.setup);
  setup.examples_prompt = g_strdup (self->settings.question.prompt);
  setup.frames_per_second = (double) self->settings.rate_n / self->settings.rate_d;
  GST_OBJECT_UNLOCK (self);
  return setup;
}

static gboolean open_engine (GstVlmCaption *self)
{
  Loading loading = { self, g_get_monotonic_time (), -1 };
  g_autoptr (GError) error = NULL;
  gboolean ok;

  gst_vlm_setup_clear (&self->opened);
  self->opened = copy_setup (self);
  ok = gst_vlm_worker_open (self->worker, &self->opened, on_progress, &loading, &error);
  if (loading.told >= 0)
    gst_element_post_message (
        GST_ELEMENT (self),
        gst_message_new_progress (GST_OBJECT (self),
                                  ok ? GST_PROGRESS_TYPE_COMPLETE : GST_PROGRESS_TYPE_ERROR, "load",
                                  ok ? "The model is loaded" : "The model cannot be loaded"));
  if (!ok)
    gst_vlm_error_post (GST_ELEMENT (self), GST_MESSAGE_ERROR, error,
                        self->opened.model != NULL ? self->opened.model : "the default model");
  return ok;
}

static gboolean start (GstVlmCaption *self)
{
  GstVlmSetup setup = copy_setup (self);
  g_autoptr (GError) error = NULL;
  gboolean ok = TRUE;

  // Another model was asked for in READY.
  if (!gst_vlm_setup_same_engine (&setup, &self->opened)) {
    gst_vlm_worker_close (self->worker);
    ok = open_engine (self);
  }
  gst_vlm_flow_reset (self);
  if (ok && !gst_vlm_worker_start (self->worker, &setup, &error)) {
    gst_vlm_error_post (GST_ELEMENT (self), GST_MESSAGE_ERROR, error, NULL);
    ok = FALSE;
  }
  gst_vlm_setup_clear (&setup);
  return ok;
}

static GstStateChangeReturn gst_vlm_caption_change_state (GstElement *element,
                                                          GstStateChange transition)
{
  GstVlmCaption *self = GST_VLM_CAPTION (element);
  GstStateChangeReturn ret;

  if (transition == GST_STATE_CHANGE_NULL_TO_READY && !open_engine (self))
    return GST_STATE_CHANGE_FAILURE;
  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED && !start (self))
    return GST_STATE_CHANGE_FAILURE;
  // Before the pads are stopped, which waits for what waits for the engine.
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    gst_vlm_flow_interrupt (self);

  ret = GST_ELEMENT_CLASS (gst_vlm_caption_parent_class)->change_state (element, transition);

  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY
      || (transition == GST_STATE_CHANGE_READY_TO_PAUSED && ret == GST_STATE_CHANGE_FAILURE)) {
    gst_vlm_worker_stop (self->worker);
    gst_vlm_flow_reset (self);
  }
  if (transition == GST_STATE_CHANGE_READY_TO_NULL)
    gst_vlm_worker_close (self->worker);
  return ret;
}

// ------------------------------------------------------------------ class

static void gst_vlm_caption_finalize (GObject *object)
{
  GstVlmCaption *self = GST_VLM_CAPTION (object);

  gst_vlm_worker_free (self->worker);
  gst_vlm_setup_clear (&self->settings.setup);
  gst_vlm_setup_clear (&self->opened);
  g_free (self->settings.question.prompt);
  g_free (self->stream_id);
  g_clear_pointer (&self->cue, gst_vlm_cue_unref);
  g_mutex_clear (&self->lock);
  G_OBJECT_CLASS (gst_vlm_caption_parent_class)->finalize (object);
}

#define FLAGS   (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS)
#define READY   (FLAGS | GST_PARAM_MUTABLE_READY)
#define PLAYING (FLAGS | GST_PARAM_MUTABLE_PLAYING)

static void install_model_properties (GObjectClass *class)
{
  g_object_class_install_property (
      class, PROP_MODEL,
      g_param_spec_string ("model", "Model",
                           "The model's text GGUF file, a folder that holds one model, or "
                           "hf:ORG/REPO[:QUANT] when that is on this machine (unset = the default "
                           "model)",
                           NULL, READY));
  g_object_class_install_property (
      class, PROP_MMPROJ,
      g_param_spec_string (
          "mmproj", "Vision model",
          "Path of the model's vision GGUF file (unset = the one that comes with the model)", NULL,
          READY));
  g_object_class_install_property (
      class, PROP_DEVICE,
      g_param_spec_string ("device", "Device",
                           "Vulkan device: its number, or a part of its name (unset = the best)",
                           NULL, READY));
  /**
   * GstVlmCaption:device-memory:
   *
   * MiB of the device's memory that the model may use. Experts of a sparse model that don't fit are
   * read from the host's memory, which changes no caption; everything else must fit, or the element
   * does not start and its error says how much is the least. 0 is the environment variable
   * VLM_DEVICE_MEMORY or, where that is not set either, all that is free. Elements share a model
   * only when they have the same limit.
   */
  g_object_class_install_property (
      class, PROP_DEVICE_MEMORY,
      g_param_spec_uint ("device-memory", "Device memory",
                         "MiB of device memory to use at most; experts of a sparse model that do "
                         "not fit stay in the host's memory (0 = VLM_DEVICE_MEMORY in the "
                         "environment, else what is free)",
                         0, G_MAXUINT, 0, READY));
  g_object_class_install_property (
      class, PROP_SYSTEM_PROMPT,
      g_param_spec_string ("system-prompt", "System prompt",
                           "What the model is told before the film (unset = nothing)", NULL,
                           READY));
  /**
   * GstVlmCaption:examples:
   *
   * Path of a JSON file with a list of examples, `{"image": "cat.png", "prompt": "What is it?",
   * "answer": "A cat."}`, that the model is shown before the film. `image` and `video` are names of
   * files, relative to the JSON file, or lists of such; `prompt` is #GstVlmCaption:prompt where it
   * is left out.
   */
  g_object_class_install_property (
      class, PROP_EXAMPLES,
      g_param_spec_string (
          "examples", "Examples",
          "JSON file of pictures or films with the answers that are wanted for them, shown to the "
          "model before the film (unset = none)",
          NULL, READY));
  g_object_class_install_property (
      class, PROP_CONTEXT_SIZE,
      g_param_spec_uint (
          "context-size", "Context size",
          "Tokens of film and answer that the model sees at once, 256 or more; the oldest frames "
          "make room for new ones (0 = the smaller of 8192 and the model's own)",
          0, 16777216, 0, READY));
  /**
   * GstVlmCaption:kv-type:
   *
   * How the keys and values of the context are kept. `q8` takes a little more than half the memory
   * of `f16` and is hardly less exact, `q4` takes a good quarter of it and is for contexts that do
   * not fit otherwise. `auto` is `f16`.
   */
  g_object_class_install_property (
      class, PROP_KV_TYPE,
      g_param_spec_enum ("kv-type", "Context type",
                         "How the context is kept: memory against exactness", kv_type_get_type (),
                         GST_VLM_KV_AUTO, READY));
}

static void install_question_properties (GObjectClass *class)
{
  g_object_class_install_property (class, PROP_PROMPT,
                                   g_param_spec_string ("prompt", "Prompt",
                                                        "What the model is asked for each caption",
                                                        DEFAULT_PROMPT, PLAYING));
  g_object_class_install_property (class, PROP_MAX_TOKENS,
                                   g_param_spec_uint ("max-tokens", "Tokens",
                                                      "Longest caption, in tokens", 1, 65536,
                                                      DEFAULT_MAX_TOKENS, PLAYING));
  g_object_class_install_property (
      class, PROP_TEMPERATURE,
      g_param_spec_double ("temperature", "Temperature",
                           "How freely tokens are chosen (0 = always the likeliest)", 0, 5, 0,
                           PLAYING));
  g_object_class_install_property (
      class, PROP_TOP_K,
      g_param_spec_uint ("top-k", "Top k", "Choose among this many likeliest tokens (0 = all)", 0,
                         1048576, 0, PLAYING));
  g_object_class_install_property (
      class, PROP_TOP_P,
      g_param_spec_double (
          "top-p", "Top p",
          "Choose among the likeliest tokens that have this probability together (1 = all)", 0, 1,
          1, PLAYING));
  g_object_class_install_property (
      class, PROP_MIN_P,
      g_param_spec_double (
          "min-p", "Min p",
          "Choose among tokens at least this probable, relative to the likeliest (0 = all)", 0, 1,
          0, PLAYING));
  g_object_class_install_property (
      class, PROP_SEED,
      g_param_spec_uint64 ("seed", "Seed",
                           "Where chance begins: the same seed gives the same captions", 0,
                           G_MAXUINT64, 0, PLAYING));
}

static void install_flow_properties (GObjectClass *class)
{
  g_object_class_install_property (
      class, PROP_FRAME_RATE,
      gst_param_spec_fraction ("frame-rate", "Frame rate",
                               "Frames per second that the model sees, chosen by their timestamps",
                               1, 3600, 60, 1, 2, 1, PLAYING));
  g_object_class_install_property (
      class, PROP_CAPTION_INTERVAL,
      g_param_spec_uint64 ("caption-interval", "Caption interval",
                           "Length of film that a caption describes, in nanoseconds",
                           100 * GST_MSECOND, 86400 * GST_SECOND, DEFAULT_INTERVAL, PLAYING));
  g_object_class_install_property (
      class, PROP_WHEN_BUSY,
      g_param_spec_enum ("when-busy", "When busy", "What happens to frames while the model is busy",
                         when_busy_get_type (), GST_VLM_WHEN_BUSY_AUTO, PLAYING));
  g_object_class_install_property (
      class, PROP_POST_MESSAGES,
      g_param_spec_boolean ("post-messages", "Post messages",
                            "Post an element message vlm-caption for each caption", TRUE, PLAYING));
  g_object_class_install_property (
      class, PROP_GAP_MODE,
      g_param_spec_enum ("gap-mode", "Gap mode",
                         "What the text pad sends while there is no caption",
                         gst_vlm_gap_mode_get_type (), GST_VLM_GAP_EVENTS, PLAYING));
  g_object_class_install_property (
      class, PROP_TEXT_TIME,
      g_param_spec_enum ("text-time", "Text time", "Which time captions have on the text pad",
                         gst_vlm_text_time_get_type (), GST_VLM_TEXT_TIME_AUTO, PLAYING));
  g_object_class_install_property (
      class, PROP_STATS,
      g_param_spec_boxed ("stats", "Statistics",
                          "Frames, captions, tokens, milliseconds per stage, device memory",
                          GST_TYPE_STRUCTURE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
}

static void gst_vlm_caption_class_init (GstVlmCaptionClass *class)
{
  GObjectClass *object_class = G_OBJECT_CLASS (class);
  GstElementClass *element_class = GST_ELEMENT_CLASS (class);

  object_class->set_property = gst_vlm_caption_set_property;
  object_class->get_property = gst_vlm_caption_get_property;
  object_class->finalize = gst_vlm_caption_finalize;
  element_class->change_state = gst_vlm_caption_change_state;
  element_class->request_new_pad = gst_vlm_caption_request_new_pad;
  element_class->release_pad = gst_vlm_caption_release_pad;
  install_model_properties (object_class);
  install_question_properties (object_class);
  install_flow_properties (object_class);

  /**
   * GstVlmCaption::ask:
   * @self: the element, PAUSED or PLAYING
   * @prompt: a question about the film so far
   *
   * Asks the model and blocks until it has answered. Must not be called from a handler of the
   * element's own messages.
   *
   * Returns: (nullable): the answer, or %NULL when there is none
   */
  signals[SIGNAL_ASK] = g_signal_new_class_handler (
      "ask", G_TYPE_FROM_CLASS (class), G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION,
      G_CALLBACK (gst_vlm_caption_ask), NULL, NULL, NULL, G_TYPE_STRING, 1, G_TYPE_STRING);

  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_add_static_pad_template (element_class, &text_template);
  gst_element_class_set_static_metadata (element_class, "Video captions", "Filter/Analyzer/Video",
                                         "Says what happens in video, with a vision-language model",
                                         "The gst-vlm authors");
  gst_type_mark_as_plugin_api (when_busy_get_type (), 0);
  gst_type_mark_as_plugin_api (kv_type_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_vlm_gap_mode_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_vlm_text_time_get_type (), 0);
}

static void gst_vlm_caption_init (GstVlmCaption *self)
{
  self->settings = (GstVlmSettings){
    .question = { .prompt = g_strdup (DEFAULT_PROMPT),
                  .sampling = { .top_p = 1 },
                  .max_tokens = DEFAULT_MAX_TOKENS },
    .rate_n = 2,
    .rate_d = 1,
    .interval = DEFAULT_INTERVAL,
    .post_messages = TRUE,
  };
  g_mutex_init (&self->lock);
  self->worker = gst_vlm_worker_new (&gst_vlm_flow_callbacks, self);
  gst_vlm_timeline_init (&self->timeline, 2, 1, DEFAULT_INTERVAL);
  gst_vlm_flow_reset (self);

  self->sinkpad = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_chain_function (self->sinkpad, gst_vlm_flow_chain);
  gst_pad_set_event_function (self->sinkpad, gst_vlm_flow_sink_event);
  gst_pad_set_query_function (self->sinkpad, gst_vlm_flow_sink_query);
  gst_pad_set_iterate_internal_links_function (self->sinkpad, gst_vlm_flow_links);
  GST_PAD_SET_PROXY_CAPS (self->sinkpad);
  GST_PAD_SET_PROXY_SCHEDULING (self->sinkpad);
  gst_element_add_pad (GST_ELEMENT (self), self->sinkpad);

  self->srcpad = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_iterate_internal_links_function (self->srcpad, gst_vlm_flow_links);
  GST_PAD_SET_PROXY_CAPS (self->srcpad);
  GST_PAD_SET_PROXY_SCHEDULING (self->srcpad);
  gst_element_add_pad (GST_ELEMENT (self), self->srcpad);
}
