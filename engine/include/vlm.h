// SPDX-License-Identifier: LGPL-2.1-or-later
// vlm.h — a vision-language model that watches video.
//
// A vlm_engine is a loaded model on a device: weights, kernels, memory pools. It is shared: asking
// for the same files on the same device again gives the same engine. A vlm_session is one timeline
// watched by one engine: text, images and frames go in, in order, and stay in the model's context
// (the film so far); vlm_session_generate() forks that context, appends a prompt, decodes an answer
// and drops the fork, so the film is never encoded twice. When the film outgrows the context its
// oldest frames are let go.
//
//   engine = vlm_engine_open (&(vlm_engine_params){ .model = "model.gguf" }, &error);
//   session = vlm_session_create (engine, &(vlm_session_params){ 0 }, &error);
//   vlm_session_add_frame (session, &image, time_ns, &error);       // again and again
//   answer = vlm_session_generate (session, &(vlm_generate_params){
//                                    .prompt = "What happens?", .max_tokens = 64 }, &error);
//
// Parameter structs need only live until the call returns; zero means the default for every field.
// Functions that can fail take a GError ** last (domain VLM_ERROR). Calls that block say so, and
// vlm_session_cancel() wakes them. Nothing here mentions tensors, Vulkan or GStreamer.
#ifndef VLM_H
#define VLM_H

#include <glib.h>
#include <stdint.h>

G_BEGIN_DECLS

// Error domain of every function that takes a GError **.
#define VLM_ERROR (vlm_error_quark())
GQuark vlm_error_quark(void);

// What a caller can act upon. The message says what happened, with the numbers in it.
typedef enum vlm_error_code {
    VLM_ERROR_ARGS,           // a value breaks a documented "must"
    VLM_ERROR_NOT_FOUND,      // file, device, kernel or tensor is absent
    VLM_ERROR_FORMAT,         // file is present but malformed or unsupported
    VLM_ERROR_NO_DEVICE,      // no Vulkan device has the required features
    VLM_ERROR_DEVICE_MEMORY,  // weights, cache or scratch do not fit
    VLM_ERROR_MEMORY_LIMIT,   // in place of DEVICE_MEMORY: it is vlm_engine_params.device_memory
                              // that is too low
    VLM_ERROR_DEVICE_LOST,    // the engine is dead: drop it and open it again
    VLM_ERROR_DRIVER,         // any other Vulkan failure
    VLM_ERROR_CANCELLED,      // vlm_session_cancel() was called
} vlm_error_code;

// ---------------------------------------------------------------------------------- devices

typedef struct vlm_device_entry {
    char *name;
    char *driver;
    const char *type;       // "discrete GPU", "integrated GPU", "virtual GPU", "CPU", "other"
    uint64_t memory_bytes;  // largest device-local heap
    char *unusable;         // why it can't be used, NULL when it can
} vlm_device_entry;

// One vlm_device_entry per Vulkan device, in Vulkan's order; the index is what
// vlm_engine_params.device takes. Free with g_ptr_array_unref(). Errors: NO_DEVICE.
GPtrArray *vlm_device_list(GError **error);

// ---------------------------------------------------------------------------------- images

typedef enum vlm_pixel_format {
    VLM_PIXEL_RGB,  // packed, 3 bytes, in the order of the letters
    VLM_PIXEL_BGR,
    VLM_PIXEL_RGBX,  // packed, 4 bytes; X or alpha is ignored
    VLM_PIXEL_BGRX,
    VLM_PIXEL_XRGB,
    VLM_PIXEL_XBGR,
    VLM_PIXEL_GRAY8,
    VLM_PIXEL_I420,  // planes Y, U, V; chroma halved both ways, sides rounded up
    VLM_PIXEL_YV12,  // planes Y, V, U
    VLM_PIXEL_NV12,  // planes Y, UV interleaved
    VLM_PIXEL_NV21,  // planes Y, VU interleaved
    VLM_PIXEL_YUY2,  // packed Y0 U Y1 V
    VLM_PIXEL_UYVY,  // packed U Y0 V Y1
    VLM_N_PIXEL_FORMAT
} vlm_pixel_format;

