// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_hparams.c — models whose files are sound and whose content is not, each with its error.
//
// Each case takes a tiny random model, changes one thing and loads it as the engine would.
#include "model/mmproj_hparams.h"
#include "model/model.h"
#include "model/tokenizer.h"

#include "random_model.h"
#include "random_vocab.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

// What is damaged and who reads it.
typedef enum part {
    TEXT,       // keys and tensors of the text file, by vlm_text_hparams_read()
    DENSE,      // the same of the dense family
    LLAMA,      // the same of SmolVLM's decoder
    HYBRID,     // the same of Qwen3.5's sparse decoder
    SIGLIP,     // of SmolVLM's mmproj file
    PROJECTOR,  // of SmolVLM's mmproj file, by vlm_family_find()
    QWEN2,      // text of Qwen2-VL
    QWEN2_VIT,  // its mmproj file
    QWEN25,     // the mmproj file of Qwen2.5-VL
    VISION,     // of the mmproj file, by vlm_vision_hparams_read()
    PAIR,       // of the mmproj file, by vlm_hparams_check_pair()
    CLIP,       // of LLaVA's mmproj file as first converters wrote it
    PIECES,     // its tokenizer
    VOCAB,      // the tokenizer, by vlm_tokenizer_new()
} part;

// What is done. The value is read accordingly.
typedef enum action {
    REMOVE,         // key
    U32,            // key = number
    F32,            // key = number
    STR,            // key = string
    BOOL,           // key = "0" or "1"
    INTS,           // key = array of integers
    REALS,          // key = array of reals
    BOOLS,          // key = array of "0" and "1"
    REMOVE_TENSOR,  // key
    TENSOR,         // key = F32 tensor of this shape
    F16_TENSOR,     // the same as F16
    NVFP4_TENSOR,   // the same as NVFP4, which has no kernels
    TOKEN,          // token number KEY = this hexadecimal text
    TYPE,           // token number KEY = this type
    TOKEN_SCORE,    // its score = this
    MERGE,          // merge number KEY = this text
} action;

#define ARCH "qwen3vlmoe."

