// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/attention_coopmat.c — see ops/attention_coopmat.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/attention_coopmat.h"

static gboolean in_matrices(const vlm_device *dev)
{
    return (dev->caps & VLM_CAP_COOPMAT2) != 0;
}

// What the shader declares as shared, in bytes.
static uint32_t shared_bytes(const vlm_device *dev, uint32_t head_dim, uint32_t rows)
{
    const uint32_t units = (head_dim + 15) / 16 * 4, cols = rows / 2;
    const uint32_t scores = in_matrices(dev) ? 0 : (cols + 4) * 4 + (cols / 4 + 2) * 8;

    return rows * ((units + 2) * 8 + scores);
}

// Without VLM_CAP_COOPMAT2: lanes that share the slots of a row. As many as there are for it, or
// two, so that CPU drivers see rows that are shared.
static uint32_t parts_of_row(const vlm_device *dev, vlm_coopmat_shape shape)
{
    return MAX(dev->subgroup_size / shape.m, dev->tall_matrices ? 2 : 1);
}

static gboolean lanes_fit(const vlm_device *dev, vlm_coopmat_shape shape, uint32_t cols)
{
    const uint32_t lanes = dev->subgroup_size, parts = parts_of_row(dev, shape);

    return in_matrices(dev)
           || (shape.m * parts % lanes == 0 && lanes % parts == 0 && shape.n % 4 == 0
               && shape.n % parts == 0 && cols % (4 * parts) == 0);
}

// With VLM_CAP_COOPMAT2 matrices have as few rows as they can. Those of scores, whose rows are
// reduced, are one unit high, or one wide: Mesa 26.2 reduces others wrongly.
static vlm_coopmat_shape shape_of(const vlm_device *dev, uint32_t *score_n)
{
    const uint32_t rows = dev->tall_matrices ? VLM_COOPMAT2_UNIT : dev->coopmat2.m;

    *score_n = rows == dev->coopmat2.m ? VLM_COOPMAT2_UNIT : dev->coopmat2.n;
    return in_matrices(dev) ? (vlm_coopmat_shape){ rows, VLM_COOPMAT2_UNIT, VLM_COOPMAT2_UNIT }
                            : dev->coopmat;
}

static uint32_t find_shape(const vlm_device *dev, uint32_t head_dim, vlm_kernel_spec *spec)
{
    uint32_t score_n;
    const vlm_coopmat_shape shape = shape_of(dev, &score_n);
    const uint32_t lanes = dev->subgroup_size;

    if (!(dev->caps & VLM_CAP_COOPMAT) || head_dim % 4 != 0)
        return 0;
    // (CPU drivers compile what is for half as many slots in less than half the time.)
    for (uint32_t groups = dev->tall_matrices ? 2 : 4; groups >= 2; groups /= 2) {
        const uint32_t rows = groups * shape.m, cols = rows / 2;

        if (cols % shape.n != 0 || cols % shape.k != 0 || !lanes_fit(dev, shape, cols)
            || groups * lanes > dev->max_local
            || shared_bytes(dev, head_dim, rows) > VLM_COOPMAT_SHARED)
            continue;
        *spec = (vlm_kernel_spec){
            .local = { groups * lanes },
            .own = { lanes, head_dim, groups, shape.m, shape.n, shape.k, score_n,
                     parts_of_row(dev, shape) },
            .n_own = 8,
        };
        return rows;
    }
    return 0;
}

uint32_t vlm_attention_coopmat_paged(const vlm_device *dev, uint32_t head_dim, vlm_kv_type type,
                                     vlm_kernel_id *kernel, vlm_kernel_spec *spec)
{
    static const vlm_kernel_id kernels[VLM_N_KV_TYPE][2] = {
        [VLM_KV_F16] = { VLM_K_attention_coopmat, VLM_K_attention_coopmat2 },
        [VLM_KV_Q8] = { VLM_K_attention_coopmat_q8, VLM_K_attention_coopmat2_q8 },
        [VLM_KV_Q4] = { VLM_K_attention_coopmat_q4, VLM_K_attention_coopmat2_q4 },
    };

    *kernel = kernels[type][in_matrices(dev)];
    return find_shape(dev, head_dim, spec);
}

uint32_t vlm_attention_coopmat_full(const vlm_device *dev, uint32_t head_dim, vlm_kernel_id *kernel,
                                    vlm_kernel_spec *spec)
{
    *kernel = in_matrices(dev) ? VLM_K_attention_full_coopmat2 : VLM_K_attention_full_coopmat;
    return find_shape(dev, head_dim, spec);
}