typedef enum vlm_color_matrix {
    VLM_MATRIX_BT601,  // default
    VLM_MATRIX_BT709,
    VLM_MATRIX_BT2020,
} vlm_color_matrix;

#define VLM_MAX_SIDE 16384u  // pixels

// Memory with a file descriptor that devices can read (a DMA-BUF), mapped in this process.
typedef struct vlm_dmabuf {
    int fd;              // the caller's; needed only during the call
    const uint8_t *map;  // where its byte 0 is mapped
} vlm_dmabuf;

// A picture in the caller's memory.
typedef struct vlm_image {
    vlm_pixel_format format;
    uint32_t width, height;   // pixels, 1 to VLM_MAX_SIDE
    const uint8_t *plane[3];  // first byte of each plane the format has
    uint32_t stride[3];       // bytes between rows, at least a row
    vlm_color_matrix matrix;  // for YUV formats
    gboolean full_range;      // for YUV and grey: 0..255 instead of 16..235/240
    // vlm_session_add_frame() may wait until the device has read the picture where it is. It does
    // so when nothing else is to be done first, and copies otherwise.
    gboolean lent;
    // What all planes of a lent picture lie in, to be read through its descriptor by devices that
    // import DMA-BUFs; NULL = ordinary memory.
    const vlm_dmabuf *dmabuf;
} vlm_image;

// ---------------------------------------------------------------------------------- model names
//
// A model is named by the path of its text GGUF (of the first part, when it is in several files),
// by a folder that holds one model, or by "hf:ORG/REPO[:QUANT]", a repository of a model hub.
// Nothing here uses the network: a hub name is looked up in the caches of this machine. Whatever
// begins with VLM_HUB_PREFIX is one; write "./hf:..." for a file that is called so.

#define VLM_HUB_PREFIX "hf:"

// Whether a model is to have its vision file (mmproj). Without one a model of text answers about
// text only.
typedef enum vlm_vision {
    VLM_VISION_REQUIRED,  // default
    VLM_VISION_OPTIONAL,  // taken when it is there, and not that of another model
    VLM_VISION_NONE,      // not taken even so
} vlm_vision;

// Finds the files of a model. *model_path becomes the text GGUF. *mmproj_path becomes `mmproj` when
// that is not NULL or "", else the vision GGUF found: beside a file or in the folder (see
// vlm_find_mmproj()), in the same repository of a hub (F16, BF16, Q8_0, F32 in that order). With
// `mmproj` given the model's own need not be there. Where `vision` allows that there is none,
// *mmproj_path may become NULL. New strings; untouched on failure.
// A hub name without QUANT takes, of what is here, the first of Q4_K_M, Q8_0, Q6_K, Q5_K_M, Q5_K_S,
// Q4_K_S, Q4_0, F16, BF16, F32, any other; among several of one kind the shortest name, then
// the first by the alphabet. Errors: NOT_FOUND (says what to do), ARGS (no hub name; a folder
// of several models).
gboolean vlm_model_find(const char *name, const char *mmproj, vlm_vision vision, char **model_path,
                        char **mmproj_path, GError **error);

// "hf:ORG/REPO[:QUANT]" taken apart.
typedef struct vlm_hub_name {
    char *org, *repo;
    char *quant;  // as written; NULL without
} vlm_hub_name;

// Errors: ARGS. Free with vlm_hub_name_free().
vlm_hub_name *vlm_hub_name_parse(const char *name, GError **error);
void vlm_hub_name_free(vlm_hub_name *name);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_hub_name, vlm_hub_name_free)

// Chooses from the files of a repository (paths relative to it) by the rules above: the text GGUF,
// all its parts in order, then the vision GGUF when `with_mmproj`. Paths that would leave a folder,
// or have control characters, are passed over. Returns new strings, free with g_strfreev().
// Errors: NOT_FOUND (says what is missing and what is there).
char **vlm_hub_choose(const char *const *files, const char *quant, gboolean with_mmproj,
                      GError **error);