static const struct {
    const char *id;
    part part;
    action action;
    const char *key, *value, *error;
} cases[] = {
    // Required keys
    { "B22 key missing", TEXT, REMOVE, ARCH "block_count", NULL,
      ": key qwen3vlmoe.block_count is missing" },
    { "B23 key of the wrong type", TEXT, STR, ARCH "block_count", "4",
      ": key qwen3vlmoe.block_count is of type string, expected an integer" },
    { "F07 wrong architecture", TEXT, STR, "general.architecture", "gemma3",
      ": architecture gemma3 is not supported, only qwen2vl, qwen3vl, qwen3vlmoe, qwen35, "
      "qwen35moe, llama, qwen2, qwen3 and qwen3moe are" },
    { "text and vision swapped", TEXT, STR, "general.architecture", "clip",
      ": is the vision part (mmproj) of a model, give the text part here" },
    { "architecture missing", TEXT, REMOVE, "general.architecture", NULL,
      ": key general.architecture is missing" },
    { "theta missing", TEXT, REMOVE, ARCH "rope.freq_base", NULL,
      ": key qwen3vlmoe.rope.freq_base is missing" },
    // Tensors
    { "B42 tensor missing", TEXT, REMOVE_TENSOR, "blk.2.attn_k_norm.weight", NULL,
      ": tensor blk.2.attn_k_norm.weight is missing" },
    { "B42 last tensor missing", TEXT, REMOVE_TENSOR, "output_norm.weight", NULL,
      ": tensor output_norm.weight is missing" },
    { "B43 wrong shape", TEXT, TENSOR, "blk.0.attn_q.weight", "128,64",
      ": tensor blk.0.attn_q.weight has shape [128, 64], expected [128, 128]" },
    { "B43 too many axes", TEXT, TENSOR, "output_norm.weight", "128,2",
      ": tensor output_norm.weight has shape [128, 2], expected [128]" },
    { "B43 experts missing", TEXT, TENSOR, "blk.1.ffn_up_exps.weight", "128,64,7",
      ": tensor blk.1.ffn_up_exps.weight has shape [128, 64, 7], expected [128, 64, 8]" },
    { "B44 extra tensor", TEXT, TENSOR, "blk.0.attn_q.bias", "128",
      ": tensor blk.0.attn_q.bias is not part of a qwen3vlmoe model" },
    { "B44 extra layer", TEXT, TENSOR, "blk.4.attn_norm.weight", "128",
      ": tensor blk.4.attn_norm.weight is not part of a qwen3vlmoe model" },
    { "vector of the wrong type", TEXT, F16_TENSOR, "output_norm.weight", "128",
      ": tensor output_norm.weight has type F16, expected F32" },
    { "F08 unsupported quantisation", TEXT, NVFP4_TENSOR, "blk.0.attn_q.weight", "128,128",
      ": tensor blk.0.attn_q.weight has type NVFP4, which is not supported; use F32, F16, BF16, "
      "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS or MXFP4" },
    // Hyper-parameters of the text model
    { "B45 layers 0", TEXT, U32, ARCH "block_count", "0",
      ": key qwen3vlmoe.block_count is 0, expected 1 to 512" },
    { "B46 layers 513", TEXT, U32, ARCH "block_count", "513",
      ": key qwen3vlmoe.block_count is 513, expected 1 to 512" },
    { "B47 layers 2^31", TEXT, U32, ARCH "block_count", "2147483648",
      ": key qwen3vlmoe.block_count is 2147483648, expected 1 to 512" },
    { "fewer layers", TEXT, U32, ARCH "block_count", "3",
      ": tensor blk.3.attn_norm.weight is not part of a qwen3vlmoe model" },
    { "B48 heads 0", TEXT, U32, ARCH "attention.head_count", "0",
      ": key qwen3vlmoe.attention.head_count is 0, expected 1 to 1024" },
    { "B49 heads not dividing", TEXT, REMOVE, ARCH "attention.key_length", "3",
      ": key qwen3vlmoe.attention.head_count is 3 and does not divide embedding_length, which is "
      "128" },
    { "B50 kv_heads > heads", TEXT, U32, ARCH "attention.head_count_kv", "8",
      ": key qwen3vlmoe.attention.head_count is 4, not a multiple of the 8 of head_count_kv" },
    { "kv_heads not dividing", TEXT, U32, ARCH "attention.head_count_kv", "3",
      ": key qwen3vlmoe.attention.head_count is 4, not a multiple of the 3 of head_count_kv" },
    { "kv_heads differ", TEXT, INTS, ARCH "attention.head_count_kv", "2,2,1,2",
      ": key qwen3vlmoe.attention.head_count_kv is 1 for layer 2 and 2 for layer 0" },
    { "key and value differ", TEXT, U32, ARCH "attention.value_length", "16",
      ": key qwen3vlmoe.attention.value_length is 16 and key_length is 32, they must be equal" },
    { "head of odd width", TEXT, U32, ARCH "attention.key_length", "31",
      ": key qwen3vlmoe.attention.key_length makes heads of 31 elements, expected a multiple of 8 "
      "up to 256" },
    { "head too wide", TEXT, U32, ARCH "attention.key_length", "264",
      ": key qwen3vlmoe.attention.key_length makes heads of 264 elements, expected a multiple of 8 "
      "up to 256" },
    { "width 0", TEXT, U32, ARCH "embedding_length", "0",
      ": key qwen3vlmoe.embedding_length is 0, expected 1 to 65536" },
    { "B51 experts 0", TEXT, U32, ARCH "expert_count", "0",
      ": key qwen3vlmoe.expert_count is 0, expected 1 to 1024" },
    { "B52 used > experts", TEXT, U32, ARCH "expert_used_count", "9",
      ": key qwen3vlmoe.expert_used_count is 9, more than expert_count 8" },
    { "B52 used 0", TEXT, U32, ARCH "expert_used_count", "0",
      ": key qwen3vlmoe.expert_used_count is 0, expected 1 to 16" },
    { "more used than fit", TEXT, U32, ARCH "expert_used_count", "17",
      ": key qwen3vlmoe.expert_used_count is 17, expected 1 to 16" },
    { "B53 experts 2^20", TEXT, U32, ARCH "expert_count", "1048576",
      ": key qwen3vlmoe.expert_count is 1048576, expected 1 to 1024" },
    { "B54 rope dims odd", TEXT, U32, ARCH "rope.dimension_count", "31",
      ": key qwen3vlmoe.rope.dimension_count is 31, expected an even number" },
    { "rope dims too many", TEXT, U32, ARCH "rope.dimension_count", "64",
      ": key qwen3vlmoe.rope.dimension_count is 64, expected 2 to 32" },
    { "sections too short", TEXT, INTS, ARCH "rope.dimension_sections", "6,5,4,0",
      ": key qwen3vlmoe.rope.dimension_sections is [6, 5, 4, 0], expected three numbers that add "
      "up to 16" },
    { "sections wrap", TEXT, INTS, ARCH "rope.dimension_sections", "-1,5,12,0",
      ": key qwen3vlmoe.rope.dimension_sections is -1, expected 0 to 512" },
    { "four sections", TEXT, INTS, ARCH "rope.dimension_sections", "6,5,4,1",
      ": key qwen3vlmoe.rope.dimension_sections is [6, 5, 4, 1], expected three numbers that add "
      "up to 16" },
    { "rope scaling", TEXT, STR, ARCH "rope.scaling.type", "yarn",
      ": key qwen3vlmoe.rope.scaling.type is something else than \"none\", which is not "
      "supported" },
    { "theta 0", TEXT, F32, ARCH "rope.freq_base", "0",
      ": key qwen3vlmoe.rope.freq_base is 0, expected 1 to 1e+12" },
    { "B55 eps NaN", TEXT, F32, ARCH "attention.layer_norm_rms_epsilon", "nan",
      ": key qwen3vlmoe.attention.layer_norm_rms_epsilon is nan, expected 1e-12 to 0.1" },
    { "B55 eps 0", TEXT, F32, ARCH "attention.layer_norm_rms_epsilon", "0",
      ": key qwen3vlmoe.attention.layer_norm_rms_epsilon is 0, expected 1e-12 to 0.1" },
    { "B56 ctx 0", TEXT, U32, ARCH "context_length", "0",
      ": key qwen3vlmoe.context_length is 0, expected 1 to 16777216" },
    { "B57 ctx 2^31", TEXT, U32, ARCH "context_length", "2147483648",
      ": key qwen3vlmoe.context_length is 2147483648, expected 1 to 16777216" },
    { "DeepStack beyond the layers", TEXT, U32, ARCH "n_deepstack_layers", "5",
      ": key qwen3vlmoe.n_deepstack_layers is 5, expected 0 to 4" },
    { "sliding window", TEXT, U32, ARCH "attention.sliding_window", "4096",
      ": key qwen3vlmoe.attention.sliding_window is 4096, expected 0" },
    { "sigmoid gates", TEXT, U32, ARCH "expert_gating_func", "2",
      ": key qwen3vlmoe.expert_gating_func is 2, expected 1" },
    { "scaled experts", TEXT, F32, ARCH "expert_weights_scale", "2.5",
      ": key qwen3vlmoe.expert_weights_scale is 2.5, expected 1 to 1" },
    { "experts not normalised", TEXT, BOOL, ARCH "expert_weights_norm", "0",
      ": key qwen3vlmoe.expert_weights_norm is false, which is not supported" },
    { "B66 vocabulary mismatch", TEXT, U32, ARCH "vocab_size", "100",
      ": key qwen3vlmoe.vocab_size is 100, but tokenizer.ggml.tokens has 640 entries" },
    { "B66 embedding mismatch", TEXT, TENSOR, "token_embd.weight", "128,641",
      ": tensor token_embd.weight has shape [128, 641], expected [128, 640]" },
    { "dense without a width", DENSE, U32, "qwen3vl.feed_forward_length", "0",
      ": key qwen3vl.feed_forward_length is 0, expected 1 to 1048576" },
    { "dense with experts", DENSE, TENSOR, "blk.0.ffn_gate_inp.weight", "128,8",
      ": tensor blk.0.ffn_gate_inp.weight is not part of a qwen3vl model" },
    // Hyper-parameters of the vision tower
    { "not a vision file", VISION, STR, "general.architecture", "qwen3vl",
      ": is not the vision part (mmproj) of a model" },
    { "no vision encoder", VISION, BOOL, "clip.has_vision_encoder", "0",
      ": key clip.has_vision_encoder is not true" },
    { "vision head too wide", VISION, U32, "clip.vision.embedding_length", "1280",
      ": key clip.vision.embedding_length is 1280, not 4 heads of a multiple of 4 up to 256 "
      "elements" },
    { "B58 patch 0", VISION, U32, "clip.vision.patch_size", "0",
      ": key clip.vision.patch_size is 0, expected 4 to 64" },
    { "B59 patch 1", VISION, U32, "clip.vision.patch_size", "1",
      ": key clip.vision.patch_size is 1, expected 4 to 64" },
    { "B60 patch 65535", VISION, U32, "clip.vision.patch_size", "65535",
      ": key clip.vision.patch_size is 65535, expected 4 to 64" },
    { "B61 image 0", VISION, U32, "clip.vision.image_size", "0",
      ": key clip.vision.image_size is 0, expected 32 to 4096" },
    { "image 2^31", VISION, U32, "clip.vision.image_size", "2147483648",
      ": key clip.vision.image_size is 2147483648, expected 32 to 4096" },
    { "B62 image not a multiple", VISION, U32, "clip.vision.image_size", "100",
      ": key clip.vision.image_size is 100, not a multiple of patch_size 16" },
    { "B63 merge 0", VISION, U32, "clip.vision.spatial_merge_size", "0",
      ": key clip.vision.spatial_merge_size is 0, expected 1 to 8" },
    { "merge 9", VISION, U32, "clip.vision.spatial_merge_size", "9",
      ": key clip.vision.spatial_merge_size is 9, expected 1 to 8" },
    { "B64 window 0", VISION, U32, "clip.vision.window_size", "0",
      ": key clip.vision.window_size is set, but such attention windows are not supported" },
    { "B65 projector unknown", VISION, STR, "clip.projector_type", "ldp",
      ": key clip.projector_type is ldp, only qwen2vl_merger, qwen2.5vl_merger, qwen3vl_merger, "
      "idefics3 and mlp are supported" },
    { "scaled llama rope", LLAMA, STR, "llama.rope.scaling.type", "yarn",
      ": key llama.rope.scaling.type is something else than \"none\", which is not supported" },
    { "partly rotated heads", LLAMA, U32, "llama.rope.dimension_count", "16",
      ": key llama.rope.dimension_count is 16 and heads have 32 elements, they must be equal" },
    { "llama theta 0", LLAMA, F32, "llama.rope.freq_base", "0",
      ": key llama.rope.freq_base is 0, expected 1 to 1e+12" },
    { "llama eps missing", LLAMA, REMOVE, "llama.attention.layer_norm_rms_epsilon", NULL,
      ": key llama.attention.layer_norm_rms_epsilon is missing" },
    { "llama with head norms", LLAMA, TENSOR, "blk.0.attn_q_norm.weight", "32",
      ": tensor blk.0.attn_q_norm.weight is not part of a llama model" },
    { "llama 3 frequencies", LLAMA, TENSOR, "rope_freqs.weight", "8",
      ": tensor rope_freqs.weight has shape [8], expected [16]" },
    { "llama tensor missing", LLAMA, REMOVE_TENSOR, "blk.3.ffn_gate.weight", NULL,
      ": tensor blk.3.ffn_gate.weight is missing" },
    { "scale_factor missing", SIGLIP, REMOVE, "clip.vision.projector.scale_factor", NULL,
      ": key clip.vision.projector.scale_factor is missing" },
    { "scale_factor not dividing", SIGLIP, U32, "clip.vision.projector.scale_factor", "4",
      ": key clip.vision.image_size is 96: 6 patches a side, not a multiple of scale_factor 4" },
    { "scale_factor 0", SIGLIP, U32, "clip.vision.projector.scale_factor", "0",
      ": key clip.vision.projector.scale_factor is 0, expected 1 to 8" },
    { "picture side not 4n", SIGLIP, U32, "clip.vision.image_size", "98",
      ": key clip.vision.image_size is 98, not a multiple of 4" },
    { "picture too large", SIGLIP, U32, "clip.vision.image_size", "4096",
      ": key clip.vision.image_size is 4096, expected 32 to 2048" },
    { "longest edge 0", SIGLIP, U32, "clip.vision.preproc_image_size", "0",
      ": key clip.vision.preproc_image_size is 0, expected 1 to 4096" },
    { "too many tiles", SIGLIP, U32, "clip.vision.preproc_image_size", "769",
      ": key clip.vision.preproc_image_size is 769, more than 8 times image_size 96" },
    { "connector missing", SIGLIP, REMOVE_TENSOR, "mm.model.fc.weight", NULL,
      ": tensor mm.model.fc.weight is missing" },
    { "connector with bias", SIGLIP, TENSOR, "mm.model.fc.bias", "128",
      ": tensor mm.model.fc.bias is not part of a idefics3 model" },
    { "query bias missing", SIGLIP, REMOVE_TENSOR, "v.blk.1.attn_q.bias", NULL,
      ": tensor v.blk.1.attn_q.bias is missing" },
    { "half swapped perceptron", SIGLIP, TENSOR, "v.blk.0.ffn_down.weight", "64,128",
      ": tensor v.blk.1.ffn_down.weight has shape [128, 64], expected [64, 128]" },
    { "llama with another tower", PROJECTOR, STR, "clip.projector_type", "ldp",
      ": a vision part of kind \"ldp\" does not go with architecture llama (idefics3, mlp)" },
#include "hparams_qwen2.inc"
#include "hparams_qwen35.inc"
#include "hparams_llava.inc"
    { "projector missing", VISION, REMOVE, "clip.projector_type", NULL,
      ": key clip.projector_type is missing" },
    { "B95 scale_factor 0", VISION, U32, "clip.vision.projector.scale_factor", "0",
      ": key clip.vision.projector.scale_factor is 0, expected 1 to 8" },
    { "vision layers 0", VISION, U32, "clip.vision.block_count", "0",
      ": key clip.vision.block_count is 0, expected 1 to 512" },
    { "vision heads 0", VISION, U32, "clip.vision.attention.head_count", "0",
      ": key clip.vision.attention.head_count is 0, expected 1 to 1024" },
    { "vision heads not dividing", VISION, U32, "clip.vision.attention.head_count", "3",
      ": key clip.vision.embedding_length is 64, not 3 heads of a multiple of 4 up to 256 "
      "elements" },
    { "vision head width not 4n", VISION, U32, "clip.vision.attention.head_count", "32",
      ": key clip.vision.embedding_length is 64, not 32 heads of a multiple of 4 up to 256 "
      "elements" },
    { "vision eps NaN", VISION, F32, "clip.vision.attention.layer_norm_epsilon", "nan",
      ": key clip.vision.attention.layer_norm_epsilon is nan, expected 1e-12 to 0.1" },
    { "mean of two", VISION, REALS, "clip.vision.image_mean", "0.5,0.5",
      ": key clip.vision.image_mean has 2 elements, expected 3" },
    { "std 0", VISION, REALS, "clip.vision.image_std", "0.5,0,0.5",
      ": key clip.vision.image_std has the value 0, expected 0.001 to 10" },
    { "mean infinite", VISION, REALS, "clip.vision.image_mean", "inf,0.5,0.5",
      ": key clip.vision.image_mean has the value inf at index 0" },
    { "activation", VISION, BOOL, "clip.use_gelu", "0",
      ": key clip.use_gelu is not true or clip.use_silu is, other activations are not supported" },
    { "too few DeepStack flags", VISION, BOOLS, "clip.vision.is_deepstack_layers", "1,1,1",
      ": key clip.vision.is_deepstack_layers has 3 elements, expected 4" },
    { "another DeepStack layer", VISION, BOOLS, "clip.vision.is_deepstack_layers", "1,1,1,1",
      ": tensor v.deepstack.3.norm.weight is missing" },
    { "DeepStack flags as numbers", VISION, INTS, "clip.vision.is_deepstack_layers", "1,1,1,0",
      ": key clip.vision.is_deepstack_layers is an array of i32, expected an array of booleans" },
    { "min over max pixels", VISION, U32, "clip.vision.image_min_pixels", "20000000",
      ": key clip.vision.image_min_pixels is 20000000, more than the 16777216 of "
      "image_max_pixels" },
    { "tower tensor missing", VISION, REMOVE_TENSOR, "v.patch_embd.weight.1", NULL,
      ": tensor v.patch_embd.weight.1 is missing" },
    { "tower tensor extra", VISION, TENSOR, "v.pre_ln.weight", "64",
      ": tensor v.pre_ln.weight is not part of a qwen3vl_merger model" },
    { "position table cut", VISION, TENSOR, "v.position_embd.weight", "64,35",
      ": tensor v.position_embd.weight has shape [64, 35], expected [64, 36]" },
    // Text and vision together
    { "F09 another width", PAIR, U32, "embd", "96",
      " does not belong to TEXT: it makes rows of width 96, the text model takes 128" },
    { "F09 another DeepStack", PAIR, U32, "deepstack", "2",
      " does not belong to TEXT: it has 2 DeepStack layers, the text model takes 3" },
#include "hparams_vocab.inc"
};

