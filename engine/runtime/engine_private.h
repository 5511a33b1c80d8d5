// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/engine_private.h — what engine, scheduler and sessions share.
//
// Threads: callers' threads put work into sessions; one scheduler thread per engine does it. One
// lock, vlm_engine.lock, protects everything below that is not marked otherwise; it is not held
// while the device works, nor while callbacks run. Memory of the KV pool is touched with the lock
// held. Lock order: the table of engines (engine.c), vlm_session.add_lock, vlm_engine.lock.
#ifndef VLM_RUNTIME_ENGINE_PRIVATE_H
#define VLM_RUNTIME_ENGINE_PRIVATE_H

#include "model/model.h"
#include "model/utf8_stream.h"
#include "runtime/sampler.h"

#define VLM_MAX_SEQUENCES   64u  // decoded together in one step
#define VLM_MAX_WAITING     4u   // groups of pictures that wait to be encoded, per session
#define VLM_DEFAULT_CONTEXT 8192u
#define VLM_MAX_CONTEXT     (1u << 24)
#define VLM_ARGS_BYTES      (16u << 20)  // arguments and tables of one step
#define VLM_RANK_ROWS       256u         // tokens of labels that are encoded together

// One generation: a fork of a session's film, its prompt and its answer so far.
typedef struct vlm_answer {
    vlm_session *session;
    vlm_kv_seq *seq;  // the fork; the session's own with `keep`
    uint32_t next_pos;
    uint32_t *prompt;  // tokens still to be prefilled, from `n_done`
    uint32_t n_prompt, n_done;
    uint32_t last_token;  // to be fed in the next step
    gboolean started;     // forked
    gboolean decoding;    // the prompt is in
    gboolean has_text;    // some token that is text was chosen
    gboolean done;
    gboolean in_step;  // its rows are being computed
    GError *error;

    // copies of the caller's wishes
    vlm_sampler *sampler;
    uint32_t max_tokens, n_top_logits;
    gboolean keep, ignore_stop;
    void (*on_text)(const char *utf8, gpointer user_data);
    gpointer user_data;

    // of a model that ranks labels
    char *question;  // the list, as it came
    gint64 since;
    uint32_t n_named;   // labels that the text names
    vlm_label *labels;  // the result; n_label of them
    uint32_t n_label;

    // the answer
    GArray *tokens;  // of uint32_t
    GArray *top;     // of vlm_top_logit
    GString *text;
    size_t n_reported;  // bytes of text given to on_text
    vlm_utf8_stream utf8;
    vlm_finish finish;
    uint32_t n_context;
    gint64 t_start, t_first, t_end;
} vlm_answer;

// What a turn has been given last: some families write texts where that changes.
typedef enum vlm_content {
    VLM_CONTENT_NOTHING,
    VLM_CONTENT_FILM,
    VLM_CONTENT_OTHER,
} vlm_content;

// What is known of a film's length; 0 = nothing.
typedef struct vlm_film {
    uint32_t n_frames;
    gint64 duration;  // nanoseconds
} vlm_film;

typedef enum vlm_item_kind {
    VLM_ITEM_TOKENS,  // text, or a group of pictures between its texts
    VLM_ITEM_ANSWER,
} vlm_item_kind;

// One entry of a session's queue.
typedef struct vlm_item {
    vlm_item_kind kind;
    gboolean is_prefix;    // system prompt, examples and the like: kept for good
    gboolean ends_prefix;  // and nothing more of it follows
    uint32_t *pre;         // tokens before the pictures' rows
    uint32_t n_pre;
    uint32_t n_visual;    // rows; 0 for text
    uint32_t rows, cols;  // their grid
    uint32_t n_cross;     // rows looked at beside the sequence, from the last token of `pre` on
    uint32_t *post;       // tokens after them
    uint32_t n_post;
    uint32_t n_done;   // rows of the three already in the context
    gboolean charged;  // room was made for it

    uint32_t n_picture;
    vlm_buffer *picture[4];  // pixels on their way to the encoder; go back to the session's store
    vlm_pixels pixels[4];
    uint32_t grid_h, grid_w;  // patches
    gboolean is_still;
    gint64 time;  // of a frame
    vlm_tile tile;
    // of frames: which film of the session, groups of it before, nanoseconds since its first frame
    uint32_t film, film_group;
    gint64 film_time;
    vlm_buffer *rows_buffer;  // the encoder's output
    gboolean encoded;

    vlm_answer *answer;  // VLM_ITEM_ANSWER; owned by the caller who waits for it
} vlm_item;

void vlm_item_free(vlm_item *item);  // does not free the answer; buffers are destroyed
static inline uint32_t vlm_item_n_rows(const vlm_item *item)
{
    return item->n_pre + item->n_visual + item->n_post;
}

// Tokens of a context of `size` that are kept for answers, and the pages of a session: room for the
// film and for one answer's fork, with partly filled pages at the joints.
static inline uint32_t vlm_context_reserve(uint32_t size)
{
    return CLAMP(size / 4, 64, 1024);
}