// Where hub models lie and come from, by environment and defaults.
typedef struct vlm_hub_places {
    char *cache;        // Hugging Face's layout; others read and write it too
    char *llama_cache;  // llama.cpp's, flat
    char *endpoint;     // base URL without a slash at its end
    char *token;        // NULL = none
    gboolean offline;   // the person wants no network
} vlm_hub_places;

vlm_hub_places *vlm_hub_places_get(void);  // free with vlm_hub_places_free()
void vlm_hub_places_free(vlm_hub_places *places);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_hub_places, vlm_hub_places_free)

// ---------------------------------------------------------------------------------- model files

// How keys and values are kept in a context.
typedef enum vlm_kv_type {
    VLM_KV_F16,  // default
    VLM_KV_F32,  // for exact comparisons
    VLM_KV_Q8,   // blocks of 32 of 8 bits and a scale: half of f16, hardly less exact
    VLM_KV_Q4,   // blocks of 32 of 4 bits and a scale: little more than a quarter of f16
    VLM_N_KV_TYPE,
} vlm_kv_type;

// "f16", "f32", "q8", "q4".
const char *vlm_kv_type_name(vlm_kv_type type);

// What a model file says about itself, without opening a device. Strings are owned by the struct.
typedef struct vlm_model_info {
    char *path, *mmproj_path;  // the second is NULL for text by itself, and so is the projector
    char *architecture;        // "qwen3vl", "qwen3vlmoe", ...
    char *name;                // general.name, may be NULL
    char *projector;           // "qwen3vl_merger"
    char *quantisation;        // e.g. "Q8_0 (142 tensors), F32 (61 tensors)"
    uint64_t n_parameters;     // both files
    uint64_t n_active;         // parameters used per token (sparse experts)
    uint64_t file_bytes;       // both files
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_vocab, context_length;
    uint32_t n_expert, n_expert_used;
    uint32_t n_recurrent;  // layers that keep a state of fixed size, not keys and values
    uint32_t vision_layers, vision_embd, patch_size, merge_size;
    uint64_t weight_bytes;  // on the device
    uint64_t expert_bytes;  // of these, of sparse experts; they need not all be there
    uint64_t kv_bytes_per_token[VLM_N_KV_TYPE];
    uint64_t state_bytes;    // what recurrent layers of one session remember
    uint64_t scratch_bytes;  // work memory of one engine, without that for its frames
    uint64_t picture_bytes[VLM_N_KV_TYPE];  // of a session, beside its context; 0 for most models
    uint64_t frame_bytes;         // of a session whose frames are 1280 x 720, beside its context
    uint64_t expert_table_bytes;  // what it takes to have experts that are not on the device
    gboolean wants_film_length;   // film_frames and film_duration change its prompt
    // A dual encoder (CLIP, SigLIP): it has no decoder and ranks the labels that a prompt lists.
    // n_embd is the width of the space, the other sizes are those of the text tower.
    gboolean ranks_labels;
} vlm_model_info;

// `model`, `mmproj` and `vision`: as for vlm_model_find().
// Errors: ARGS, NOT_FOUND, FORMAT. Free with vlm_model_info_free().
vlm_model_info *vlm_model_info_read(const char *model, const char *mmproj, vlm_vision vision,
                                    GError **error);
void vlm_model_info_free(vlm_model_info *info);
// Device memory that one session with a context of so many tokens sets aside.
uint64_t vlm_model_context_bytes(const vlm_model_info *info, vlm_kv_type type,
                                 uint32_t context_size);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_model_info, vlm_model_info_free)

// What goes where on a device with so much memory. Experts of a sparse model that does not fit stay
// in the host's memory, all of them, and slots on the device hold copies of those that are chosen
// most.
typedef struct vlm_placement {
    uint64_t needed_bytes;  // must be on the device: other weights, work memory, frames, context
    uint64_t device_bytes;  // experts on the device, all or copies
    uint64_t host_bytes;    // experts in the host's memory; 0 = all are on the device
} vlm_placement;

// `context_size` 0 = the smaller of 8192 and the model's own.
// Errors: DEVICE_MEMORY (what must be on the device is more than memory_bytes).
gboolean vlm_model_place(const vlm_model_info *info, vlm_kv_type type, uint32_t context_size,
                         uint64_t memory_bytes, vlm_placement *placement, GError **error);