G_STATIC_ASSERT(G_N_ELEMENTS(cases) >= 60);

static void fill_zero(void *user, uint64_t first_row, uint64_t n_rows, void *dst)
{
    (void) first_row;
    memset(dst, 0, n_rows * GPOINTER_TO_SIZE(user));
}

static void set_tensor(gguf_writer *w, const char *name, vlm_dtype dtype, const char *shape)
{
    g_auto(GStrv) axes = g_strsplit(shape, ",", 4);
    uint64_t ne[4] = { 1, 1, 1, 1 };

    for (guint i = 0; axes[i]; i++)
        ne[i] = g_ascii_strtoull(axes[i], NULL, 10);
    gguf_writer_remove_tensor(w, name);
    gguf_writer_tensor(w, name, dtype, g_strv_length(axes), ne, fill_zero,
                       GSIZE_TO_POINTER(vlm_dtype_row_bytes(dtype, ne[0])), NULL);
}

static void set_array(gguf_writer *w, action act, const char *key, const char *value)
{
    g_auto(GStrv) items = g_strsplit(value, ",", 16);
    const guint n = g_strv_length(items);
    gboolean flags[16];
    int32_t ints[16];
    float reals[16];

    for (guint i = 0; i < n; i++) {
        reals[i] = (float) g_ascii_strtod(items[i], NULL);
        ints[i] = (int32_t) g_ascii_strtoll(items[i], NULL, 10);
        flags[i] = ints[i] != 0;
    }
    if (act == INTS)
        gguf_writer_i32_array(w, key, ints, n);
    else if (act == REALS)
        gguf_writer_f32_array(w, key, reals, n);
    else
        gguf_writer_bool_array(w, key, flags, n);
}

