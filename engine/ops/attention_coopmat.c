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

// Without VLM_CAP_COOPMAT2 whole numbers of lanes have the rows of a matrix, and each as many of
// its slots.
static gboolean lanes_fit(const vlm_device *dev, vlm_coopmat_shape shape, uint32_t cols)
{
    const uint32_t lanes = dev->subgroup_size;

    return in_matrices(dev)
           || (lanes % shape.m == 0 && shape.n % 4 == 0 && shape.n % (lanes / shape.m) == 0
               && cols * shape.m / lanes % 4 == 0);
}

static uint32_t find_shape(const vlm_device *dev, uint32_t head_dim, vlm_kernel_spec *spec)
{
    // As few rows as matrices can have: Mesa 26.2 reduces the rows of higher ones wrongly.
    const vlm_coopmat_shape units = { dev->coopmat2_rows, VLM_COOPMAT2_UNIT, VLM_COOPMAT2_UNIT };
    const vlm_coopmat_shape shape = in_matrices(dev) ? units : dev->coopmat;
    const uint32_t lanes = dev->subgroup_size;

    if (!(dev->caps & VLM_CAP_COOPMAT) || head_dim % 4 != 0)
        return 0;
    for (uint32_t groups = 4; groups >= 2; groups /= 2) {
        const uint32_t rows = groups * shape.m, cols = rows / 2;

        if (cols % shape.n != 0 || cols % shape.k != 0 || !lanes_fit(dev, shape, cols)
            || groups * lanes > dev->max_local
            || shared_bytes(dev, head_dim, rows) > VLM_COOPMAT_SHARED)
            continue;
        *spec = (vlm_kernel_spec){
            .local = { groups * lanes },
            .own = { lanes, head_dim, groups, shape.m, shape.n, shape.k },
            .n_own = 6,
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