// The mmproj file that belongs to `model`: a file of the same folder whose name contains "mmproj"
// and ends in ".gguf"; among several, one that shares the longest beginning with the model's name
// once "mmproj-" is taken off. Returns a new string. Errors: NOT_FOUND (says where it looked).
char *vlm_find_mmproj(const char *model, GError **error);

// The model used when none is asked for: $VLM_MODEL (any name of a model), else the one installed
// with the plugin, else the one in the source tree this library was built from. A new string.
// Errors: NOT_FOUND.
char *vlm_default_model(GError **error);

// A model that is on this machine.
typedef struct vlm_model_entry {
    char *name;          // as vlm_model_find() takes it
    const char *place;   // "default", "hub cache", "llama.cpp cache" or "folder"
    char *path;          // the text GGUF
    char *mmproj_path;   // the vision GGUF that is taken with it, NULL when there is none
    char *architecture;  // NULL when the file can't be read
    char *quantisation;  // from the name, else the type that most tensors have; NULL as above
    uint64_t file_bytes;
    gboolean supported;  // architecture and types are ones that the engine knows
    gboolean text_only;  // it can be used without its vision file, which is not there
    char *problem;       // why it can't be used for pictures as it is; NULL when it can
} vlm_model_entry;

// The default model, what the caches of hubs hold, and what each of `folders` holds directly
// (NULL-terminated, may be NULL). Reads the metadata of every text GGUF. An array of
// vlm_model_entry, free with g_ptr_array_unref(). Errors: NOT_FOUND (a folder is not there).
GPtrArray *vlm_model_list(const char *const *folders, GError **error);

// ---------------------------------------------------------------------------------- engine

typedef struct vlm_engine vlm_engine;

typedef struct vlm_engine_params {
    const char *model;   // as vlm_model_find() takes it; NULL = vlm_default_model()
    const char *mmproj;  // path of the vision GGUF; NULL = found with the model
    vlm_vision vision;   // whether it must be there
    const char *device;  // NULL or "" = the best; "N" = index of vlm_device_list(); else a part of
                         // the device's name
    vlm_kv_type kv_type;
    // Bytes of device memory that this engine may use; 0 = VLM_DEVICE_MEMORY (MiB) in the
    // environment, else what is free. Experts of a sparse model that don't fit stay with the host,
    // see vlm_placement; what must be on the device has to fit. Engines with different limits are
    // different engines, each with its own weights.
    uint64_t device_memory;
    uint32_t context_size;  // for which room is kept then; 0 = as for vlm_session_params
    gboolean validate;      // load the Khronos validation layer when it is installed
    // Called while loading with 0.0 to 1.0; returning FALSE cancels. May be NULL.
    gboolean (*on_progress)(double fraction, gpointer user_data);
    gpointer user_data;
} vlm_engine_params;

// Opens a model, or takes another reference on the engine that has the same files on the same
// device with the same options. Blocks while weights are uploaded; a second caller that wants the
// same engine meanwhile waits for the first.
// Errors: ARGS, NOT_FOUND, FORMAT, NO_DEVICE, DEVICE_MEMORY, MEMORY_LIMIT (the message says what
// is the least), DEVICE_LOST, DRIVER, CANCELLED.
// Thread-safety: any thread.
vlm_engine *vlm_engine_open(const vlm_engine_params *params, GError **error);
vlm_engine *vlm_engine_ref(vlm_engine *engine);
void vlm_engine_unref(vlm_engine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_engine, vlm_engine_unref)

// What was loaded; valid as long as the engine. Thread-safety: any thread.
const vlm_model_info *vlm_engine_get_info(vlm_engine *engine);
const char *vlm_engine_get_device_name(vlm_engine *engine);
vlm_kv_type vlm_engine_get_kv_type(vlm_engine *engine);