static void damage(gguf_writer *w, action act, const char *key, const char *value)
{
    if (act == REMOVE_TENSOR)
        gguf_writer_remove_tensor(w, key);
    else if (act == TENSOR)
        set_tensor(w, key, VLM_DTYPE_F32, value);
    else if (act == F16_TENSOR)
        set_tensor(w, key, VLM_DTYPE_F16, value);
    else if (act == NVFP4_TENSOR)
        set_tensor(w, key, VLM_DTYPE_NVFP4, value);
    else
        gguf_writer_remove(w, key);
    if (act == U32)
        gguf_writer_u32(w, key, (uint32_t) g_ascii_strtoull(value, NULL, 10));
    else if (act == F32)
        gguf_writer_f32(w, key, (float) g_ascii_strtod(value, NULL));
    else if (act == STR)
        gguf_writer_str(w, key, value);
    else if (act == BOOL)
        gguf_writer_bool(w, key, value[0] == '1');
    else if (act == INTS || act == REALS || act == BOOLS)
        set_array(w, act, key, value);
}

static vlm_gguf *open_writer(const gguf_writer *w, const char *name)
{
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(GError) error = NULL;
    vlm_gguf *gguf = vlm_gguf_open_bytes(bytes, name, &error);

    g_assert_no_error(error);
    return gguf;
}

