// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mmproj_hparams.h — hyper-parameters of a vision tower, read from its mmproj file and
// checked. Thread-safety: plain data.
#ifndef VLM_MODEL_MMPROJ_HPARAMS_H
#define VLM_MODEL_MMPROJ_HPARAMS_H

#include "model/hparams.h"
#include "ops/matmul.h"

typedef struct vlm_vision_hparams {
    const char *projector;  // the name of the kind of tower, static
    uint32_t patch;         // pixels per side of a patch, 4..64
    uint32_t merge;         // patches per side that become one token, 1..8
    uint32_t temporal;      // frames per patch, 1 or 2
    uint32_t n_layer;       // 1..512
    uint32_t n_embd;        // width of the tower, a multiple of n_head
    uint32_t n_ff;          // width of its feed-forward network
    uint32_t n_head;
    uint32_t head_dim;      // n_embd / n_head, a multiple of 4 up to 256
    float eps;              // of the layer norms, in (0, 0.1]
    float mean[3], std[3];  // per colour, on a scale of 0..1; std > 0
    uint32_t pos_side;      // the position table has pos_side x pos_side entries; 0 = there is none
    uint32_t projection_dim;  // width of the rows handed to the decoder
    uint32_t n_deepstack;     // tower layers that feed the decoder besides the last one
    uint32_t deepstack_layers[VLM_MAX_DEEPSTACK];  // ascending
    gboolean rotary;                               // rows and columns turn queries and keys
    gboolean separate_qkv;                         // three matrices, not one
    gboolean swapped_ffn;                          // ffn_up and ffn_down have each other's names
    gboolean rms_norms;    // norms that only scale (RMSNorm), else layer norms
    gboolean class_token;  // a row of its own before the patches', not handed to the decoder
    gboolean norm_first;   // the norm outside the layers is before the first, not behind the last
    gboolean patch_bias;   // the patch convolution has a bias
    gboolean gated_ffn;    // act(gate x) * up x, not act(up x)
    vlm_act act;           // of the feed-forward network
    // Attention stays within windows of window x window patches (a multiple of merge; 0: none) but
    // in every full_every-th layer.
    uint32_t window, full_every;
    uint32_t image_size;    // side of a picture, for towers of a fixed size, else 0
    uint32_t longest_edge;  // of a still that will be cut into such pictures
    uint32_t image_min_pixels, image_max_pixels;  // limits of the resize of a still image
} vlm_vision_hparams;

// A kind of tower that model/vit.h runs: what it is besides what its file says. Families have one
// for each of their projectors (vlm_family.towers).
typedef struct vlm_vision_tower {
    vlm_vision_hparams defaults;  // with the projector's name
    // Reads what the kind has of its own: sizes of pictures, merge and the like; number and width
    // of layers and the patch are there. Errors: FORMAT.
    gboolean (*read)(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error);
    gboolean gelu_is_erf;        // quick GELU, but the erf form with clip.use_gelu
    gboolean scale_factor;       // clip.vision.projector.scale_factor is its to read, else 1
    gboolean may_swap_ffn;       // old files have swapped_ffn
    gboolean ffn_by_tensors;     // the key of the perceptron's width can't be trusted
    gboolean one_matrix;         // the projector: mm.model.fc, else mm.0 and mm.2
    gboolean projector_of_rows;  // mm.0 makes rows as wide as the decoder, not as merged patches,
                                 // and the tensors say how wide
} vlm_vision_tower;

// The kind of tower of an mmproj file; the string lives as long as the file.
gboolean vlm_vision_projector(const vlm_gguf *gguf, const char **projector, GError **error);

// FALSE with FORMAT, naming the file, the key and what is wrong with it. Also checks the presence,
// shape and type of every tensor of the tower, and that there is none besides.
gboolean vlm_vision_hparams_read(const vlm_gguf *gguf, vlm_vision_hparams *out, GError **error);

// For towers: the limits of a still from the file, else what `h` has.
gboolean vlm_vision_read_pixel_limits(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error);

// FORMAT, naming both files and both numbers, when the tower does not fit the decoder.
gboolean vlm_hparams_check_pair(const vlm_gguf *text_gguf, const vlm_text_hparams *text,
                                const vlm_gguf *vision_gguf, const vlm_vision_hparams *vision,
                                GError **error);

#endif