typedef struct vlm_engine_stats {
    uint64_t weight_bytes, kv_bytes, scratch_bytes, total_bytes;  // device memory in use
    uint64_t host_bytes;  // memory of the host that the device reads weights from
    // Of a model whose experts are not all on the device, else 0: all of them, with the host; room
    // for copies on the device; experts that steps read there, that they read from the host, and
    // that were copied from here to there since the model was loaded.
    uint64_t expert_host_bytes, expert_slot_bytes;
    uint64_t n_expert_hit, n_expert_miss, n_expert_moved;
    uint64_t n_upload;  // weight uploads in this process since its start (all engines)
    uint64_t n_dispatch, n_submit, n_wait, n_alloc, n_pipeline;  // since the device was opened
    uint64_t
        n_read;  // bytes of weights that products read since then; an upper bound where experts
                 // of many tokens share tiles
    uint64_t n_record, n_replay;  // submits whose commands were recorded, or had been before
    uint64_t n_step;              // scheduler steps
    uint64_t n_batched;           // steps that served more than one session
    uint64_t n_ahead;       // steps that were sent before the tokens they go on from were seen
    uint64_t n_validation;  // messages of the validation layer
} vlm_engine_stats;
void vlm_engine_get_stats(vlm_engine *engine, vlm_engine_stats *stats);

// Token ids of `text` with the model's tokenizer; special tokens written out are recognised when
// `parse_special`. Returns an array of uint32_t; free with g_array_unref(). Thread-safety: any.
GArray *vlm_engine_tokenize(vlm_engine *engine, const char *text, gboolean parse_special,
                            GError **error);

// TRUE when the model's texts begin with a token of their own (BOS): this one.
// vlm_engine_tokenize() doesn't write it. Thread-safety: any.
gboolean vlm_engine_start_token(vlm_engine *engine, uint32_t *id);

// ---------------------------------------------------------------------------------- session

typedef struct vlm_session vlm_session;

typedef struct vlm_session_params {
    uint32_t context_size;      // tokens kept for this session, film and answer together, 256 to
                                // 16777216; 0 = the smaller of 8192 and the model's own
    const char *system_prompt;  // NULL or "" = the one that the model's template has, if any
    uint32_t film_frames;       // frames of a film whose length is known: short films get larger
                                // frames, by the model's own rule; 0 = a stream
    gint64 film_duration;       // nanoseconds, for models that want it told; 0 = not known
    uint32_t max_pixels;        // a frame is scaled down to at most this many; 0 = the model's own
    gboolean raw;  // no conversation: what is added is all that the model gets, special
                   // tokens written in it count, and an answer goes on from there
    // Not NULL: the session begins with examples, see vlm_session_end_examples(). The key stands
    // for all that they are made of: a session that finds them in another one of its engine, with
    // the same key and system prompt, shares them. "" = shared with nobody.
    const char *examples_key;
} vlm_session_params;

// Errors: ARGS (context too small for system prompt and shared examples; raw with a system prompt;
// not raw with a model whose chat format isn't known), DEVICE_MEMORY. Thread-safety: any.
vlm_session *vlm_session_create(vlm_engine *engine, const vlm_session_params *params,
                                GError **error);
// Cancels what runs and frees. No other call on the session may be in progress, except those that
// a preceding vlm_session_cancel() is making return. Accepts NULL.
void vlm_session_destroy(vlm_session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_session, vlm_session_destroy)

// The ways to add to the user's turn. All copy before they return, keep the order of the
// calls, and block while more than a few pictures wait to be encoded.
// Errors: ARGS (size, format, invalid UTF-8, larger than the context, pictures for a model without
// a vision file), CANCELLED, DEVICE_LOST, DRIVER (also what an earlier picture met while it was
// encoded).
// Thread-safety: any thread; the order is the order of the calls.

gboolean vlm_session_add_text(vlm_session *session, const char *text, GError **error);
gboolean vlm_session_add_image(vlm_session *session, const vlm_image *image, GError **error);
// A frame of the film at `time_ns` (nanoseconds >= 0 since the start of the film). Frames are
// encoded in the groups that the model wants (pairs for Qwen3-VL), with the model's own timestamp
// text; a frame without its partner waits for it. A change of the picture's size makes a new group,
// a time before the last group's a new film.
gboolean vlm_session_add_frame(vlm_session *session, const vlm_image *image, gint64 time_ns,
                               GError **error);
