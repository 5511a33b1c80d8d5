// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_model.h — random-weight models, true to the architecture.
//
// Writes a text and an mmproj GGUF with the keys, tensor names and shapes that llama.cpp's
// converter gives to published Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5, SmolVLM2 and LLaVA-1.5
// models (Llama 3.2 Vision: Ollama's). Every
// value is a function of (seed, tensor name, index) alone: the same parameters give the same file
// everywhere. Matrices have a standard deviation of 1/sqrt(fan-in), so that activations stay near
// 1; norms and biases are perturbed, so that a swapped or forgotten tensor shows.
#ifndef VLM_TESTS_RANDOM_MODEL_H
#define VLM_TESTS_RANDOM_MODEL_H

#include "gguf_writer.h"

#define RANDOM_MODEL_MAX_DEEPSTACK 8

typedef struct random_model {
    // "qwen2vl", "qwen2.5vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "smolvlm", "llava",
    // "mllama"; without a tower "llama", "qwen2", "qwen3", "qwen3moe"
    const char *family;
    uint64_t seed;

    // Decoder. n_ff is used by the dense family, the expert fields by the other.
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff;
    uint32_t n_expert, n_expert_used, n_ff_expert;
    uint32_t n_ctx;
    uint32_t n_vocab;      // at least so many tokens, the rest unused
    uint32_t rope_dim;     // elements of a head that rotate
    uint32_t sections[3];  // of rotary pairs: t, h, w; they add up to rope_dim / 2
    float rope_theta, rms_eps;

    // Qwen3.5: every layer but each interval-th is a gated delta net.
    uint32_t interval, delta_k_heads, delta_v_heads, delta_head_dim;
    uint32_t n_ff_shared;    // width of the expert of every token, in the sparse family
    uint32_t n_ahead;        // layers behind the others that predict further ahead, not used
    gboolean fused_gate_up;  // experts' gate and up in one tensor

    gboolean plain_rope;  // of llama: no divisors of the rotary frequencies
    gboolean tied;        // no output.weight
    vlm_dtype dtype;      // of matrices, as random_fill_dtype() fits it
    gboolean k_mixture;   // Q6_K for half of attn_v and ffn_down and for output, as in Q4_K_M

    // Vision transformer.
    uint32_t vit_layers, vit_embd, vit_heads, vit_ff;
    uint32_t patch, merge;
    uint32_t n_pos;         // entries of the position table, a square; not of the Qwen2 families
    uint32_t n_wa_pattern;  // of Qwen2.5-VL: every which layer attends to the whole picture
    uint32_t window;        // pixels of a side of its windows; 0 = the file doesn't say
    uint32_t n_tile;        // of SmolVLM: tiles of a side of a still
    uint32_t margin;        // of SmolVLM: pixels of a side that are no whole patch
    gboolean gelu;          // of LLaVA's tower: the erf form, not the quick one
    uint32_t deepstack[RANDOM_MODEL_MAX_DEEPSTACK], n_deepstack;
    vlm_dtype mmproj_dtype;
    gboolean one_file;   // of mllama: both halves in each of the files
    gboolean old_names;  // of LLaVA's vision file: as the first converters wrote it
    // Of mllama: layers that look at pictures, every cross_every-th from the second; layers of the
    // tower behind the taps.
    uint32_t cross_every, n_global;
} random_model;

// Dimensions by name: "tiny", "small" (real head sizes, text rows divisible by 256) or "bench160m"
// (a decoder of 160 M parameters). FALSE when family or size is unknown.
gboolean random_model_init(random_model *model, const char *family, const char *size);

// A text model by itself.
gboolean random_model_is_text(const random_model *model);
gboolean random_model_is_smolvlm(const random_model *model);
gboolean random_model_is_mllama(const random_model *model);
gboolean random_model_is_qwen35(const random_model *model);
gboolean random_model_is_llava(const random_model *model);
// Qwen2-VL, Qwen2.5-VL or Qwen2; the second.
gboolean random_model_is_qwen2(const random_model *model);
gboolean random_model_is_qwen25(const random_model *model);
// general.architecture of the text file.
const char *random_model_arch(const random_model *model);
// The proportions of the published models' rotary sections.
void random_model_set_sections(random_model *model);

// NULL, or why these dimensions make no model; a new string.
char *random_model_check(const random_model *model);

// The files, ready to be written or to be damaged first. A text model has no second: NULL.
gguf_writer *random_model_text(const random_model *model);
gguf_writer *random_model_mmproj(const random_model *model);

#endif
