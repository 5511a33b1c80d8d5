// SPDX-License-Identifier: LGPL-2.1-or-later
// model/family.h — what a model family provides: the one table between names and graphs.
//
// A family is a decoder architecture with the vision tower and the prompt protocol that go with it.
// Nothing outside its file asks which one it is.
#ifndef VLM_MODEL_FAMILY_H
#define VLM_MODEL_FAMILY_H

#include "model/batch.h"
#include "model/gguf.h"
#include "model/mmproj_hparams.h"
#include "model/scratch.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "ops/pixels.h"

typedef struct vlm_model vlm_model;

// Sizes that the runtime needs, filled by a family from its files.
typedef struct vlm_model_sizes {
    uint32_t n_layer, n_embd, n_vocab, n_ctx_train;
    uint32_t n_head, n_head_kv, head_dim;
    uint32_t n_expert, n_expert_used;
    uint32_t n_recurrent;  // layers that keep a state of fixed size, not keys and values
    uint64_t state_bytes;  // what these remember of a sequence, all together; a multiple of 4
    uint32_t n_cross;      // layers that look at pictures beside the sequence
    uint32_t cross_rows;   // most rows of one picture that they look at
    uint32_t vision_layers, vision_embd;
    uint32_t patch, merge;  // pixels of a patch's side, patches of a token's side
    uint32_t group_frames;  // frames that are encoded together
    uint32_t film_groups;   // groups of a film that stay in the context; 0 = all that fit
    uint32_t n_planes;      // 1 + DeepStack rows per visual token
} vlm_model_sizes;

// How pictures are to be shown.
typedef struct vlm_showing {
    gboolean is_still;
    uint32_t film_frames;  // of a film of known length, else 0
    uint64_t max_pixels;   // the caller's limit of a frame; 0 = none
} vlm_showing;

// What becomes of a picture: the grid of patches of each part, and for stills that are cut up the
// tiles; behind them comes the picture as a whole. 0 tiles: only that. Rows that are looked at
// beside the sequence don't enter it: then n_cross is their number and the last token of
// vlm_protocol.visual_open stands for the picture.
typedef struct vlm_plan {
    uint32_t grid_h, grid_w;
    uint32_t tile_rows, tile_cols;
    uint32_t n_cross;
} vlm_plan;

// One of the parts: row and column count from 1; 0 for the picture as a whole.
typedef struct vlm_tile {
    uint32_t row, col, rows, cols;
} vlm_tile;

// A group of frames (or one still image) to encode: all of one size.
typedef struct vlm_picture_group {
    uint32_t n_picture;           // 1 (a still image) to group_frames
    uint64_t picture[4];          // device address of each
    const vlm_pixels *pixels[4];  // its layout
    uint32_t grid_h, grid_w;      // patches after the resize; multiples of merge
    gboolean is_still;
    vlm_tile tile;  // the part of a still
    uint64_t out;   // f32 [n_planes][grid_h * grid_w / merge^2][n_embd], or [n_cross][n_embd]
} vlm_picture_group;

// What happened inside, for tests: filled when given.
typedef struct vlm_trace {
    uint64_t layers;  // device address of f32 [n_layer][n_tok][n_embd]: each layer's output
                      // before DeepStack rows are added; 0 = none
    uint64_t pixels;  // f32 [n_patch, columns] as they go into the tower; 0 = none
} vlm_trace;

// Moments of an encoding, numbers for vlm_cmd_stamp().
typedef enum vlm_encode_stamp {
    VLM_STAMP_START,
    VLM_STAMP_PIXELS,  // preprocessing is done
    VLM_STAMP_END,
} vlm_encode_stamp;

// A special token within a text that is joined with others; outside text can't hold such a byte.
#define VLM_SPECIAL(token) "\xff" token "\xff"

// Texts around the parts of a conversation; special tokens are written out.
typedef struct vlm_protocol {
    const char *system_open, *system_close;  // around the system prompt, when there is one
    const char *system_default;              // what it is when none is given; NULL = none
    const char *user_open;                   // before the user's turn
    const char *user_next;         // the same when something came before it; NULL = user_open
    const char *system_text_open;  // before the system prompt's text; NULL = nothing
    const char *text_open;         // before a text with which a turn begins; NULL = nothing
    const char *still_open;        // before a still with which a turn begins; NULL = nothing
    const char *answer_open;       // ends the user's turn, starts the answer; NULL: no conversation
                                   // is known, only raw text goes
    const char *known_open;        // the same before an answer that is given, not asked for; NULL =
                                   // answer_open
    const char *answer_close;      // after the answer
    const char *visual_open, *visual_close;  // around the rows of a picture
    const char *visual_next;  // text behind a picture, joined with what follows; NULL = nothing
    const char *group_open, *group_close;   // of a group of frames; NULL = the same
    const char *image_token, *video_token;  // stand for one row; never decoded
    const char *const *specials;  // more tokens that the vocabulary must have; NULL = none
    // Instead of visual_open, new. Tiles are not followed by visual_close. NULL: no tiles.
    char *(*tile_open)(const vlm_tile *tile);
    // The text before the first frame, new, and behind the last, with VLM_SPECIAL() tokens; NULL =
    // nothing. Frames and nanoseconds are 0 when they are not known.
    char *(*film_open)(uint32_t n_frames, gint64 duration);
    const char *film_close;
    gboolean tells_length;  // film_open uses its arguments
    // The text before a group of frames, new; times in nanoseconds since the film's start.
    char *(*group_label)(const gint64 *times, uint32_t n);
} vlm_protocol;