static inline int64_t vlm_context_pages(uint32_t size)
{
    return ((int64_t) size + vlm_context_reserve(size)) / VLM_PAGE_TOKENS + 5;
}

// What a session of a dual encoder remembers: pictures and labels as vectors.
typedef struct vlm_rank vlm_rank;

struct vlm_session {
    vlm_engine *engine;  // a reference
    char *system_prompt;
    gboolean raw;                    // outside text may write special tokens
    vlm_protocol protocol;           // the family's; raw: without its turns
    char *prefix_key;                // of its examples; NULL = it has none
    uint32_t context_size, reserve;  // tokens; of which kept free for prompts and answers
    vlm_film any_film;               // that nobody announced
    uint64_t max_pixels;             // of a frame, as the caller wants; 0 = no wish
    gint64 n_page_reserved;

    // who adds: behind add_lock
    GMutex add_lock;
    gboolean examples_open;  // what is added is kept for good
    uint32_t n_prefix;       // tokens that are
    vlm_film this_film;      // the one that frames belong to
    GString *pending;        // text not yet in an item
    vlm_content content;     // what the turn was given last, `pending` included
    vlm_buffer *part[4];     // pictures that wait for a partner
    vlm_pixels part_pixels[4];
    gint64 part_time[4];
    uint32_t n_part;
    uint32_t film_added, n_film_group;  // films so far, groups of the last one
    gint64 film_start, film_time;       // times of its first frame, of its last group
    gboolean has_content;               // something follows the prefix
    gboolean continues;                 // what comes next goes on from text of the protocol's
    gboolean film_in_prefix;            // what opens the film was added to the prefix

    vlm_rank *rank;  // of a model that ranks labels, else NULL: see runtime/rank.c

    // behind the engine's lock
    GQueue items;        // of vlm_item
    GPtrArray *answers;  // of vlm_answer: forked and not done
    GPtrArray *store;    // of vlm_buffer: picture and row buffers for reuse
    vlm_kv_seq *seq;
    uint32_t next_pos, prefix_pos;
    vlm_kv_seq *base;  // system prompt and examples; NULL = there are none, or not yet
    uint32_t base_pos;
    uint32_t film, film_first;  // the film that is being prefilled, where its first row sits
    uint32_t film_seen;         // the film of the last group that was prefilled
    GQueue units;               // what is let go at a time, oldest first: see remember_unit()
    guint n_film;               // units of the film
    guint n_waiting;            // groups not yet encoded
    gboolean in_step;
    gboolean cancelled;
    GError *failure;  // what an item met; given to the next caller
    vlm_session_stats stats;
};

// Work besides that of sessions, on the scheduler's thread and without the lock.
typedef struct vlm_engine_job {
    gboolean (*run)(vlm_engine *engine, gpointer data, GError **error);
    gpointer data;
    GError *error;
    gboolean ok, done;
} vlm_engine_job;

struct vlm_engine {
    gint n_ref;  // behind the table's lock
    char *key;
    char *tuning;    // vlm_tuning_describe(), behind `lock`
    gboolean tried;  // sizes of kernels: there are pipelines that nobody needs
    vlm_device *dev;
    vlm_model *model;
    vlm_kv_pool *pool;
    vlm_model_info *info;
    uint32_t max_tok;  // rows of a step
    uint32_t chunk;    // rows of one item in a step
    // Steps on the device at a time, 1 or 2: with 2, the next step of greedy answers is sent before
    // the tokens of this one are known to the host (runtime/step.c). Behind the lock, for tests.
    uint32_t steps_in_flight;

    GMutex lock;
    GCond work;     // the scheduler waits for it
    GCond changed;  // callers wait for it
    GThread *thread;
    gboolean quit;
    GError *failure;  // the device is gone
    GPtrArray *sessions;
    guint next_session;  // where the next step starts looking
    vlm_engine_job *job;
    uint64_t n_step, n_batched, n_ahead;

    // the scheduler's own
    vlm_cmd *cmd;
    vlm_batch *batch;
    vlm_buffer *scratch;         // decoder
    vlm_buffer *encode_scratch;  // vision tower, grows with the pictures
    vlm_buffer *logits;          // f32 [VLM_MAX_SEQUENCES, n_vocab], read by the host
    vlm_buffer *chosen;          // u32 [2, VLM_MAX_SEQUENCES]: tokens that the device chose
};

// scheduler.c: the thread's function; data is the engine.
gpointer vlm_scheduler_run(gpointer data);

// picture.c
// A buffer of at least `bytes` of the given use from the session's store, or a new one.
vlm_buffer *vlm_session_take_buffer(vlm_session *session, size_t bytes, vlm_memory_use use,
                                    GError **error);
// Lays out `image` and copies it to memory that the device reads.
vlm_buffer *vlm_picture_copy(vlm_session *session, const vlm_image *image, vlm_pixels *pixels,
                             GError **error);