// Completes a group that lacks frames by repeating the last one, as do text, pictures and answers
// that come next.
gboolean vlm_session_end_film(vlm_session *session, GError **error);
// The frames that follow, up to the next answer, are a film of their own of this length, instead of
// what vlm_session_params says about films.
gboolean vlm_session_begin_film(vlm_session *session, uint32_t n_frames, gint64 duration_ns,
                                GError **error);
// Ends the user's turn with an answer that is known already, and begins the next turn: the history
// of a conversation, or an example. Completes a group that lacks frames.
gboolean vlm_session_add_answer(vlm_session *session, const char *text, GError **error);

// Examples are turns with their answers at the beginning of a session made with an examples_key:
// all that is added until vlm_session_end_examples(), which waits until they are in the context.
// They are kept like the system prompt: a film that outgrows the context doesn't push them out,
// vlm_session_reset() leaves them. (When they weren't ended yet it forgets them: add them again.)
// Before their end nothing is answered. Of films in them a model that looks at the newest frames
// alone gets these.
// Errors: ARGS (an example without an answer; vlm_session_add_...(): more than fit the context),
// CANCELLED, DEVICE_LOST, DRIVER.
gboolean vlm_session_end_examples(vlm_session *session, GError **error);
// TRUE when they are in the context: ended, or shared with another session.
gboolean vlm_session_has_examples(vlm_session *session);

// Waits until everything added so far is in the context. Errors: as above.
gboolean vlm_session_wait(vlm_session *session, GError **error);

typedef struct vlm_sampling {
    double temperature;  // 0 = greedy (default), up to 5
    uint32_t top_k;      // 0 = off
    double top_p;        // 0 or 1 = off
    double min_p;        // 0 = off
    uint64_t seed;       // same seed, same input, same device: same answer
} vlm_sampling;

typedef struct vlm_top_logit {
    uint32_t token;
    float logit;
} vlm_top_logit;

typedef enum vlm_finish {
    VLM_FINISH_STOP,    // the model ended its answer
    VLM_FINISH_LENGTH,  // max_tokens, or the context is full
} vlm_finish;

typedef struct vlm_generate_params {
    const char *prompt;  // appended to the user's turn in the fork; may be NULL or ""
    vlm_sampling sampling;
    uint32_t max_tokens;     // 0 = 256
    uint32_t n_top_logits;   // per generated token, 0 to 1000
    gboolean keep;           // leave prompt and answer in the session (conversation)
    gboolean ignore_stop;    // go on past the end-of-answer token (tests, benchmarks)
    const uint32_t *banned;  // token ids that are never chosen
    uint32_t n_banned;
    // For models that rank labels: only frames from this time on count (nanoseconds since the start
    // of the film, 0 = all that the session remembers; where there are none, the newest picture
    // does); how many labels the text names, 0 = 5.
    gint64 since_ns;
    uint32_t n_labels;
    // Called for each piece of valid UTF-8 as it is decoded, from the thread that waits in
    // vlm_session_generate(), without locks held. May be NULL.
    void (*on_text)(const char *utf8, gpointer user_data);
    gpointer user_data;
} vlm_generate_params;

// A label and how well it fits.
typedef struct vlm_label {
    char *label;         // as it stands in the prompt, without its template
    double probability;  // CLIP: that it is this one of the labels; SigLIP: that it fits
    double logit;
} vlm_label;

typedef struct vlm_generation {
    char *text;        // valid UTF-8, special tokens left out
    uint32_t *tokens;  // without the end-of-answer token
    uint32_t n_tokens;
    uint32_t n_prompt;   // tokens prefilled for this call
    uint32_t n_context;  // tokens of film and prompt that the answer could look at
    vlm_finish finish;
    gint64 us_total;     // from the call to the last token
    gint64 us_first;     // from the call to the first token
    vlm_top_logit *top;  // [n_tokens][n_top_logits], largest first; NULL without
    uint32_t n_top_logits;
    vlm_label *labels;  // of a model that ranks labels: all of them, the best first; else NULL
    uint32_t n_labels;
} vlm_generation;

