// SPDX-License-Identifier: LGPL-2.1-or-later
// model/hparams.h — hyper-parameters of a decoder, read from its GGUF file and checked.
//
// After vlm_text_hparams_read() every field is inside its stated range and the fields agree with
// each other, so that code which uses them needs no further checks. Thread-safety: plain data.
#ifndef VLM_MODEL_HPARAMS_H
#define VLM_MODEL_HPARAMS_H

#include "model/gguf.h"

#define VLM_MAX_LAYERS    512u
#define VLM_MAX_DEEPSTACK 8u

// Which elements of a head form rotary pairs, and what turns them.
typedef enum vlm_rope_kind {
    VLM_ROPE_IMROPE,    // i and i + head_dim / 2; time, height and width interleaved
    VLM_ROPE_MROPE,     // the same; time, height and width one after the other
    VLM_ROPE_ADJACENT,  // 2i and 2i + 1; one position
    VLM_ROPE_HALVES,    // i and i + head_dim / 2; one position
} vlm_rope_kind;

// What a decoder that model/decoder.h runs is by its architecture's name.
typedef struct vlm_text_arch {
    const char *name;  // general.architecture
    vlm_rope_kind rope;
    gboolean head_norms;  // queries and keys are normalised per head
    gboolean qkv_bias;    // queries, keys and values have biases
    gboolean sparse;      // experts
    gboolean hybrid;      // recurrent layers among those that attend
} vlm_text_arch;

typedef struct vlm_text_hparams {
    const char *arch;    // value of general.architecture, static
    uint32_t n_layer;    // 1..512
    uint32_t n_embd;     // width of the residual stream, 1..65536
    uint32_t n_vocab;    // 1..2^20, from the token list
    uint32_t ctx_train;  // positions the model was trained for, 1..2^24
    uint32_t n_head;     // query heads, a multiple of n_head_kv
    uint32_t n_head_kv;  // key and value heads
    uint32_t head_dim;   // width of a head, of keys and values alike; a multiple of 8, 8..256
    uint32_t n_ff;       // width of the dense feed-forward network; 0 when n_expert > 0
    float rms_eps;       // added to the mean square, in (0, 0.1]
    float rope_theta;    // base of the rotary frequencies, 1 or more
    vlm_rope_kind rope;
    uint32_t rope_dim;  // elements of a head that rotate; even, at most head_dim
    // Rotary pairs of the time, height and width streams; they add up to rope_dim / 2. The
    // fourth is always 0. With one position all are.
    uint32_t rope_sections[4];
    uint32_t n_expert;       // 0: dense
    uint32_t n_expert_used;  // per token, 1..n_expert
    uint32_t n_ff_expert;    // width of one expert
    uint32_t n_ff_shared;    // width of the expert that every token uses besides; 0 = none
    gboolean fused_gate_up;  // experts' gate and up matrices are one, gate's rows first
    const char *ffn_norm;    // name of the norm before the feed-forward network, static
    uint32_t n_deepstack;    // decoder layers that get a DeepStack row added, 0..n_layer
    // Layers that keep a recurrent state (gated delta net) in place of attention; where there are
    // any, the others gate the output of attention. 0: all layers attend.
    uint32_t n_recurrent;
    uint8_t recurrent[VLM_MAX_LAYERS];  // 1 for these layers
    uint32_t delta_k_heads;             // heads of queries and keys
    uint32_t delta_v_heads;             // of values, a multiple of delta_k_heads
    uint32_t delta_head_dim;            // of all of them; a multiple of 4 from 4 to 256
    gboolean head_norms;                // queries and keys are normalised per head
    gboolean qkv_bias;                  // queries, keys and values have biases
    gboolean tied_output;               // the output matrix is token_embd.weight
} vlm_text_hparams;

// FALSE with FORMAT, naming the file, the key and what is wrong with it. Also checks the presence,
// shape and type of every tensor of the decoder, and that there is none besides.
gboolean vlm_text_hparams_read(const vlm_gguf *gguf, vlm_text_hparams *out, GError **error);

// One row of a table of expected tensors. `name` has one %u when it is repeated per layer.
#define VLM_MAX_EXPECTED_DIMS 4
typedef struct vlm_expected_tensor {
    const char *name;
    uint64_t ne[VLM_MAX_EXPECTED_DIMS];  // contiguous axis first; 0 ends the list
    gboolean optional;
} vlm_expected_tensor;

// Checks the tensors `rows` against the file, with %u running over `layers[0..n_layers-1]` for
// names that have one. Vectors must be F32. Adds the names found to `known`, a set of strings that
// it owns.
gboolean vlm_gguf_check_tensors(const vlm_gguf *gguf, const vlm_expected_tensor *rows, guint n_rows,
                                const uint32_t *layers, guint n_layers, GHashTable *known,
                                GError **error);

// FORMAT when the file has a tensor whose name starts with `prefix` and is not in `known`.
gboolean vlm_gguf_check_no_others(const vlm_gguf *gguf, const char *prefix, GHashTable *known,
                                  const char *model, GError **error);

#endif
