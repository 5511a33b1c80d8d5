// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/attention_coopmat.c — see ops/attention_coopmat.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/attention_coopmat.h"

// What the shader declares as shared, in bytes.
static uint32_t shared_bytes(uint32_t head_dim, uint32_t rows)
{
    const uint32_t units = (head_dim + 15) / 16 * 4, cols = rows / 2;

    return rows * ((units + 2) * 8 + (cols + 4) * 4 + (cols / 4 + 2) * 8);
}

uint32_t vlm_attention_coopmat_rows(const vlm_device *dev, uint32_t head_dim, vlm_kernel_spec *spec)
{
    const vlm_coopmat_shape shape = dev->coopmat;
    const uint32_t lanes = dev->subgroup_size;

    if (!(dev->caps & VLM_CAP_COOPMAT) || head_dim % 4 != 0 || lanes % shape.m != 0
        || shape.n % 4 != 0 || shape.n % (lanes / shape.m) != 0)
        return 0;
    for (uint32_t groups = 4; groups >= 2; groups /= 2) {
        const uint32_t rows = groups * shape.m, cols = rows / 2;

        if (cols % shape.n != 0 || cols % shape.k != 0 || cols * shape.m / lanes % 4 != 0
            || groups * lanes > dev->max_local || shared_bytes(head_dim, rows) > VLM_COOPMAT_SHARED)
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