// "*N" stands for N times 'x', anything else is hexadecimal. The length may contain zero bytes, so
// tokens are written by hand.
static GByteArray *token_bytes(const char *value)
{
    GByteArray *bytes = g_byte_array_new();

    if (value[0] == '*') {
        g_byte_array_set_size(bytes, (guint) g_ascii_strtoull(value + 1, NULL, 10));
        memset(bytes->data, 'x', bytes->len);
        return bytes;
    }
    for (; *value; value += 2) {
        const guint8 byte =
            (guint8) (g_ascii_xdigit_value(value[0]) << 4 | g_ascii_xdigit_value(value[1]));
        g_byte_array_append(bytes, &byte, 1);
    }
    return bytes;
}

static void put_u64(GByteArray *out, uint64_t value)
{
    const uint64_t le = GUINT64_TO_LE(value);

    g_byte_array_append(out, (const guint8 *) &le, 8);
}

// The token list with token `index` spelled differently.
static void damage_token(gguf_writer *w, const random_vocab *vocab, guint index, const char *value)
{
    static const guint8 string_type[4] = { VLM_GGUF_STRING };
    g_autoptr(GByteArray) other = token_bytes(value), raw = g_byte_array_new();

    g_byte_array_append(raw, string_type, sizeof string_type);
    put_u64(raw, vocab->tokens->len);
    for (guint i = 0; i < vocab->tokens->len; i++) {
        const char *text = g_ptr_array_index(vocab->tokens, i);
        const guint8 *bytes = i == index ? other->data : (const guint8 *) text;
        const guint len = i == index ? other->len : (guint) strlen(text);

        put_u64(raw, len);
        g_byte_array_append(raw, bytes, len);
    }
    gguf_writer_remove(w, "tokenizer.ggml.tokens");
    gguf_writer_raw(w, "tokenizer.ggml.tokens", VLM_GGUF_ARRAY, raw->data, raw->len);
}

static gboolean load_vocab(part what, action act, const char *key, const char *value,
                           GError **error)
{
    g_autoptr(random_vocab) vocab = what == VOCAB ? random_vocab_new() : random_vocab_new_llava();
    g_autoptr(gguf_writer) w = gguf_writer_new();
    const guint index = (guint) g_ascii_strtoull(key, NULL, 10);

    if (act == TYPE && key[0] == '-')
        g_array_index(vocab->types, int32_t, 300) = VLM_TOKEN_BYTE;
    else if (act == TYPE)
        g_array_index(vocab->types, int32_t, index) = (int32_t) g_ascii_strtoull(value, NULL, 10);
    if (act == TOKEN_SCORE)
        g_array_index(vocab->scores, float, index) = (float) g_ascii_strtod(value, NULL);
    if (act == MERGE) {
        g_free(g_ptr_array_index(vocab->merges, index));
        g_ptr_array_index(vocab->merges, index) = g_strdup(value);
    }
    random_vocab_add(vocab, w);
    if (act == TOKEN || (act == TYPE && key[0] == '-'))
        damage_token(w, vocab, act == TOKEN ? index : 300, value);
    else if (act < TOKEN)
        damage(w, act, key, value);
    g_autoptr(vlm_gguf) gguf = open_writer(w, "FILE");
    g_autoptr(vlm_tokenizer) tok = vlm_tokenizer_new(gguf, error);
    return tok != NULL;
}