// Answers a prompt about everything added before the call (a group of frames that lacks a partner
// is not looked at). Blocks. Several may run at once, also on one session: they are batched.
// Errors: ARGS (prompt too long for the context, or empty where there is nothing else; invalid
// UTF-8), CANCELLED, DEVICE_LOST, DRIVER.
// Thread-safety: any thread. Free with vlm_generation_free().
//
// A model that ranks labels (vlm_model_info.ranks_labels) takes the prompt for a list of labels:
// one a line, or separated by commas when it is one line; blanks around them, empty ones and
// repetitions don't count. "a photo of a {}: cat, dog" compares with "a photo of a cat" and "a
// photo of a dog": what comes before the first colon is a template when it has {}. The picture
// that is compared is the mean of all images and of the frames from `since_ns` on; the text is
// "cat 97.1 %, dog 2.9 %", the best labels. No sampling, system prompt, text of the session nor
// `keep` counts. Labels are encoded once for a session. Errors: ARGS (no picture, no label, more
// than VLM_MAX_LABELS).
#define VLM_MAX_LABELS 65536u
vlm_generation *vlm_session_generate(vlm_session *session, const vlm_generate_params *params,
                                     GError **error);
void vlm_generation_free(vlm_generation *generation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_generation, vlm_generation_free)

// Makes all blocking calls on the session return CANCELLED soon (at most the step that runs), and
// those that follow at once, until vlm_session_reset(). Thread-safety: any thread, never blocks.
void vlm_session_cancel(vlm_session *session);

// Forgets the film and the conversation, keeps system prompt and examples; undoes a cancel. Blocks
// until the step that runs is over. Must: no other call on the session in progress.
gboolean vlm_session_reset(vlm_session *session, GError **error);

typedef struct vlm_session_stats {
    uint64_t n_frames;      // frames and images encoded
    uint64_t n_in_place;    // frames that the device read where they were (vlm_image.lent)
    uint64_t copied_bytes;  // of pictures, by the host
    uint64_t n_prefilled;   // tokens put into the context
    uint64_t n_generated;   // tokens decoded
    uint64_t n_evicted;     // tokens of the film let go
    uint64_t n_generations;
    uint32_t context_used;  // tokens in the film now
    uint32_t context_kept;  // of these, what is never let go: system prompt, examples
    uint32_t context_size;
    double ms_preprocess, ms_encode, ms_prefill, ms_decode;  // this session's share of the work
} vlm_session_stats;
void vlm_session_get_stats(vlm_session *session, vlm_session_stats *stats);

// ---------------------------------------------------------------------------------- scoring

// Natural logarithms of the probabilities that the model gives tokens[first] to tokens[n - 1], each
// after all those before it, into logprobs [n - first]. Runs on the engine's own thread, between
// the work of sessions. Blocks. Errors: ARGS (not 1 <= first < n <= 2^24; an id outside the
// vocabulary), DEVICE_MEMORY, DEVICE_LOST, DRIVER. Thread-safety: any.
gboolean vlm_engine_score(vlm_engine *engine, const uint32_t *tokens, uint32_t n, uint32_t first,
                          double *logprobs, GError **error);

// ---------------------------------------------------------------------------------- benchmark

typedef struct vlm_bench_params {
    uint32_t n_prompt;       // tokens to prefill, 0 = none
    uint32_t n_decode;       // tokens to decode per sequence, 0 = none
    uint32_t depth;          // tokens already in the context
    uint32_t n_batch;        // sequences decoded together, 0 = 1
    uint32_t width, height;  // pixels of the frames to encode, 0 = none
    uint32_t n_frames;       // frames to encode, rounded up to whole groups
    gboolean profile;        // measure stages; each dispatch then takes a little longer
} vlm_bench_params;

#define VLM_BENCH_MAX_STAGES 48

// Dispatches of one stage by the device's clock: the time from the end of the dispatch before.
typedef struct vlm_bench_stage {
    const char *name;  // static
    uint64_t n_dispatch;
    double ms;
} vlm_bench_stage;