// A grid of rows x cols tokens and where it sits.
typedef struct vlm_grid {
    uint32_t rows, cols;
    uint32_t first;  // the position that a word would have there
    gboolean is_still;
    // of a group of frames:
    uint32_t film_first;  // `first` of the film's first group
    uint32_t film_group;  // how many groups of the film come before
    gint64 film_time;     // nanoseconds from the film's first frame to the first of the group
} vlm_grid;

// Labels to encode together: n_label rows of n_tok tokens.
typedef struct vlm_labels {
    const uint32_t *ids;  // [n_label, n_tok]; what follows a label's own tokens is not looked at
    const uint32_t *len;  // [n_label]: tokens of each, 1 to n_tok
    uint32_t n_label, n_tok;
} vlm_labels;

// What a dual encoder has in the place of a decoder: labels become vectors of the space that
// vlm_family.encode puts pictures in, one row of sizes.n_embd each.
typedef struct vlm_ranker {
    // TRUE when a file of the architecture has the text tower of such a model.
    gboolean (*is_one)(const vlm_gguf *text);
    // TRUE when a file has the tower for pictures.
    gboolean (*has_vision)(const vlm_gguf *gguf);
    vlm_tokenizer *(*tokenizer)(const vlm_gguf *text, GError **error);
    // Appends the tokens of a label, with all that goes around them, cut to what the tower takes.
    gboolean (*tokens)(gconstpointer data, const vlm_tokenizer *tok, const char *label, GArray *out,
                       GError **error);
    // Work memory of encoding such a batch; recording it. out: f32 [n_label, n_embd].
    uint64_t (*bytes)(gconstpointer data, uint32_t n_label, uint32_t n_tok);
    gboolean (*encode)(gpointer data, vlm_cmd *cmd, const vlm_labels *labels,
                       const vlm_buffer *scratch, uint64_t out, GError **error);
    // From the cosines of a picture with n labels to logits and probabilities.
    void (*score)(gconstpointer data, const double *cosines, uint32_t n, double *logits,
                  double *probabilities);
} vlm_ranker;

typedef struct vlm_family {
    const char *const *archs;       // values of general.architecture, NULL-terminated
    const char *const *projectors;  // vision towers that go with it, NULL-terminated; NULL: none,
                                    // it takes text only
    // Of families without a tower: a part of tokenizer.chat_template by which its prompt is known.
    // NULL: any template, and none.
    const char *template_mark;
    gboolean is_part;  // the text part of models with a tower: by itself only when asked for
    const vlm_protocol *protocol;

    // Reads and checks both files; fills `sizes`; returns the family's own data. `vision` is NULL
    // for families without a tower, here and below, and they have none of the functions that deal
    // with pictures.
    // Errors: FORMAT, with the file's name first.
    gpointer (*read)(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes, GError **error);
    void (*free)(gpointer data);
    // Asks the loader for every weight.
    gboolean (*want)(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                     GError **error);
    // Work memory of a step of n_tok rows with n_out rows of logits / of encoding a group.
    uint64_t (*decode_bytes)(gpointer data, const vlm_device *dev, uint32_t n_tok, uint32_t n_out);
    uint64_t (*encode_bytes)(gpointer data, const vlm_device *dev, const vlm_picture_group *group);
    // Records a step; logits: f32 [n_out, n_vocab] (untouched when n_out is 0). `scratch` has
    // decode_bytes.
    gboolean (*decode)(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error);
    // Records the encoding of a group, with the stamps of vlm_encode_stamp.
    gboolean (*encode)(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error);
    // Decides what becomes of a picture of this size. Errors: ARGS.
    gboolean (*plan)(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *plan, GError **error);
    // Positions (t, h, w) of a grid's tokens, row by row. Returns the position of the token that
    // follows.
    uint32_t (*grid_positions)(gconstpointer data, const vlm_grid *grid, uint32_t (*positions)[4]);
    // What vlm_text_hparams_read() and vlm_vision_hparams_read() have to know of those of `archs`
    // and `projectors` that they read; NULL = none. The last has no name, the last is NULL.
    const vlm_text_arch *text_archs;
    const vlm_vision_tower *const *towers;
    // A dual encoder: no projectors, no decode and decode_bytes, no grid_positions; the towers may
    // be in one file, which is then given twice. NULL: a decoder.
    const vlm_ranker *ranker;
} vlm_family;

extern const vlm_family vlm_family_llava, vlm_family_qwen2vl, vlm_family_qwen3vl, vlm_family_qwen35,
    vlm_family_smolvlm, vlm_family_mllama, vlm_family_dual;
// Text models by their prompts, the most particular first; NULL-terminated.
extern const vlm_family *const vlm_families_text[];

// What the families know of an architecture, or of a projector; else NULL, and in `known` the names
// there are, new: "a, b and c".
const vlm_text_arch *vlm_family_text_arch(const char *name, char **known);
const vlm_vision_tower *vlm_family_tower(const char *projector, char **known);

// The family of a pair of files, by architecture and projector; with `vision` NULL that of a text
// model by itself, by architecture and chat template. Errors: FORMAT (names what the files have and
// what is known), NOT_FOUND (the architecture doesn't go without a vision file).
const vlm_family *vlm_family_find(vlm_gguf *text, vlm_gguf *vision, GError **error);
// Whether any family has the architecture of this file. Errors: FORMAT.
gboolean vlm_family_knows(vlm_gguf *text, GError **error);
// Whether files of this architecture are models of text by themselves.
gboolean vlm_family_is_text(vlm_gguf *text);

#endif
