// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/delta_net.h — layers that keep a state of fixed size instead of keys and values: a short
// causal convolution and the gated delta rule.
#ifndef VLM_OPS_DELTA_NET_H
#define VLM_OPS_DELTA_NET_H

#include "ops/tensor.h"

// One sequence of a batch: rows tok0 ... tok0 + n_tok - 1 are its next tokens, `state` is the
// device address of what it remembers; every layer has its own place there, `offset` bytes on.
typedef struct vlm_state_rows {
    uint64_t state;
    uint32_t tok0;
    uint32_t n_tok;
} vlm_state_rows;

// Inputs that a convolution looks back at: it has one weight more.
#define VLM_CONV_MEMORY 3u

// Causal convolution along the tokens of each sequence, every channel by itself, then SiLU.
//
//   y[t, c]   = sum over j of weight[c, j] * x[t - 3 + j, c]    x before the first row: the state
//   dst[t, c] = y[t, c] / (1 + exp(-y[t, c]))
//
//   dst     out     f32 [tok, channel]
//   src     in      f32 [tok, channel]       in place allowed with equal strides
//   weight  in      f32 [channel, 4]         device address; weight 3 belongs to the token itself
//   seqs    in      vlm_state_rows [n_seq]   device address; rows of all sequences are distinct
//   state   in/out  f32 [3, channel]         at `offset`; the last three inputs, oldest first
//
// Must: tok <= 65535, n_seq <= 65535, offset a multiple of 4.
// Cost: one dispatch, one subgroup per span of channels and sequence, walking along the tokens.
// Shader: shaders/causal_conv.comp    Reference: ref_causal_conv
gboolean vlm_op_causal_conv(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t weight, uint64_t seqs, uint32_t n_seq, uint64_t offset,
                            GError **error);

// Shape of a layer of the gated delta rule.
typedef struct vlm_delta_shape {
    uint32_t n_k_head;  // heads of queries and keys
    uint32_t
        n_v_head;  // of values, a multiple of n_k_head; value head h reads key head h % n_k_head
    uint32_t head_dim;  // D, of all of them; a multiple of 4 up to 256
} vlm_delta_shape;

// The gated delta rule (Yang et al. 2024, arXiv 2412.06464): for each value head and token, in the
// order of the tokens, with S the head's state,
//
//   q = q / sqrt(|q|^2 + 1e-6) / sqrt(D),  k = k / sqrt(|k|^2 + 1e-6)
//   S = S * exp(a * softplus(alpha + dt_bias))
//   S = S + k (v - k S) * sigmoid(beta)
//   dst = q S
//
//   dst          out     f32 [tok, n_v_head * D]
//   qkv          in      f32 [tok, (2 n_k_head + n_v_head) * D]: queries, keys, values
//   alpha, beta  in      f32 [tok, n_v_head]
//   dt_bias, a   in      f32 [n_v_head]           device addresses; a is negative
//   seqs         in      vlm_state_rows [n_seq]   device address; their rows are distinct
//   S            in/out  f32 [n_v_head, D (of keys), D (of values)]   at `offset` of each state
//
// n tokens at once give what n calls with one token each give, to the bit.
// Must: tok <= 65535, n_seq <= 65535, offset a multiple of 4.
// Cost: one dispatch, one subgroup per sequence, value head and as many columns of S as it has
// lanes, which stay in registers while it walks along the tokens.
// Shader: shaders/delta_rule.comp    Reference: ref_delta_rule
gboolean vlm_op_delta_rule(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *qkv,
                           const vlm_tensor *alpha, const vlm_tensor *beta, uint64_t dt_bias,
                           uint64_t a, const vlm_delta_shape *shape, uint64_t seqs, uint32_t n_seq,
                           uint64_t offset, GError **error);

// Bytes of the states of both for one layer.
static inline uint64_t vlm_conv_state_bytes(uint32_t n_channel)
{
    return (uint64_t) VLM_CONV_MEMORY * n_channel * 4;
}

static inline uint64_t vlm_delta_state_bytes(const vlm_delta_shape *shape)
{
    return (uint64_t) shape->n_v_head * shape->head_dim * shape->head_dim * 4;
}

#endif