typedef struct vlm_bench_result {
    double prefill_seconds, decode_seconds;
    double encode_seconds;      // with the preprocessing
    double preprocess_seconds;  // by the device's clock, 0 where it has none
    uint32_t n_visual_tokens;   // tokens per group of frames
    uint64_t decode_dispatches, decode_allocs, decode_pipelines, decode_waits;  // per decode step
    uint64_t decode_read;                          // bytes of weights, likewise
    uint64_t decode_records, decode_replays;       // submits of all steps: recorded, repeated
    vlm_bench_stage stages[VLM_BENCH_MAX_STAGES];  // of the last part: prefill, decode, encode
    uint32_t n_stage;                              // 0 without `profile`
} vlm_bench_result;

// Runs on the engine's own thread, between the work of sessions. Blocks. Errors: ARGS (frames for a
// model without a vision file), DEVICE_MEMORY, DEVICE_LOST, DRIVER.
gboolean vlm_engine_bench(vlm_engine *engine, const vlm_bench_params *params,
                          vlm_bench_result *result, GError **error);

// -------------------------------------------------------------------------------------- tuning
//
// Kernels have sizes (rows of a workgroup, pieces of a split sum) whose best values differ from
// device to device. Without a tuning all have defaults. A tuning is measured when somebody asks,
// kept in the cache folder for this device, driver and shape of model, and used by every engine
// that is opened for them from then on. It changes how sums are split, and so their rounding.

// What is measured. 0 stands for a default that fits the kind of device.
typedef struct vlm_tune_params {
    uint32_t n_prompt;       // tokens of a prefill
    uint32_t n_decode;       // tokens decoded per sequence
    uint32_t n_batch;        // sequences decoded together
    uint32_t depth;          // tokens in the long context
    uint32_t width, height;  // pixels of a frame
    uint32_t n_round;        // of measurements, in turns; the best of them counts
    // Before each measurement, from the calling thread; value 0: all sizes. NULL = none.
    void (*on_trial)(const char *name, uint32_t value, uint32_t n_done, uint32_t n_all,
                     gpointer user_data);
    gpointer user_data;
} vlm_tune_params;

#define VLM_TUNE_MAX_SIZES 32
#define VLM_TUNE_MAX_PARTS 8

// One size of kernels.
typedef struct vlm_tune_size {
    const char *name, *help;  // static
    uint32_t otherwise;       // without a tuning
    uint32_t value;           // the best
    double gain;              // speed with `value` over that with `otherwise`, by itself
} vlm_tune_size;

// One thing that was measured in the end, all sizes together.
typedef struct vlm_tune_part {
    const char *name;       // static: "prefill", "decode", ...
    double seconds, tuned;  // the best of the rounds without and with the tuning
} vlm_tune_part;

typedef struct vlm_tune_result {
    vlm_tune_size sizes[VLM_TUNE_MAX_SIZES];  // those that this device has a use for
    uint32_t n_size;
    vlm_tune_part parts[VLM_TUNE_MAX_PARTS];
    uint32_t n_part;
    gboolean kept;  // FALSE: the defaults are as fast, any tuning there was is gone
    char *path;     // of the file, for the caller to g_free(); NULL unless kept
} vlm_tune_result;

// Measures the sizes one after the other and keeps what is faster by more than the noise of
// measuring. The engine works on with the result. Blocks, for minutes with large models; sessions
// that work meanwhile make the result worse. After an error all is as before. Errors: ARGS,
// NOT_FOUND (no cache folder, or it can't be written to), DEVICE_MEMORY, DEVICE_LOST, DRIVER.
// Thread-safety: any, but one tuning of an engine at a time.
gboolean vlm_engine_tune(vlm_engine *engine, const vlm_tune_params *params, vlm_tune_result *result,
                         GError **error);

// Goes back to the defaults and forgets the tuning. Errors: NOT_FOUND (the file can't be removed).
gboolean vlm_engine_untune(vlm_engine *engine, GError **error);

// The sizes that differ from the defaults, "name=value,name=value"; "" for none. VLM_TUNING takes
// the same. Free with g_free(). Thread-safety: any.
char *vlm_engine_get_tuning(vlm_engine *engine);

G_END_DECLS

#endif