static gboolean load_pair(const char *key, uint32_t value, GError **error)
{
    vlm_vision_hparams vision;
    vlm_text_hparams text;
    random_model model;

    random_model_init(&model, "qwen3vlmoe", "tiny");
    g_autoptr(gguf_writer) tw = random_model_text(&model);
    if (g_str_equal(key, "embd"))
        model.n_embd = value;
    else
        model.n_deepstack = value;
    g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
    g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "FILE");
    return vlm_text_hparams_read(tg, &text, error) && vlm_vision_hparams_read(vg, &vision, error)
           && vlm_hparams_check_pair(tg, &text, vg, &vision, error);
}

static gboolean load(guint i, GError **error)
{
    static const char *const families[] = {
        [TEXT] = "qwen3vlmoe",   [DENSE] = "qwen3vl",     [LLAMA] = "smolvlm",
        [HYBRID] = "qwen35moe",  [SIGLIP] = "smolvlm",    [PROJECTOR] = "smolvlm",
        [QWEN2] = "qwen2vl",     [QWEN2_VIT] = "qwen2vl", [QWEN25] = "qwen2.5vl",
        [VISION] = "qwen3vlmoe", [CLIP] = "llava",
    };
    const part what = cases[i].part;
    const gboolean is_text =
        what == TEXT || what == DENSE || what == LLAMA || what == HYBRID || what == QWEN2;
    vlm_vision_hparams vision;
    vlm_text_hparams text;
    random_model model;

    if (what == VOCAB || what == PIECES)
        return load_vocab(what, cases[i].action, cases[i].key, cases[i].value, error);
    if (what == PAIR)
        return load_pair(cases[i].key, (uint32_t) atoi(cases[i].value), error);
    random_model_init(&model, families[what], "tiny");
    model.old_names = what == CLIP;
    g_autoptr(gguf_writer) tw = random_model_text(&model);
    g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
    damage(is_text ? tw : vw, cases[i].action, cases[i].key, cases[i].value);
    if (cases[i].action == REMOVE && cases[i].value)  // B49: the heads must then divide the width
        damage(tw, U32, ARCH "attention.head_count", cases[i].value);
    if (cases[i].action == REMOVE && cases[i].value)
        damage(tw, U32, ARCH "attention.head_count_kv", cases[i].value);
    g_autoptr(vlm_gguf) tg = open_writer(tw, "FILE"), vg = open_writer(vw, "FILE");
    if (what == PROJECTOR)
        return vlm_family_find(tg, vg, error) != NULL;
    return is_text ? vlm_text_hparams_read(tg, &text, error)
                   : vlm_vision_hparams_read(vg, &vision, error);
}

static void test_malformed(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *expected = g_strdup_printf("FILE%s", cases[i].error);

        g_test_message("%s", cases[i].id);
        g_assert_false(load(i, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_cmpstr(error->message, ==, expected);
    }
}

// Every family, size and type that make-model knows loads, with the numbers it was made with.
static void test_sound(void)
{
    static const char *const families[] = { "qwen3vl", "qwen3vlmoe" };
    static const vlm_dtype types[] = { VLM_DTYPE_F32,  VLM_DTYPE_BF16,   VLM_DTYPE_Q8_0,
                                       VLM_DTYPE_Q4_0, VLM_DTYPE_Q4_1,   VLM_DTYPE_Q5_0,
                                       VLM_DTYPE_Q5_1, VLM_DTYPE_IQ4_NL, VLM_DTYPE_MXFP4 };

    for (guint f = 0; f < G_N_ELEMENTS(families); f++) {
        for (guint t = 0; t < G_N_ELEMENTS(types); t++) {
            g_autoptr(GError) error = NULL;
            vlm_vision_hparams vision;
            vlm_text_hparams text;
            random_model model;

            random_model_init(&model, families[f], "tiny");
            model.dtype = types[t];
            model.tied = t % 2 == 1;
            g_autoptr(gguf_writer) tw = random_model_text(&model);
            g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
            g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "VISION");
            vlm_text_hparams_read(tg, &text, &error);
            g_assert_no_error(error);
            vlm_vision_hparams_read(vg, &vision, &error);
            g_assert_no_error(error);
            vlm_hparams_check_pair(tg, &text, vg, &vision, &error);
            g_assert_no_error(error);
            g_assert_cmpstr(text.arch, ==, families[f]);
            g_assert_cmpuint(text.n_layer, ==, model.n_layer);
            g_assert_cmpuint(text.head_dim, ==, model.head_dim);
            g_assert_cmpuint(text.rope_sections[1], ==, model.sections[1]);
            g_assert_cmpuint(text.n_expert, ==, f == 1 ? model.n_expert : 0);
            g_assert_cmpint(text.tied_output, ==, model.tied);
            g_assert_cmpuint(vision.pos_side, ==, 6);
            g_assert_cmpuint(vision.n_deepstack, ==, 3);
            g_assert_cmpuint(vision.deepstack_layers[2], ==, model.deepstack[2]);
            g_assert_cmpuint(vision.projection_dim, ==, model.n_embd);
        }
    }
}