// Lays out `image` and makes the caller's memory a buffer. NULL when it has to be copied.
vlm_buffer *vlm_picture_import(vlm_session *session, const vlm_image *image, vlm_pixels *pixels);
// Waits until no picture of the session lies in a caller's memory any more. With add_lock held.
gboolean vlm_picture_wait_read(vlm_session *session, GError **error);

// session.c
// Puts an item at the end of the queue, waiting for room when it is a picture. Takes the item. With
// add_lock held.
gboolean vlm_session_enqueue(vlm_session *session, vlm_item *item, GError **error);
// With the lock held: the error that a caller has to be given now, if any.
gboolean vlm_session_check(vlm_session *session, GError **error);
// With the lock held: waits until nothing is left to do.
gboolean vlm_session_wait_idle(vlm_session *session, GError **error);

// prefix.c
// All that the examples' tokens depend on, new; NULL without examples.
char *vlm_prefix_key(const vlm_session_params *params);
// Sets memory aside and begins: with the system prompt, or as another session did whose examples
// are the same. Errors: ARGS (too long for the context), DEVICE_MEMORY.
gboolean vlm_prefix_begin(vlm_session *session, const char *examples_key, GError **error);
// Begins again behind the examples, of which `base` is there. With the lock held.
void vlm_prefix_restore(vlm_session *session);
// Queues the system prompt and the beginning of the user's turn.
gboolean vlm_prefix_push(vlm_session *session, GError **error);
// Counts what is kept for good, which must leave room for an answer. With add_lock held.
// Errors: ARGS, `what` first.
gboolean vlm_prefix_charge(vlm_session *session, uint32_t n_tok, const char *what, GError **error);

// engine.c
// Has the scheduler run a job between its steps, and waits for it. Errors: the job's, DEVICE_LOST.
gboolean vlm_engine_run_job(vlm_engine *engine,
                            gboolean (*run)(vlm_engine *engine, gpointer data, GError **error),
                            gpointer data, GError **error);
// Errors: ARGS when pictures are given to a model without a vision file.
gboolean vlm_engine_check_vision(const vlm_engine *engine, GError **error);
gboolean vlm_engine_ensure_encode_scratch(vlm_engine *engine, uint64_t bytes, GError **error);

// answer.c
vlm_answer *vlm_answer_new(vlm_session *session, const vlm_generate_params *params);
void vlm_answer_free(vlm_answer *answer);  // accepts NULL
// Takes the logits of one row: chooses a token, keeps the record, says whether that was the last.
void vlm_answer_step(vlm_answer *answer, float *logits, uint32_t n_vocab);
// The same when the token has been chosen.
void vlm_answer_take(vlm_answer *answer, uint32_t token);
vlm_generation *vlm_answer_finish(vlm_answer *answer);

// rank.c: sessions of models that rank labels. The scheduler calls the last three: take and forget
// with the lock held, step with the lock held on entry and return.
// vlm_rank_begin() takes a session in; `examples_key` as vlm_session_params has it. Errors: ARGS.
gboolean vlm_rank_begin(vlm_session *session, const char *examples_key, GError **error);
// FALSE with ARGS for such a session, which has no turns.
gboolean vlm_rank_check_turn(const vlm_session *session, GError **error);
void vlm_rank_free(vlm_rank *rank);                              // accepts NULL
void vlm_rank_forget(vlm_rank *rank);                            // the pictures; labels stay
void vlm_rank_take(vlm_session *session, const vlm_item *item);  // an encoded picture
void vlm_rank_step(vlm_engine *engine);  // answers at the heads of the queues
// Splits a prompt into labels and, with a template, the texts that stand for them. Two arrays of
// char *, of one length, perhaps 0. Errors: ARGS (too many, too long).
gboolean vlm_rank_split(const char *prompt, GPtrArray **labels, GPtrArray **texts, GError **error);
void vlm_labels_free(vlm_label *labels, uint32_t n);

// info.c
vlm_model_info *vlm_info_of_model(vlm_model *model, const char *path, const char *mmproj,
                                  GError **error);
// Work memory of an engine whose steps have up to max_tok rows, before it has seen a frame.
uint64_t vlm_info_work_bytes(const vlm_model *model, const vlm_device *dev, uint32_t max_tok);
// The sizes in `info` that depend on the rows of a step.
void vlm_info_set_work(vlm_model_info *info, const vlm_model *model, const vlm_device *dev,
                       uint32_t max_tok);
uint32_t vlm_info_step_rows(const vlm_model_info *info, gboolean is_cpu);

// placement.c
// Memory for frames of 1280 x 720 that wait and are encoded.
uint64_t vlm_info_frame_bytes(const vlm_model *model);
// Bytes of device memory that an engine with these parameters may use, by them or by the
// environment; 0 = what is free.
uint64_t vlm_placement_limit(const vlm_engine_params *params);
// Decides how much of the experts goes on the device; sets the sizes of weights in engine->info to
// those on this device. Errors: MEMORY_LIMIT (the limit is less than what must be there), FORMAT.
gboolean vlm_placement_find(vlm_engine *engine, const vlm_engine_params *params,
                            vlm_upload_params *upload, GError **error);

#endif
