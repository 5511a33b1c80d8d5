// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/rope.c — rotary positions, with the head norms before and the KV cache after them.
#define G_LOG_DOMAIN "vlm-ops"
#include <math.h>

#include "args.h"
#include "base/error.h"
#include "ops/ops.h"

#define MAX_GROUPS 65535u

G_STATIC_ASSERT(sizeof(vlm_rope_pair) == 24);  // rope.glsl reads it as three u64

// 2^64 * base^(-exponent) / (2 pi), rounded. At most 2^64 / (2 pi), so it fits.
static uint64_t turn_of(double base, double exponent)
{
    const long double two_pi = 6.283185307179586476925286766559005768L;

    return (uint64_t) (ldexpl(powl((long double) base, -(long double) exponent) / two_pi, 64)
                       + 0.5L);
}

void vlm_rope_pairs_imrope(vlm_rope_pair *pairs, uint32_t head_dim, uint32_t rope_dim, double theta,
                           const uint32_t sections[4])
{
    const uint32_t n = rope_dim / 2;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t axis = 0;

        if (i % 3 == 1 && i < 3 * (uint64_t) sections[1])
            axis = 1;
        else if (i % 3 == 2 && i < 3 * (uint64_t) sections[2])
            axis = 2;
        pairs[i] = (vlm_rope_pair){
            .turn = turn_of(theta, 2.0 * i / rope_dim),
            .axis = axis,
            .first = i,
            .second = i + n,
        };
    }
    for (uint32_t i = n; i < head_dim / 2; i++)
        pairs[i] = (vlm_rope_pair){ .first = 2 * i, .second = 2 * i + 1 };
}

void vlm_rope_pairs_mrope(vlm_rope_pair *pairs, uint32_t head_dim, double theta,
                          const uint32_t sections[4])
{
    const uint32_t n = head_dim / 2;

    for (uint32_t i = 0; i < n; i++)
        pairs[i] = (vlm_rope_pair){
            .turn = turn_of(theta, 2.0 * i / head_dim),
            .axis = i < sections[0]                 ? 0
                    : i - sections[0] < sections[1] ? 1
                                                    : 2,
            .first = i,
            .second = i + n,
        };
}

void vlm_rope_pairs_adjacent(vlm_rope_pair *pairs, uint32_t head_dim, double theta)
{
    for (uint32_t i = 0; i < head_dim / 2; i++)
        pairs[i] = (vlm_rope_pair){
            .turn = turn_of(theta, 2.0 * i / head_dim),
            .first = 2 * i,
            .second = 2 * i + 1,
        };
}

void vlm_rope_pairs_vision(vlm_rope_pair *pairs, uint32_t head_dim)
{
    const uint32_t n = head_dim / 2, quarter = head_dim / 4;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t j = i < quarter ? i : i - quarter;

        pairs[i] = (vlm_rope_pair){
            .turn = turn_of(10000.0, 2.0 * j / n),
            .axis = i < quarter ? 1 : 2,
            .first = i,
            .second = i + n,
        };
    }
}

gboolean vlm_op_rope_append(vlm_cmd *cmd, const vlm_tensor *q, const vlm_tensor *k,
                            const vlm_tensor *v, uint64_t q_norm, uint64_t k_norm, float eps,
                            uint64_t positions, uint64_t pairs, uint64_t slots,
                            const vlm_kv_layout *kv, uint32_t layer, uint32_t n_head,
                            GError **error)
{
    VLM_REQUIRE(vlm_tensor_ok(q) && vlm_tensor_ok(k) && vlm_tensor_ok(v), error);
    VLM_REQUIRE(vlm_kv_layout_ok(kv) && layer < kv->n_layer, error);
    VLM_REQUIRE(n_head >= 1 && (uint64_t) n_head + kv->n_kv_head <= MAX_GROUPS, error);
    VLM_REQUIRE(q->n_row == k->n_row && q->n_row == v->n_row && q->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(q->n_col == (uint64_t) n_head * kv->head_dim, error);
    VLM_REQUIRE(k->n_col == (uint64_t) kv->n_kv_head * kv->head_dim, error);
    VLM_REQUIRE(v->n_col == k->n_col, error);
    VLM_REQUIRE(eps >= 0 && positions != 0 && pairs != 0 && slots != 0, error);

    static const vlm_kernel_id kernels[VLM_N_KV_TYPE] = { VLM_K_rope_append, VLM_K_rope_append,
                                                          VLM_K_rope_append_q8,
                                                          VLM_K_rope_append_q4 };
    const uint64_t to_layer = 2 * vlm_kv_half_bytes(kv) * layer;
    struct vlm_args_rope_append args = {
        .q = q->addr,
        .k = k->addr,
        .v = v->addr,
        .q_norm = q_norm ? q_norm : q->addr,  // an unused address is still one that can be read
        .k_norm = k_norm ? k_norm : q->addr,
        .positions = positions,
        .pairs = pairs,
        .slots = slots,
        .n_head = n_head,
        .head_dim = kv->head_dim,
        .q_stride = q->row_stride,
        .k_stride = k->row_stride,
        .v_stride = v->row_stride,
        .page_slots = VLM_PAGE_TOKENS,
        .layer_low = (uint32_t) to_layer,
        .layer_high = (uint32_t) (to_layer >> 32),
        .half_bytes = (uint32_t) vlm_kv_half_bytes(kv),
        .norms = (q_norm ? 1 : 0) | (k_norm ? 2 : 0),
        .eps = eps,
        .f32_pages = kv->type == VLM_KV_F32,
    };
    vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, kernels[kv->type], &spec, &args, sizeof args,
                            (uint32_t[3]){ n_head + kv->n_kv_head, q->n_row, 1 }, error);
}

gboolean vlm_op_rope_vision(vlm_cmd *cmd, const vlm_tensor *qkv, uint64_t positions, uint64_t pairs,
                            uint32_t n_head, uint32_t head_dim, GError **error)
{
    VLM_REQUIRE(vlm_tensor_ok(qkv) && qkv->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(n_head >= 1 && n_head <= 4096, error);
    VLM_REQUIRE(head_dim >= 4 && head_dim <= 256 && head_dim % 4 == 0, error);
    VLM_REQUIRE(qkv->n_col == 3 * n_head * head_dim, error);
    VLM_REQUIRE(positions != 0 && pairs != 0, error);

    struct vlm_args_rope_vision args = {
        .qkv = qkv->addr,
        .positions = positions,
        .pairs = pairs,
        .head_dim = head_dim,
        .stride = qkv->row_stride,
    };
    vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_rope_vision, &spec, &args, sizeof args,
                            (uint32_t[3]){ 2 * n_head, qkv->n_row, 1 }, error);
}