// Recurrent layers, said one by one or by an interval; layers ahead are left out.
static void test_hybrid(void)
{
    for (guint listed = 0; listed < 2; listed++) {
        g_autoptr(GError) error = NULL;
        vlm_text_hparams text;
        random_model model;

        random_model_init(&model, "qwen35moe", "tiny");
        model.n_ahead = 1;
        model.fused_gate_up = listed;
        g_autoptr(gguf_writer) w = random_model_text(&model);
        if (!listed)
            gguf_writer_remove(w, "qwen35moe.attention.recurrent_layers");
        g_autoptr(vlm_gguf) gguf = open_writer(w, "TEXT");
        vlm_text_hparams_read(gguf, &text, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(text.n_layer, ==, 4);
        g_assert_cmpuint(text.n_recurrent, ==, 3);
        g_assert_true(text.recurrent[0] && text.recurrent[2] && !text.recurrent[3]);
        g_assert_cmpuint(text.rope_dim, ==, 16);
        g_assert_cmpuint(text.n_ff_shared, ==, 64);
        g_assert_cmpint(text.fused_gate_up, ==, (gboolean) listed);
    }
}

// LLaVA's pair, also as the first converters wrote it.
static void test_llava(void)
{
    for (guint old = 0; old < 2; old++) {
        g_autoptr(GError) error = NULL;
        vlm_vision_hparams vision;
        vlm_text_hparams text;
        random_model model;

        random_model_init(&model, "llava", "tiny");
        model.old_names = old;
        g_autoptr(gguf_writer) tw = random_model_text(&model);
        g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
        damage(vw, BOOL, "clip.use_gelu", old ? "0" : "1");
        g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "VISION");
        vlm_text_hparams_read(tg, &text, &error);
        g_assert_no_error(error);
        vlm_vision_hparams_read(vg, &vision, &error);
        g_assert_no_error(error);
        vlm_hparams_check_pair(tg, &text, vg, &vision, &error);
        g_assert_no_error(error);
        g_assert_true(vlm_family_find(tg, vg, &error) == &vlm_family_llava);
        g_assert_cmpfloat(text.rope_theta, ==, 10000.0f);  // not in the file
        g_assert_cmpuint(text.head_dim, ==, 32);           // the same
        g_assert_cmpint(vision.swapped_ffn, ==, old);
        g_assert_cmpint(vision.act, ==, old ? VLM_ACT_GELU_QUICK : VLM_ACT_GELU_ERF);
        g_assert_cmpuint(vision.projection_dim, ==, 128);  // the key says 768
        g_assert_cmpuint(vision.image_size, ==, 84);
    }
}

// SmolVLM's pair, also as old converters wrote it: the perceptron's matrices under each other's
// names.
static void test_swapped(void)
{
    static const char *const same[] = { "weight", "bias" };

    for (guint swapped = 0; swapped < 2; swapped++) {
        g_autoptr(GError) error = NULL;
        vlm_vision_hparams vision;
        vlm_text_hparams text;
        random_model model;

        random_model_init(&model, "smolvlm", "tiny");
        g_autoptr(gguf_writer) tw = random_model_text(&model);
        g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
        for (uint32_t il = 0; swapped && il < model.vit_layers; il++)
            for (guint i = 0; i < 2; i++) {
                g_autofree char *up = g_strdup_printf("v.blk.%u.ffn_up.%s", il, same[i]);
                g_autofree char *down = g_strdup_printf("v.blk.%u.ffn_down.%s", il, same[i]);
                set_tensor(vw, up, VLM_DTYPE_F32, i ? "64" : "128,64");
                set_tensor(vw, down, VLM_DTYPE_F32, i ? "128" : "64,128");
            }
        g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "VISION");
        vlm_text_hparams_read(tg, &text, &error);
        g_assert_no_error(error);
        vlm_vision_hparams_read(vg, &vision, &error);
        g_assert_no_error(error);
        vlm_hparams_check_pair(tg, &text, vg, &vision, &error);
        g_assert_no_error(error);
        g_assert_true(vlm_family_find(tg, vg, &error) == &vlm_family_smolvlm);
        g_assert_cmpint(text.rope, ==, VLM_ROPE_ADJACENT);
        g_assert_false(text.head_norms);
        g_assert_cmpint(vision.swapped_ffn, ==, swapped);
        g_assert_cmpuint(vision.longest_edge, ==, 192);
    }
}

// Qwen2-VL's pairs, also as other converters wrote the tower: one matrix for queries, keys and
// values, the perceptron's matrices under each other's names, its width as 0.
static void test_qwen2(void)
{
    for (guint i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        vlm_vision_hparams vision;
        vlm_text_hparams text;
        random_model model;

        random_model_init(&model, i == 2 ? "qwen2.5vl" : "qwen2vl", "tiny");
        g_autoptr(gguf_writer) tw = random_model_text(&model);
        g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
        damage(vw, U32, "clip.vision.feed_forward_length", i == 1 ? "0" : "77");
        for (uint32_t il = 0; i == 1 && il < model.vit_layers; il++) {
            static const char *const changes[][2] = {
                { "ffn_up.weight", "128,64" },   { "ffn_up.bias", "64" },
                { "ffn_down.weight", "64,128" }, { "ffn_down.bias", "128" },
                { "attn_qkv.weight", "64,192" }, { "attn_qkv.bias", "192" },
                { "attn_q.weight", NULL },       { "attn_q.bias", NULL },
                { "attn_k.weight", NULL },       { "attn_k.bias", NULL },
                { "attn_v.weight", NULL },       { "attn_v.bias", NULL },
            };
            for (guint c = 0; c < G_N_ELEMENTS(changes); c++) {
                g_autofree char *name = g_strdup_printf("v.blk.%u.%s", il, changes[c][0]);
                damage(vw, changes[c][1] ? TENSOR : REMOVE_TENSOR, name, changes[c][1]);
            }
        }
        g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "VISION");
        vlm_text_hparams_read(tg, &text, &error);
        g_assert_no_error(error);
        vlm_vision_hparams_read(vg, &vision, &error);
        g_assert_no_error(error);
        g_assert_true(vlm_family_find(tg, vg, &error) == &vlm_family_qwen2vl);
        g_assert_cmpint(text.rope, ==, VLM_ROPE_MROPE);
        g_assert_true(text.qkv_bias && !text.head_norms);
        g_assert_cmpuint(vision.n_ff, ==, 128);
        g_assert_cmpint(vision.swapped_ffn, ==, i == 1);
        g_assert_cmpint(vision.separate_qkv, ==, i != 1);
        g_assert_cmpuint(vision.merge, ==, 2);
        g_assert_cmpuint(vision.window, ==, i == 2 ? 8 : 0);
        g_assert_cmpuint(vision.full_every, ==, i == 2 ? 2 : 0);
    }
}

// B77, B78: a chat template is never looked at, whatever it is.
static void test_template(void)
{
    g_autofree char *nested = g_malloc(1 << 20);
    g_autoptr(random_vocab) vocab = random_vocab_new();
    g_autoptr(gguf_writer) w = gguf_writer_new();
    g_autoptr(GError) error = NULL;

    memset(nested, '(', 1 << 20);
    memcpy(nested, "{{", 2);
    nested[(1 << 20) - 1] = 0;
    random_vocab_add(vocab, w);
    gguf_writer_remove(w, "tokenizer.chat_template");
    gguf_writer_str(w, "tokenizer.chat_template", nested);
    g_autoptr(vlm_gguf) gguf = open_writer(w, "FILE");
    g_autoptr(vlm_tokenizer) tok = vlm_tokenizer_new(gguf, &error);
    g_assert_no_error(error);
    g_assert_nonnull(tok);
}

// A prompt made of plain text where special tokens belong would be nonsense to the model.
static void test_needs_specials(void)
{
    g_autofree char *dir = g_dir_make_tmp("vlm-hparams-XXXXXX", NULL);
    g_autofree char *text_path = g_build_filename(dir, "m.gguf", NULL);
    g_autofree char *vision_path = g_build_filename(dir, "mmproj-m.gguf", NULL);
    g_autoptr(random_vocab) vocab = random_vocab_new();
    random_model model;

    random_model_init(&model, "qwen3vl", "tiny");
    g_autoptr(gguf_writer) tw = random_model_text(&model);
    g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
    g_assert_true(gguf_writer_write(vw, vision_path, NULL));
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;

        if (i == 1) {
            const uint32_t id = random_vocab_id(vocab, "<|video_pad|>");
            g_array_index(vocab->types, int32_t, id) = VLM_TOKEN_USER_DEFINED;
            gguf_writer_remove(tw, "tokenizer.ggml.token_type");
            gguf_writer_i32_array(tw, "tokenizer.ggml.token_type",
                                  (const int32_t *) (const void *) vocab->types->data,
                                  vocab->types->len);
        }
        g_assert_true(gguf_writer_write(tw, text_path, NULL));
        vlm_model *opened = vlm_model_open(text_path, vision_path, &error);
        g_assert_true((opened != NULL) == (i == 0));
        if (i == 1)
            g_assert_true(g_str_has_suffix(error->message,
                                           ": the vocabulary has no special token <|video_pad|>"));
        vlm_model_free(opened);
    }
    g_remove(text_path);
    g_remove(vision_path);
    g_rmdir(dir);
}

// B75: rules that feed each other still end, since every merge makes a piece shorter.
static void test_cyclic_merges(void)
{
    static const char *const extra[] = { "a a", "aa a", "a aa", "aa aa", "aaa a", "a aaa" };
    static const char *const tokens[] = { "aa", "aaa", "aaaa" };
    g_autoptr(random_vocab) vocab = random_vocab_new();
    g_autoptr(gguf_writer) w = gguf_writer_new();
    g_autofree char *text = g_strnfill(10001, 'a');

    g_ptr_array_set_size(vocab->merges, 0);
    for (guint i = 0; i < G_N_ELEMENTS(tokens); i++) {
        g_free(g_ptr_array_index(vocab->tokens, 300 + i));
        g_ptr_array_index(vocab->tokens, 300 + i) = g_strdup(tokens[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(extra); i++)
        g_ptr_array_add(vocab->merges, g_strdup(extra[i]));
    random_vocab_add(vocab, w);
    g_autoptr(vlm_gguf) gguf = open_writer(w, "FILE");
    g_autoptr(vlm_tokenizer) tok = vlm_tokenizer_new(gguf, NULL);
    g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, text, -1, FALSE, NULL);
    g_assert_cmpuint(ids->len, ==, 2501);  // 2500 times "aaaa" and one "a"
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hparams/malformed", test_malformed);
    g_test_add_func("/hparams/sound", test_sound);
    g_test_add_func("/hparams/hybrid", test_hybrid);
    g_test_add_func("/hparams/llava", test_llava);
    g_test_add_func("/hparams/swapped", test_swapped);
    g_test_add_func("/hparams/qwen2", test_qwen2);
    g_test_add_func("/hparams/needs-specials", test_needs_specials);
    g_test_add_func("/hparams/template", test_template);
    g_test_add_func("/hparams/cyclic-merges", test_cyclic_merges);
    return g_test_run();
}
